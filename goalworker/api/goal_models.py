"""Stored goals as OpenAPI shows them: one schema for each goal type, told apart by `goal_type`.

A field with a default factory is one that an answer may leave out; it is never null.
"""

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from typing_extensions import TypeAliasType

EXAMPLE_GOAL_ID: Final = "5f0c9b0e-8d1f-4b9e-9a53-0d4f0a3f6f6b"


class TagCriteria(BaseModel):
    """A tag, by id, by name or by both."""

    tag_id: str = Field(default_factory=str)
    tag_name: str = Field(default_factory=str)


class PurchaseCriteria(BaseModel):
    """A purchase that matches every field, or any purchase."""

    product_id: str = Field(default_factory=str)
    min_amount: str = Field(default_factory=str, description="Inclusive; without trailing zeros", examples=["100"])
    currency: str = Field(default_factory=str, examples=["EUR"])
    any_purchase: bool = Field(default_factory=bool, description="`true` where it is there, and then it stands alone")


class AppointmentCriteria(BaseModel):
    """An appointment that matches every field, or any appointment."""

    calendar_id: str = Field(default_factory=str)
    service_id: str = Field(default_factory=str)
    any_appointment: bool = Field(
        default_factory=bool, description="`true` where it is there, and then it stands alone"
    )


class FormCriteria(BaseModel):
    """A form that is submitted."""

    form_id: str


class StageCriteria(BaseModel):
    """A stage of a pipeline that is reached."""

    pipeline_id: str
    stage_id: str


class _State(BaseModel):
    name: str | None
    is_active: bool


class TagGoalState(_State):
    """A goal of a tag, at one moment."""

    goal_type: Literal["tag_added"]
    criteria: TagCriteria


class PurchaseGoalState(_State):
    """A goal of a purchase, at one moment."""

    goal_type: Literal["purchase_made"]
    criteria: PurchaseCriteria


class AppointmentGoalState(_State):
    """A goal of an appointment, at one moment."""

    goal_type: Literal["appointment_booked"]
    criteria: AppointmentCriteria


class FormGoalState(_State):
    """A goal of a form, at one moment."""

    goal_type: Literal["form_submitted"]
    criteria: FormCriteria


class StageGoalState(_State):
    """A goal of a pipeline's stage, at one moment."""

    goal_type: Literal["pipeline_stage_reached"]
    criteria: StageCriteria


GoalState = TypeAliasType(
    "GoalState",
    Annotated[
        TagGoalState | PurchaseGoalState | AppointmentGoalState | FormGoalState | StageGoalState,
        Field(discriminator="goal_type"),
    ],
)


class _Stored(BaseModel):
    id: UUID
    workflow_id: str
    version: int = Field(ge=1, description="Grows by 1 with every change; the ETag is this, quoted")
    created_at: datetime
    created_by: str
    updated_at: datetime = Field(description="The moment from which this version is in force")
    updated_by: str
    deleted_at: datetime | None


def _example(goal_type: str, criteria: JsonValue, name: str) -> ConfigDict:
    goal: dict[str, JsonValue] = {
        "id": EXAMPLE_GOAL_ID,
        "workflow_id": "onboarding",
        "goal_type": goal_type,
        "criteria": criteria,
        "name": name,
        "is_active": True,
        "version": 1,
        "created_at": "2026-05-01T12:00:00.000001Z",
        "created_by": "ann",
        "updated_at": "2026-05-01T12:00:00.000001Z",
        "updated_by": "ann",
        "deleted_at": None,
    }
    return ConfigDict(json_schema_extra={"examples": [goal]})


class TagGoal(_Stored, TagGoalState):
    """A goal that a contact meets by getting a tag."""

    model_config = _example("tag_added", {"tag_id": "customer"}, "Is a customer")


class PurchaseGoal(_Stored, PurchaseGoalState):
    """A goal that a contact meets by paying."""

    model_config = _example("purchase_made", {"min_amount": "100", "currency": "EUR"}, "First real purchase")


class AppointmentGoal(_Stored, AppointmentGoalState):
    """A goal that a contact meets by booking an appointment."""

    model_config = _example("appointment_booked", {"any_appointment": True}, "First call")


class FormGoal(_Stored, FormGoalState):
    """A goal that a contact meets by submitting a form."""

    model_config = _example("form_submitted", {"form_id": "signup"}, "Signed up")


class StageGoal(_Stored, StageGoalState):
    """A goal that a contact meets by reaching a stage of a pipeline."""

    model_config = _example("pipeline_stage_reached", {"pipeline_id": "sales", "stage_id": "won"}, "Won")


Goal = TypeAliasType(
    "Goal",
    Annotated[
        TagGoal | PurchaseGoal | AppointmentGoal | FormGoal | StageGoal,
        Field(discriminator="goal_type"),
    ],
)
