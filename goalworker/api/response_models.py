"""Models of answers for OpenAPI. The stores make the answers; tests hold them to these models.

A field with a default factory may be absent from an answer; it is never null.
"""

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from goalworker.api import goal_models
from goalworker.api.validation import closed
from goalworker.domain import events, goals
from goalworker.stores import audit

EXAMPLE_GOAL_ID: Final = goal_models.EXAMPLE_GOAL_ID
EXAMPLE_JOB_ID: Final = "c0a1e1f2-5b6d-4c3e-9f7a-2f6b8d1e4a90"
_EVENT_ID: Final = "evt_8231"
_ACHIEVEMENT_ID: Final = "0d9a1f43-6c7e-5a52-8f0b-6f3ef3b3a5d1"
FRESH_AS_OF: Final = (
    "Every record that reached Kafka before this time has been judged; null if no worker has ever judged all partitions"
)
_EXAMPLE_REVENUE: Final[dict[str, JsonValue]] = {
    "EUR": {"gross": "3999.00", "reversed": "129.00", "net": "3870.00"},
}

GoalType = Literal[events.GOAL_TYPES]  # type: ignore[valid-type]
Logic = Literal[goals.LOGICS]  # type: ignore[valid-type]


def example(**fields: JsonValue) -> ConfigDict:
    """Return the configuration of a model with an example for OpenAPI."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class Goals(BaseModel):
    """A page of a workflow's goals, in the order of their creation."""

    goals: list[goal_models.Goal]  # type: ignore[valid-type]
    total: int = Field(description="Number of all goals")
    offset: int
    limit: int


class Verdict(BaseModel):
    """Result of a check: a workflow may be activated with these goals if they are valid."""

    model_config = example(
        valid=False,
        errors=[{"index": 0, "pointer": "/criteria/form_id", "detail": "Referenced form does not exist"}],
        warnings=[],
    )

    valid: bool
    errors: list[goal_models.GoalFault]
    warnings: list[goal_models.GoalFault] = Field(description="What is allowed and seldom meant")


class GoalSettings(BaseModel):
    """Settings of a workflow: it is done at any goal, at all goals, or never, which only measures."""

    model_config = closed({"logic": "any"})

    logic: Logic


class AuditedBackfill(BaseModel):
    """Moment from which a goal counts since a backfill, and whether exits were sent."""

    since: datetime = Field(alias="from")
    exits: bool


class AuditEntry(BaseModel):
    """One change of a goal; `before` is null for its creation and a backfill, `after` for its deletion."""

    at: datetime
    actor: str
    action: Literal["created", "updated", "deleted", "backfilled"]
    version: int
    before: goal_models.GoalState | None  # type: ignore[valid-type]
    after: goal_models.GoalState | AuditedBackfill | None  # type: ignore[valid-type]


class Audit(BaseModel):
    """Every change of a goal, oldest first."""

    model_config = example(
        entries=[
            {
                "at": "2026-05-01T12:00:00.000001Z",
                "actor": "ann",
                "action": "created",
                "version": 1,
                "before": None,
                "after": {"goal_type": "tag_added", "criteria": {"tag_id": "t1"}, "name": None, "is_active": True},
            }
        ]
    )

    entries: list[AuditEntry]


class AuditAct(BaseModel):
    """One act: a change of a goal or a logic, or a question about a contact or the past."""

    at: datetime
    actor: str
    action: Literal[audit.ACTIONS]  # type: ignore[valid-type]
    workflow_id: str
    goal_id: UUID | None
    contact_id: str | None = Field(description="Of an explanation; otherwise null")
    version: int | None
    before: dict[str, Any] | None = Field(description="Only of a change: the state before it, null for a creation")
    after: dict[str, Any] | None = Field(description="The state after a change, or the request of a plan")


class AuditPage(BaseModel):
    """A page of the audit, oldest first; `next_cursor` requests the next page and is null on the last one."""

    model_config = example(
        entries=[
            {
                "at": "2026-06-01T08:00:00Z",
                "actor": "ann",
                "action": "explained",
                "workflow_id": "onboarding",
                "goal_id": None,
                "contact_id": "c-17",
                "version": None,
                "before": None,
                "after": None,
            }
        ],
        next_cursor=None,
    )

    entries: list[AuditAct]
    next_cursor: str | None


class TriggerEvent(BaseModel):
    """The event that achieved a goal."""

    id: str
    source: str
    type: str
    time: datetime
    data: dict[str, Any]


class Achievement(BaseModel):
    """A goal met while an enrollment was open: the `data` of `workflow.goal.achieved`."""

    model_config = example(
        achievement_id=_ACHIEVEMENT_ID,
        revision=1,
        workflow_id="onboarding",
        enrollment_id="enr_17",
        contact_id="contact_42",
        goal_id=EXAMPLE_GOAL_ID,
        goal_version=1,
        goal_type="purchase_made",
        enrolled_at="2026-05-01T12:00:00Z",
        achieved_at="2026-05-03T09:30:00Z",
        trigger_event={
            "id": _EVENT_ID,
            "source": "/shop",
            "type": "payment.completed",
            "time": "2026-05-03T09:30:00Z",
            "data": {"contact_id": "contact_42", "payment_id": "pay_1", "amount": "129.00", "currency": "EUR"},
        },
    )

    achievement_id: UUID
    revision: int
    workflow_id: str
    enrollment_id: str
    contact_id: str
    goal_id: UUID
    goal_version: int
    goal_type: GoalType
    enrolled_at: datetime | None
    achieved_at: datetime
    trigger_event: TriggerEvent
    occurrences: int = Field(
        default_factory=int, description="Occurrences that counted; only of goals with `times` or `total_amount`"
    )
    total_amount: str | None = Field(
        default_factory=str, description="Sum of these occurrences; null where the goal has no `total_amount`"
    )
    evidence_complete: bool = Field(
        default_factory=bool, description="false if the contact had more hits of the goal than are kept"
    )


