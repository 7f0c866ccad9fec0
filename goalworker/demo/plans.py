"""What will be sent, in which order, and what must have come of it: known before anything is sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

EnrollmentKey = tuple[str, str]
"""(tenant, enrollment)."""


class SourceEvent(Struct, frozen=True):
    """Something that happens at a tenant's, before it is put into one of the shapes that a record can have."""

    tenant_id: str
    source: str
    id: str
    type: str
    time: datetime
    data: dict[str, Any]


class PlannedRecord(Struct, frozen=True):
    """One record to be sent; needed_by: the enrollments whose exit cannot come before it."""

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None
    needed_by: tuple[EnrollmentKey, ...] = ()


class Enrollment(Struct, frozen=True):
    """An enrollment that a plan's messages speak of; another contact under the same id is another one of these."""

    tenant_id: str
    enrollment_id: str
    workflow_id: str
    contact_id: str

    @property
    def key(self) -> EnrollmentKey:
        return (self.tenant_id, self.enrollment_id)


class Achievement(Struct, frozen=True):
    """An achievement that must stand in the end, and the event that it must rest on."""

    tenant_id: str
    enrollment_id: str
    goal_id: UUID
    achieved_at: datetime
    source: str
    event_id: str

    @property
    def key(self) -> EnrollmentKey:
        return (self.tenant_id, self.enrollment_id)


class Exit(Struct, frozen=True):
    """The one exit that an enrollment must get."""

    tenant_id: str
    enrollment_id: str
    workflow_id: str
    contact_id: str
    logic: str
    goal_id: UUID
    goal_ids: tuple[UUID, ...]
    achieved_at: datetime

    @property
    def key(self) -> EnrollmentKey:
        return (self.tenant_id, self.enrollment_id)


class DeadLetter(Struct, frozen=True):
    """A record that must be dead-lettered; each has a key of its own."""

    topic: str
    key: bytes
    reason: str


class Outcome(Struct, frozen=True):
    """Everything that must have come of a plan."""

    achieved: tuple[Achievement, ...] = ()
    exited: tuple[Exit, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.achieved + other.achieved, self.exited + other.exited, self.dead_letters + other.dead_letters
        )


NOTHING = Outcome()


class Step(Struct, frozen=True):
    """Records, and what must have come of the whole plan after them, however they and other plans' are mixed.

    Where an outcome would depend on what the worker knew first, a second step waits until the worker has sent the
    exits of this one, or has committed its records.
    """

    records: tuple[PlannedRecord, ...]
    outcome: Outcome = NOTHING
    then: Step | None = None
    once: Literal["exited", "committed"] = "exited"
    enrollments: tuple[Enrollment, ...] = ()
