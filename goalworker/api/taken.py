"""What the API takes, as OpenAPI shows it; what is wrong with a body is said by the stores, every fault at once."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from goalworker import events

ENROLLMENTS_MAX: Final = 1_000
GOALS_MAX: Final = 1_000

TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]+$"
Text = Annotated[str, Field(min_length=1, max_length=events.TEXT_BYTES_MAX, pattern=TEXT_PATTERN)]
Amount = (
    Annotated[float, Field(ge=0, le=float(events.AMOUNT_MAX))]
    | Annotated[str, Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,18})?$")]
)


def _schema(example: JsonDict, **more: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example], **more})


def _some(*fields: str) -> dict[str, Any]:
    """Return the schema of an object in which at least one of the fields is more than null."""
    return {"anyOf": [{"required": [field], "properties": {field: {"not": {"type": "null"}}}} for field in fields]}


def _some_or_any(any_field: str, *fields: str) -> dict[str, Any]:
    """Return the schema of an object with some of the fields, or with any_field alone."""
    some = {**_some(*fields), "properties": {any_field: {"enum": [False, None]}}}
    nulls = {field: {"type": "null"} for field in fields}
    return {"oneOf": [some, {"required": [any_field], "properties": {any_field: {"const": True}, **nulls}}]}


class TagCriteria(BaseModel):
    """By id where both sides have one, otherwise by name, whatever its case and width."""

    model_config = _schema({"tag_id": "customer"}, **_some("tag_id", "tag_name"))

    tag_id: Text | None = None
    tag_name: Text | None = None


class PurchaseCriteria(BaseModel):
    """All given fields must match; `any_purchase` stands alone."""

    model_config = _schema(
        {"min_amount": "100.00", "currency": "EUR"},
        **_some_or_any("any_purchase", "product_id", "min_amount", "currency"),
    )

    product_id: Text | None = None
    min_amount: Amount | None = Field(None, description="Inclusive; at most 18 decimals, kept exactly")
    currency: Annotated[str, Field(pattern="^[A-Za-z]{3}$")] | None = None
    any_purchase: bool | None = None


class AppointmentCriteria(BaseModel):
    """All given fields must match; `any_appointment` stands alone."""

    model_config = _schema({"calendar_id": "sales"}, **_some_or_any("any_appointment", "calendar_id", "service_id"))

    calendar_id: Text | None = None
    service_id: Text | None = None
    any_appointment: bool | None = None


class FormCriteria(BaseModel):
    """The form that is submitted."""

    model_config = _schema({"form_id": "signup"})

    form_id: Text


class StageCriteria(BaseModel):
    """The stage of a pipeline that is reached."""

    model_config = _schema({"pipeline_id": "sales", "stage_id": "won"})

    pipeline_id: Text
    stage_id: Text


Criteria = TagCriteria | PurchaseCriteria | AppointmentCriteria | FormCriteria | StageCriteria


class _Draft(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text | None = Field(None, description="What people call it")


class TagGoal(_Draft):
    """A contact is tagged."""

    goal_type: Literal["tag_added"]
    criteria: TagCriteria


class PurchaseGoal(_Draft):
    """A contact pays."""

    goal_type: Literal["purchase_made"]
    criteria: PurchaseCriteria


class AppointmentGoal(_Draft):
    """A contact books an appointment."""

    goal_type: Literal["appointment_booked"]
    criteria: AppointmentCriteria


class FormGoal(_Draft):
    """A contact submits a form."""

    goal_type: Literal["form_submitted"]
    criteria: FormCriteria


class StageGoal(_Draft):
    """A contact reaches a stage of a pipeline."""

    goal_type: Literal["pipeline_stage_reached"]
    criteria: StageCriteria


GoalDraft = Annotated[TagGoal | PurchaseGoal | AppointmentGoal | FormGoal | StageGoal, Field(discriminator="goal_type")]


class GoalChanges(BaseModel):
    """What shall be different; what is left out stays, and criteria replace the whole."""

    model_config = _schema({"is_active": False}, required=[])

    criteria: Criteria = Field(description="Of the goal's type")
    name: Text | None
    is_active: bool


class GoalsToValidate(BaseModel):
    """Goals to look at instead of the stored ones; each may be anything, and the answer says what is wrong."""

    model_config = _schema({"goals": [{"goal_type": "form_submitted", "criteria": {"form_id": "signup"}}]})

    goals: Annotated[list[Any], Field(max_length=GOALS_MAX)] | None = None


class Run(BaseModel):
    """A run of a contact through the workflow that began before this service was asked to watch it."""

    model_config = _schema(
        {"enrollment_id": "enr_17", "contact_id": "contact_42", "enrolled_at": "2026-05-01T12:00:00Z"}
    )

    enrollment_id: Text
    contact_id: Text
    enrolled_at: datetime
    ended_at: datetime | None = None


class Runs(BaseModel):
    """Existing runs to be taken in."""

    model_config = _schema(
        {
            "enrollments": [
                {"enrollment_id": "enr_17", "contact_id": "contact_42", "enrolled_at": "2026-05-01T12:00:00Z"}
            ]
        }
    )

    enrollments: Annotated[list[Run], Field(max_length=ENROLLMENTS_MAX)]
