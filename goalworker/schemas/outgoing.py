"""`data` of each outgoing message (contract section 4); domain/messages.py writes it, and tests hold it to these."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from goalworker.domain import events, messages
from goalworker.domain.text import Text

GoalType = Literal[events.GOAL_TYPES]  # type: ignore[valid-type]
Number = Annotated[int, Meta(ge=1)]
Time = Annotated[datetime, Meta(tz=True)]
EnrollmentId = Annotated[
    str,
    Meta(
        min_length=1,
        description="Where enrollments are not tracked: contact:<workflow_id>:<contact_id>, each part percent-encoded",
    ),
]


class Achieved(Struct):
    """A contact met a goal while enrolled; a higher revision corrects a lower one."""

    achievement_id: UUID
    revision: Number
    workflow_id: Text
    enrollment_id: EnrollmentId
    contact_id: Text
    goal_id: UUID
    goal_version: Number
    goal_type: GoalType
    enrolled_at: Time | None
    achieved_at: Time
    trigger_event: dict[str, Any]
    occurrences: (
        Annotated[int, Meta(ge=1, description="Occurrences that counted; only of goals with `times` or `total_amount`")]
        | UnsetType
    ) = UNSET
    total_amount: (
        Annotated[str | None, Meta(description="Sum of these occurrences; null where the goal has no `total_amount`")]
        | UnsetType
    ) = UNSET
    evidence_complete: (
        Annotated[bool, Meta(description="false if the contact had more hits of the goal than are kept")] | UnsetType
    ) = UNSET


class Revoked(Struct):
    """A late message revoked an achievement; a higher revision may restore it."""

    achievement_id: UUID
    revision: Annotated[int, Meta(ge=2)]
    workflow_id: Text
    enrollment_id: EnrollmentId
    contact_id: Text
    goal_id: UUID
    goal_type: GoalType
    reason: Literal["superseded", "after_end", "reversed"]


class Exit(Struct):
    """Command to the engine to stop an enrollment: at most one per enrollment, and never revoked."""

    exit_id: UUID
    workflow_id: Text
    enrollment_id: EnrollmentId
    contact_id: Text
    exit_reason: Literal["goal_achieved"]
    logic: Literal["any", "all"]
    goal_id: UUID
    goal_type: GoalType
    achievement_ids: Annotated[list[UUID], Meta(min_length=1)]
    achieved_at: Time


class Configured(Struct):
    """A goal was created, updated or deleted; its description is in force from `time` on."""

    action: Literal["created", "updated", "deleted"]
    goal_id: UUID
    version: Number
    workflow_id: Text
    goal_type: GoalType
    criteria: dict[str, Any]
    is_active: bool


class Outgoing(NamedTuple):
    """An outgoing message: the setting of its topic, its `data`, and the field of that which is its subject."""

    topic: str
    data: type[Struct]
    subject: str


BY_TYPE: Final[Mapping[str, Outgoing]] = {
    "workflow.goal.achieved": Outgoing(messages.GOAL_ACHIEVED, Achieved, "enrollment_id"),
    "workflow.goal.revoked": Outgoing(messages.GOAL_ACHIEVED, Revoked, "enrollment_id"),
    "workflow.exit.goal": Outgoing(messages.WORKFLOW_EXIT, Exit, "enrollment_id"),
    "workflow.goal.configured": Outgoing(messages.GOAL_CONFIGURED, Configured, "goal_id"),
}
