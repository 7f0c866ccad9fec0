"""Outgoing messages as bytes: CloudEvents in structured JSON, the same bytes for the same content (section 4)."""

from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET, Raw, Struct, UnsetType, json

from goalworker.domain import events, facts, ids
from goalworker.domain.text import format_decimal

SOURCE: Final = "/goalworker"
API_SOURCE: Final = "/goalworker/api"
CONTENT_TYPE: Final = "application/cloudevents+json"

GOAL_ACHIEVED: Final = "goal_achieved"
WORKFLOW_EXIT: Final = "workflow_exit"
GOAL_CONFIGURED: Final = "goal_configured"
WORKFLOW_LIFECYCLE: Final = "workflow_lifecycle"
TOPICS: Final = (GOAL_ACHIEVED, WORKFLOW_EXIT, GOAL_CONFIGURED, WORKFLOW_LIFECYCLE)


class Message(Struct, frozen=True, gc=False):
    """One message to publish; topic is its setting, which config.Topics maps to the topic's name.

    event_timestamp_ms belongs to exits: the timestamp of the record with the satisfying event, if that is at hand.
    """

    topic: str
    key: bytes
    value: bytes
    traceparent: str | None = None
    tracestate: str | None = None
    event_timestamp_ms: int | None = None


def achieved(enrollment: facts.Enrollment, goal_type: str, achievement: facts.Achievement) -> Message:
    """Return `workflow.goal.achieved` for one revision of an achievement."""
    tenant_id, enrollment_id = enrollment.tenant_id, enrollment.enrollment_id
    trigger = achievement.trigger
    return _of_enrollment(
        GOAL_ACHIEVED,
        "workflow.goal.achieved",
        ids.achieved_message_id(tenant_id, enrollment_id, achievement.goal_id, achievement.revision),
        trigger.time,
        enrollment,
        achievement_data(enrollment, goal_type, achievement),
        (trigger.traceparent, trigger.tracestate),
    )


class TriggerEvent(Struct, frozen=True, gc=False):
    """The event behind an achievement, with its contract fields."""

    id: str
    source: str
    type: str
    time: datetime
    data: Raw


class Achieved(Struct, frozen=True, gc=False):
    """The `data` of `workflow.goal.achieved`, fields in the order of the contract."""

    achievement_id: UUID
    revision: int
    workflow_id: str
    enrollment_id: str
    contact_id: str
    goal_id: UUID
    goal_version: int
    goal_type: str
    enrolled_at: datetime | None
    achieved_at: datetime
    trigger_event: TriggerEvent
    occurrences: int | UnsetType = UNSET
    """This and the fields after it belong to goals with `times` or `total_amount`."""
    total_amount: str | UnsetType | None = UNSET
    evidence_complete: bool | UnsetType = UNSET


class ExitGoal(Struct, frozen=True, gc=False):
    """The `data` of `workflow.exit.goal`, fields in the order of the contract."""

    exit_id: UUID
    workflow_id: str
    enrollment_id: str
    contact_id: str
    exit_reason: str
    logic: str
    goal_id: UUID
    goal_type: str
    achievement_ids: list[UUID]
    achieved_at: datetime


def achievement_data(enrollment: facts.Enrollment, goal_type: str, achievement: facts.Achievement) -> Achieved:
    """Return the `data` of `workflow.goal.achieved`, which is also the API's form of an achievement."""
    trigger = achievement.trigger
    counted = () if achievement.counted is None else _counted(achievement.counted)
    return Achieved(
        ids.achievement_id(enrollment.tenant_id, enrollment.enrollment_id, achievement.goal_id),
        achievement.revision,
        enrollment.workflow_id,
        enrollment.enrollment_id,
        enrollment.contact_id,
        achievement.goal_id,
        achievement.goal_version,
        goal_type,
        achievement.enrolled_at,
        trigger.time,
        TriggerEvent(
            trigger.id, trigger.source, events.GOAL_TYPE_TABLE[goal_type].event_type, trigger.time, Raw(trigger.data)
        ),
        *counted,
    )


def _counted(counted: facts.Counted) -> tuple[int, str | None, bool]:
    total = None if counted.total_amount is None else format_decimal(counted.total_amount)
    return (counted.occurrences, total, counted.is_complete)


def revoked(
    enrollment: facts.Enrollment, goal_type: str, achievement: facts.Achievement, reason: str, now: datetime
) -> Message:
    """Return `workflow.goal.revoked` for an achievement with its new revision; now is the message's time."""
    tenant_id, enrollment_id = enrollment.tenant_id, enrollment.enrollment_id
    return _of_enrollment(
        GOAL_ACHIEVED,
        "workflow.goal.revoked",
        ids.revoked_message_id(tenant_id, enrollment_id, achievement.goal_id, achievement.revision),
        now,
        enrollment,
        {
            "achievement_id": ids.achievement_id(tenant_id, enrollment_id, achievement.goal_id),
            "revision": achievement.revision,
            "workflow_id": enrollment.workflow_id,
            "enrollment_id": enrollment_id,
            "contact_id": enrollment.contact_id,
            "goal_id": achievement.goal_id,
            "goal_type": goal_type,
            "reason": reason,
        },
        (None, None),
    )


