"""Models of reports for OpenAPI. The stores make the answers; tests hold them to these models."""

from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from goalworker.api.response_models import FRESH_AS_OF, Logic, example

_BY_CURRENCY: Final = "by currency: exact amounts, as strings without trailing zeros beyond two decimals"


class Workflow(BaseModel):
    """A workflow that a goal, a logic or a message has named, with numbers as in its statistics."""

    workflow_id: str
    is_active: bool
    logic: Logic
    goals: int = Field(description="Goals that are not deleted")
    total_enrolled: int | None = Field(description="null if enrollments are not tracked")
    enrollments_converted: int
    conversion_rate: float | None = Field(description="Percentage of the enrolled, one decimal")
    exits_sent: int


class Workflows(BaseModel):
    """A page of workflows by id; `next_cursor` requests the next page and is null on the last one."""

    model_config = example(
        workflows=[
            {
                "workflow_id": "onboarding",
                "is_active": True,
                "logic": "any",
                "goals": 2,
                "total_enrolled": 120,
                "enrollments_converted": 30,
                "conversion_rate": 25.0,
                "exits_sent": 30,
            }
        ],
        next_cursor=None,
        fresh_as_of="2026-05-01T12:30:00Z",
    )

    workflows: list[Workflow]
    next_cursor: str | None
    fresh_as_of: datetime | None = Field(description=FRESH_AS_OF)


_COHORT: Final[dict[str, JsonValue]] = {
    "from": "2026-05-04T00:00:00Z",
    "to": "2026-05-11T00:00:00Z",
    "enrolled": 120,
    "matured": 120,
    "converted": 33,
    "converted_in_time": 30,
    "rate": 25.0,
    "low": 18.1,
    "high": 33.4,
    "gross": {"EUR": "3999.00"},
    "net": {"EUR": "3870.00"},
}


class Cohort(BaseModel):
    """The enrollments that began in one period."""

    model_config = ConfigDict(json_schema_extra={"examples": [_COHORT]})

    since: datetime = Field(alias="from", description="Start of the period or, if later, of the span")
    until: datetime = Field(alias="to", description="End, exclusive, of the period or, if earlier, of the span")
    enrolled: int | None = Field(description="null if enrollments are not tracked")
    matured: int | None = Field(description="Enrollments that have had the horizon to convert")
    converted: int = Field(description="Enrollments that have converted until now")
    converted_in_time: int | None = Field(description="Enrollments that converted within the horizon")
    rate: float | None = Field(
        description="Percentage that converted within the horizon, one decimal; null unless all have matured"
    )
    low: float | None = Field(description="Lower end of Wilson's 95 % interval of the rate")
    high: float | None = Field(description="Upper end of Wilson's 95 % interval of the rate")
    gross: dict[str, str] = Field(description=f"Payments, reversed ones too, {_BY_CURRENCY}")
    net: dict[str, str] = Field(description=f"Payments less refunds and failures, {_BY_CURRENCY}")


class Quantile(BaseModel):
    """A time within which this share of the converted enrollments converted; null if none did."""

    quantile: float
    hours: float | None
    seconds: float | None


class Bin(BaseModel):
    """Conversions that took more than `from_seconds` and at most `to_seconds`."""

    from_seconds: int
    to_seconds: int | None = Field(description="null: no end")
    converted: int


class Incidence(BaseModel):
    """Percentages of enrollments that converted, or ended without a goal, within a time, two decimals."""

    seconds: int
    at_risk: int = Field(description="Enrollments that had neither converted nor ended before and were still observed")
    converted: float
    ended: float


class TimesToGoal(BaseModel):
    """Times to goal of the enrollments that began in a span of time; null numbers if enrollments are not tracked."""

    model_config = example(
        **{"from": "2026-05-01T00:00:00Z"},
        to=None,
        workflow_id="onboarding",
        total_enrolled=120,
        enrollments_converted=30,
        enrollments_ended=60,
        enrollments_open=30,
        quantiles=[{"quantile": 0.5, "hours": 26.5, "seconds": 95400.0}],
        histogram=[{"from_seconds": 86400, "to_seconds": 172800, "converted": 12}],
        cumulative_incidence=[{"seconds": 95400, "at_risk": 88, "converted": 14.26, "ended": 11.5}],
    )

    workflow_id: str
    since: datetime | None = Field(alias="from")
    until: datetime | None = Field(alias="to")
    total_enrolled: int | None
    enrollments_converted: int | None
    enrollments_ended: int | None = Field(description="Enrollments that ended without converting")
    enrollments_open: int | None = Field(description="Enrollments that have neither converted nor ended")
    quantiles: list[Quantile] = Field(description="Of the times of the enrollments that converted")
    histogram: list[Bin]
    cumulative_incidence: list[Incidence] = Field(
        description="Points of a step function: where it rises by half a percentage point, and the last one"
    )
