"""Models of request bodies: those of enrollments and checks validate, those of goals describe.

The rules of goals are in the domain and the store, which the shell shares; a test holds models and rules to each other.
"""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from goalworker.api import goal_models
from goalworker.api.validation import Moment, Text, closed

# Entries of a body; one more is a 400.
ENROLLMENTS_MAX: Final = 1_000
GOALS_MAX: Final = 1_000


class GoalChanges(BaseModel):
    """Changes of a goal; fields left out keep their values."""

    model_config = closed({"is_active": False}, required=[])

    criteria: goal_models.CriteriaDraft = Field(  # type: ignore[valid-type]
        description="Criteria of the goal's type; they replace the stored ones as a whole"
    )
    name: Text | None
    is_active: bool


class GoalsToValidate(BaseModel):
    """Goals to check in place of the stored ones; entries may be anything, since the answer lists their faults."""

    model_config = closed({"goals": [{"goal_type": "form_submitted", "criteria": {"form_id": "signup"}}]})

    goals: Annotated[list[Any], Field(max_length=GOALS_MAX)] | None = None


class Run(BaseModel):
    """An enrollment of a contact in the workflow that began before this service tracked it."""

    model_config = closed(
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
    """Existing enrollments to import."""

    model_config = closed(
        {
            "enrollments": [
                {"enrollment_id": "enr_17", "contact_id": "contact_42", "enrolled_at": "2026-05-01T12:00:00Z"}
            ]
        }
    )

    enrollments: Annotated[list[Run], Field(max_length=ENROLLMENTS_MAX)]
