"""What the API takes, as OpenAPI shows it; what is wrong with a body is said by the stores, every fault at once."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict
from typing_extensions import TypeAliasType

from goalworker.api.validation import Moment, Text
from goalworker.domain.text import AMOUNT_MAX

ENROLLMENTS_MAX: Final = 1_000
GOALS_MAX: Final = 1_000

Amount = (
    Annotated[float, Field(ge=0, le=float(AMOUNT_MAX))]
    | Annotated[str, Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,18})?$")]
)


def _schema(example: JsonDict, **more: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example], **more})


class TagCriteriaDraft(BaseModel):
    """`tag_id`, `tag_name` or both: compared by id where both sides have one, otherwise by name, ignoring case."""

    model_config = _schema({"tag_id": "customer"}, minProperties=1)

    tag_id: Text | None = None
    tag_name: Text | None = None


class PurchaseCriteriaDraft(BaseModel):
    """At least one field, all of which must match; or `any_purchase: true` alone."""

    model_config = _schema({"min_amount": "100.00", "currency": "EUR"}, minProperties=1)

    product_id: Text | None = None
    min_amount: Amount | None = Field(None, description="Inclusive; at most 18 decimals, kept exactly")
    currency: Annotated[str, Field(pattern="^[A-Za-z]{3}$")] | None = None
    any_purchase: bool | None = None


class AppointmentCriteriaDraft(BaseModel):
    """`calendar_id`, `service_id` or both, which must match; or `any_appointment: true` alone."""

    model_config = _schema({"calendar_id": "sales"}, minProperties=1)

    calendar_id: Text | None = None
    service_id: Text | None = None
    any_appointment: bool | None = None


class FormCriteriaDraft(BaseModel):
    """The form that is submitted."""

    model_config = _schema({"form_id": "signup"})

    form_id: Text


class StageCriteriaDraft(BaseModel):
    """The stage of a pipeline that is reached."""

    model_config = _schema({"pipeline_id": "sales", "stage_id": "won"})

    pipeline_id: Text
    stage_id: Text


CriteriaDraft = TypeAliasType(
    "CriteriaDraft",
    TagCriteriaDraft | PurchaseCriteriaDraft | AppointmentCriteriaDraft | FormCriteriaDraft | StageCriteriaDraft,
)


class _Draft(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text | None = Field(None, description="What people call it")


class TagGoalDraft(_Draft):
    """A contact is tagged."""

    model_config = _schema({"goal_type": "tag_added", "criteria": {"tag_id": "customer"}, "name": "Is a customer"})

    goal_type: Literal["tag_added"]
    criteria: TagCriteriaDraft


class PurchaseGoalDraft(_Draft):
    """A contact pays."""

    model_config = _schema(
        {
            "goal_type": "purchase_made",
            "criteria": {"min_amount": "100.00", "currency": "EUR"},
            "name": "First real purchase",
        }
    )

    goal_type: Literal["purchase_made"]
    criteria: PurchaseCriteriaDraft


class AppointmentGoalDraft(_Draft):
    """A contact books an appointment."""

    model_config = _schema(
        {"goal_type": "appointment_booked", "criteria": {"any_appointment": True}, "name": "First call"}
    )

    goal_type: Literal["appointment_booked"]
    criteria: AppointmentCriteriaDraft


class FormGoalDraft(_Draft):
    """A contact submits a form."""

    model_config = _schema({"goal_type": "form_submitted", "criteria": {"form_id": "signup"}, "name": "Signed up"})

    goal_type: Literal["form_submitted"]
    criteria: FormCriteriaDraft


class StageGoalDraft(_Draft):
    """A contact reaches a stage of a pipeline."""

    model_config = _schema(
        {"goal_type": "pipeline_stage_reached", "criteria": {"pipeline_id": "sales", "stage_id": "won"}, "name": "Won"}
    )

    goal_type: Literal["pipeline_stage_reached"]
    criteria: StageCriteriaDraft


GoalDraft = TypeAliasType(
    "GoalDraft",
    Annotated[
        TagGoalDraft | PurchaseGoalDraft | AppointmentGoalDraft | FormGoalDraft | StageGoalDraft,
        Field(discriminator="goal_type"),
    ],
)


class GoalChanges(BaseModel):
    """What shall be different; what is left out stays, and criteria replace the whole."""

    model_config = _schema({"is_active": False}, required=[])

    criteria: CriteriaDraft = Field(description="Of the goal's type; replaces the whole")
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
    enrolled_at: Moment
    ended_at: Moment | None = None

    @field_validator("enrolled_at", "ended_at")
    @classmethod
    def _refuse_future(cls, time: datetime | None, info: ValidationInfo[datetime]) -> datetime | None:
        """Refuse times after the context, which is the latest moment allowed."""
        if time is not None and time > info.context:
            raise ValueError("is in the future, by more than the setting GOALWORKER_EVENTS__MAX_FUTURE_SECONDS allows")
        return time

    @field_validator("ended_at")
    @classmethod
    def _refuse_end_before_start(cls, ended_at: datetime | None, info: ValidationInfo) -> datetime | None:
        if ended_at is not None and ended_at < info.data.get("enrolled_at", ended_at):
            raise ValueError("must not be before `enrolled_at`")
        return ended_at


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
