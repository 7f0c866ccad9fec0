"""Plans of records to send, in steps, with the outcome that is expected after each step."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from msgspec import Struct

EnrollmentKey = tuple[str, str]
"""(tenant, enrollment)."""


class SourceEvent(Struct, frozen=True):
    """An event of a tenant, before it is encoded in one of the forms that a record can have."""

    tenant_id: str
    source: str
    id: str
    type: str
    time: datetime
    data: dict[str, Any]


Contact = tuple[str, str]
"""(tenant, contact)."""


class Concerned(NamedTuple):
    """The event of a record that history keeps if its contact is enrolled, or the start of an enrollment."""

    contact: Contact
    source: str
    event_id: str
    is_start: bool


class PlannedRecord(Struct, frozen=True):
    """A record to send; `needed_by` are the enrollments that cannot exit before the worker has it.

    `concerned` is None if it neither enrolls a contact nor can be kept.
    """

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None
    needed_by: tuple[EnrollmentKey, ...] = ()
    concerned: Concerned | None = None


class Enrollment(Struct, frozen=True):
    """An enrollment in a plan's messages; the same id with another contact is a different Enrollment."""

    tenant_id: str
    enrollment_id: str
    workflow_id: str
    contact_id: str

    @property
    def key(self) -> EnrollmentKey:
        return (self.tenant_id, self.enrollment_id)


class Count(NamedTuple):
    """Count of a goal with `times` or `total_amount` when it is achieved."""

    occurrences: int | None = None
    total_amount: Decimal | None = None
    evidence_complete: bool | None = None


class Achievement(Struct, frozen=True):
    """An achievement that must be in force in the end, and the event that triggered it."""

    tenant_id: str
    enrollment_id: str
    goal_id: UUID
    achieved_at: datetime
    source: str
    event_id: str
    occurrences: int | None = None
    """This and the fields after it belong to goals with `times` or `total_amount` (`Count`)."""
    total_amount: Decimal | None = None
    evidence_complete: bool | None = None

    @property
    def key(self) -> EnrollmentKey:
        return (self.tenant_id, self.enrollment_id)


class Revocation(Struct, frozen=True):
    """A reason for which an achievement may be revoked, for good or until another record is read."""

    tenant_id: str
    enrollment_id: str
    goal_id: UUID
    reason: str

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
    """A record that must be dead-lettered; no other record has its key."""

    topic: str
    key: bytes
    reason: str


class Payment(Struct, frozen=True):
    """A payment that counts once for the revenue of a workflow, and how much of it was refunded or failed."""

    tenant_id: str
    workflow_id: str
    currency: str
    amount: Decimal
    reversed: Decimal


RevenueKey = tuple[str, str, str]
"""(tenant, workflow, currency)."""


class Revenue(NamedTuple):
    """Sums of payments; net is gross without reversed."""

    gross: Decimal
    reversed: Decimal
    net: Decimal


class Outcome(Struct, frozen=True):
    """The achievements, exits, dead letters and payments that a plan must lead to, and revocations that it may."""

    achieved: tuple[Achievement, ...] = ()
    exited: tuple[Exit, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    payments: tuple[Payment, ...] = ()
    revocable: tuple[Revocation, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.achieved + other.achieved,
            self.exited + other.exited,
            self.dead_letters + other.dead_letters,
            self.payments + other.payments,
            self.revocable + other.revocable,
        )

    def revenue(self) -> dict[RevenueKey, Revenue]:
        """Add up the payments."""
        sums: dict[RevenueKey, Revenue] = {}
        for payment in self.payments:
            key = (payment.tenant_id, payment.workflow_id, payment.currency)
            gross, reversed_, net = sums.get(key, _NO_REVENUE)
            left = payment.amount - payment.reversed
            sums[key] = Revenue(gross + payment.amount, reversed_ + payment.reversed, net + left)
        return sums


NOTHING = Outcome()
_NO_REVENUE: Final = Revenue(Decimal(0), Decimal(0), Decimal(0))


class Step(Struct, frozen=True):
    """Records, and the expected outcome of the plan up to this step, however its records mix with those of other plans.

    Where the outcome depends on the order in which the worker reads the records, `then` is a second step. It is sent
    once the worker has sent the exit of this step, or has committed its records.
    """

    records: tuple[PlannedRecord, ...]
    outcome: Outcome = NOTHING
    then: Step | None = None
    once: Literal["exited", "committed"] = "exited"
    enrollments: tuple[Enrollment, ...] = ()