def exit_goal(enrollment: facts.Enrollment, goal_type: str, command: facts.Exit) -> Message:
    """Return `workflow.exit.goal`; its id is the exit_id."""
    data = exit_data(enrollment, goal_type, command)
    return _of_enrollment(
        WORKFLOW_EXIT,
        "workflow.exit.goal",
        data.exit_id,
        command.achieved_at,
        enrollment,
        data,
        (command.traceparent, command.tracestate),
    )


class _Logic(Struct):
    logic: str


class _ExitLogic(Struct):
    data: _Logic


_EXIT_LOGIC: Final = json.Decoder(_ExitLogic)


def logic_of(exit_: Message) -> str:
    """Return the logic that decided an exit, from its message."""
    return _EXIT_LOGIC.decode(exit_.value).data.logic


def exit_data(enrollment: facts.Enrollment, goal_type: str, command: facts.Exit) -> ExitGoal:
    """Return the `data` of `workflow.exit.goal`, which is also the API's form of an exit."""
    tenant_id, enrollment_id = enrollment.tenant_id, enrollment.enrollment_id
    return ExitGoal(
        ids.exit_id(tenant_id, enrollment_id),
        enrollment.workflow_id,
        enrollment_id,
        enrollment.contact_id,
        "goal_achieved",
        command.logic,
        command.goal_id,
        goal_type,
        [ids.achievement_id(tenant_id, enrollment_id, goal_id) for goal_id in command.goal_ids],
        command.achieved_at,
    )


def configured(
    tenant_id: str, goal_id: UUID, version: int, action: str, now: datetime, description: dict[str, Any]
) -> Message:
    """Return `workflow.goal.configured`; description: workflow_id, goal_type, criteria, is_active, in this order."""
    data = {"action": action, "goal_id": goal_id, "version": version, **description}
    message_id = ids.configured_message_id(tenant_id, goal_id, version)
    value = envelope("workflow.goal.configured", message_id, str(goal_id), now, tenant_id, data)
    return Message(GOAL_CONFIGURED, ids.joined(":", tenant_id, str(goal_id)).encode(), value)


def lifecycle(type_: str, enrollment: facts.Enrollment, time: datetime) -> Message:
    """Return the message of an enrollment's start or end as an engine would send it, with the API as its source."""
    tenant_id, workflow_id = enrollment.tenant_id, enrollment.workflow_id
    enrollment_id, contact_id = enrollment.enrollment_id, enrollment.contact_id
    kind = type_.rpartition(".")[2]
    message_id = ids.lifecycle_message_id(kind, tenant_id, workflow_id, enrollment_id, contact_id, time.isoformat())
    data = {"workflow_id": workflow_id, "enrollment_id": enrollment_id, "contact_id": contact_id}
    value = envelope(type_, message_id, enrollment_id, time, tenant_id, data, API_SOURCE)
    return Message(WORKFLOW_LIFECYCLE, key_of(tenant_id, contact_id), value)


class _Envelope(Struct, frozen=True, gc=False):
    specversion: str
    id: UUID
    source: str
    type: str
    subject: str
    time: datetime
    tenantid: str
    datacontenttype: str
    data: Any


_ENCODER: Final = json.Encoder()


def envelope(
    type_: str,
    message_id: UUID,
    subject: str,
    time: datetime,
    tenant_id: str,
    data: Struct | dict[str, Any],
    source: str = SOURCE,
) -> bytes:
    """Return a CloudEvent in structured JSON with its keys in a fixed order."""
    return _ENCODER.encode(
        _Envelope("1.0", message_id, source, type_, subject, time, tenant_id, "application/json", data)
    )


def _of_enrollment(
    topic: str,
    type_: str,
    message_id: UUID,
    time: datetime,
    enrollment: facts.Enrollment,
    data: Struct | dict[str, Any],
    trace: tuple[str | None, str | None],
) -> Message:
    key = key_of(enrollment.tenant_id, enrollment.contact_id)
    value = envelope(type_, message_id, enrollment.enrollment_id, time, enrollment.tenant_id, data)
    return Message(topic, key, value, *trace)


@lru_cache(maxsize=64)  # the messages of one judgement share a key
def key_of(tenant_id: str, contact_id: str) -> bytes:
    """Return the key of a contact's messages (contract sections 2 and 4)."""
    return ids.joined(":", tenant_id, contact_id).encode()