class Achievements(BaseModel):
    """A page of a workflow's achievements; `next_cursor` requests the next page and is null on the last one."""

    achievements: list[Achievement]
    next_cursor: str | None


class Stage(BaseModel):
    """A stage of a pipeline."""

    pipeline_id: str
    stage_id: str


class SeenValue(BaseModel):
    """A value that events had in a field: how often within 90 days, and when first and last."""

    model_config = example(
        value="frm-12",
        label=None,
        count=412,
        first_seen="2026-04-02T08:11:00Z",
        last_seen="2026-05-01T11:58:21Z",
    )

    value: str | Stage = Field(description="An object only of the field `stage`")
    label: str | None = Field(description="Latest name of a tag; null of other values")
    count: int
    first_seen: datetime
    last_seen: datetime


class OfGoalType(BaseModel):
    """Achievements and conversion of the goals of one type."""

    achieved: int
    conversion_rate: float | None


class Revenue(BaseModel):
    """Revenue in one currency: exact amounts, as strings without trailing zeros beyond two decimals."""

    gross: str = Field(description="Amounts of the distinct payments, reversed ones too")
    reversed: str = Field(description="What was refunded or failed of them")
    net: str = Field(description="gross - reversed")


class OfGoal(BaseModel):
    """Achievements, conversion and revenue of one goal."""

    goal_id: UUID
    goal_type: GoalType
    name: str | None
    achieved: int
    conversion_rate: float | None
    revenue: dict[str, Revenue] = Field(description="By currency; each payment once")


class Stats(BaseModel):
    """Statistics of a workflow for the enrollments that began in a span of time."""

    model_config = example(
        **{"from": "2026-05-01T00:00:00Z"},
        to=None,
        workflow_id="onboarding",
        total_enrolled=120,
        goals_achieved=31,
        enrollments_converted=30,
        conversion_rate=25.0,
        avg_time_to_goal_hours=30.25,
        median_time_to_goal_hours=26.5,
        p90_time_to_goal_hours=70.0,
        avg_time_to_goal_seconds=108900.0,
        median_time_to_goal_seconds=95400.0,
        p90_time_to_goal_seconds=252000.0,
        exits_sent=30,
        by_goal_type={"purchase_made": {"achieved": 31, "conversion_rate": 25.8}},
        by_goal=[
            {
                "goal_id": EXAMPLE_GOAL_ID,
                "goal_type": "purchase_made",
                "name": "First real purchase",
                "achieved": 31,
                "conversion_rate": 25.8,
                "revenue": _EXAMPLE_REVENUE,
            }
        ],
        revenue=_EXAMPLE_REVENUE,
    )

    workflow_id: str
    since: datetime | None = Field(alias="from")
    until: datetime | None = Field(alias="to")
    total_enrolled: int | None = Field(description="null if enrollments are not tracked")
    goals_achieved: int
    enrollments_converted: int
    conversion_rate: float | None = Field(description="Percentage of the enrolled, one decimal")
    avg_time_to_goal_hours: float | None
    median_time_to_goal_hours: float | None
    p90_time_to_goal_hours: float | None
    avg_time_to_goal_seconds: float | None
    median_time_to_goal_seconds: float | None
    p90_time_to_goal_seconds: float | None
    exits_sent: int
    by_goal_type: dict[str, OfGoalType] = Field(description="By goal type")
    by_goal: list[OfGoal]
    revenue: dict[str, Revenue] = Field(
        description="By currency; each payment once, however many goals and enrollments it met"
    )


class Exit(BaseModel):
    """The one command that tells the engine to stop: the `data` of `workflow.exit.goal`."""

    exit_id: UUID
    workflow_id: str
    enrollment_id: str
    contact_id: str
    exit_reason: Literal["goal_achieved"]
    logic: Logic
    goal_id: UUID
    goal_type: GoalType
    achievement_ids: list[UUID]
    achieved_at: datetime


class Enrollment(BaseModel):
    """One enrollment of a contact in a workflow."""

    model_config = example(
        status="active",
        workflow_id="onboarding",
        contact_id="contact_42",
        enrolled_at="2026-05-01T12:00:00Z",
        ended_at=None,
        achievements=[],
        exit=None,
        fresh_as_of="2026-05-01T12:30:00Z",
    )

    status: Literal["active", "completed_goal", "ended"]
    workflow_id: str
    contact_id: str
    enrolled_at: datetime | None
    ended_at: datetime | None
    achievements: list[Achievement]
    exit: Exit | None
    fresh_as_of: datetime | None = Field(description=FRESH_AS_OF)


class Accepted(BaseModel):
    """Number of enrollments imported."""

    model_config = example(accepted=1)

    accepted: int


class Fault(BaseModel):
    """One fault; `pointer` is a JSON pointer into the body, or a name such as `?limit`."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """A problem (RFC 9457)."""

    model_config = example(
        type="urn:goalworker:problem:invalid-request",
        title="Invalid request",
        status=400,
        detail="Goal criteria cannot be empty",
        errors=[{"pointer": "/criteria", "detail": "Goal criteria cannot be empty"}],
    )

    type: str = Field(pattern="^urn:goalworker:problem:[a-z-]+$")
    title: str
    status: int
    detail: str
    errors: list[Fault] = Field(default_factory=list, description="Every invalid field, if fields are invalid")
    fresh_as_of: datetime | None = Field(None, description=f"Only in the 404 of an enrollment. {FRESH_AS_OF}")
