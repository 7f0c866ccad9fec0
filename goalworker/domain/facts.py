"""Facts and their consequences: hits, enrollments, workflow states, achievements and exits."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from msgspec import Struct, json, structs

from goalworker.domain.events import (
    DATA_OF_TYPE,
    AppointmentCancelled,
    Event,
    FormRejected,
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
)
from goalworker.domain.text import format_decimal

EventKey = tuple[str, str, str]
"""(tenant_id, source, id) of an event."""
ContactKey = tuple[str, str, str]
"""(tenant_id, workflow_id, contact_id): a contact in a workflow, with all its enrollments."""
PersonKey = tuple[str, str]
"""(tenant_id, contact_id): a contact, whatever the workflow."""
SubjectKey = tuple[str, str, str]
"""(tenant_id, contact_id, subject_id): what reversals of a contact undo."""
EnrollmentKey = tuple[str, str]
"""(tenant_id, enrollment_id)."""
WorkflowKey = tuple[str, str]
"""(tenant_id, workflow_id)."""
Order = tuple[datetime, str, str]
"""(time, source, id): the order of events in the walk, and of reversals."""

BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
"""Begin of an enrollment's window when enrollments are not tracked (contract rule 3.8)."""


def event_key(event: Event) -> EventKey:
    """Return the identity of an event (contract section 2)."""
    return (event.tenant_id, event.source, event.id)


class Trigger(Struct, frozen=True, gc=False):
    """The event behind a hit or an achievement; data holds its contract fields as JSON bytes."""

    source: str
    id: str
    time: datetime
    data: bytes
    traceparent: str | None = None
    tracestate: str | None = None

    @property
    def order(self) -> Order:
        """Key by which judgement walks through hits (contract rule 3.3)."""
        return (self.time, self.source, self.id)


def trigger_of(event: Event) -> Trigger:
    """Return an event as a trigger: the contract fields that it had, in the contract's order, amounts as strings."""
    present = {name: value for name, value in structs.asdict(event.data).items() if value is not None}
    if isinstance(event.data, PaymentCompleted):
        present["amount"] = format_decimal(event.data.amount)
    return Trigger(event.source, event.id, event.time, json.encode(present), event.traceparent, event.tracestate)


_DATA: Final[Mapping[str, json.Decoder[Any]]] = {name: json.Decoder(data) for name, data in DATA_OF_TYPE.items()}


def event_of(tenant_id: str, event_type: str, trigger: Trigger) -> Event:
    """Return the event of a type that became a trigger."""
    data = _DATA[event_type].decode(trigger.data)
    return Event(
        tenant_id, trigger.source, trigger.id, event_type, trigger.time, data, trigger.traceparent, trigger.tracestate
    )


class Hit(Struct, frozen=True, gc=False):
    """An event that meets the criteria of one goal, whether or not its contact is enrolled (contract rule 3.1).

    kept_seconds belongs to new hits of goals that count occurrences: how long they may count (contract rule 3.6).
    """

    tenant_id: str
    workflow_id: str
    contact_id: str
    goal_id: UUID
    goal_version: int
    trigger: Trigger
    kept_seconds: int | None = None


class Reversal(Struct, frozen=True, gc=False):
    """A message that undoes a payment, an appointment or a form submission; type is its CloudEvents type.

    subject_id is the payment_id, appointment_id or submission_id; the fields after it belong to refunds.
    """

    source: str
    id: str
    time: datetime
    type: str
    subject_id: str
    refund_id: str | None = None
    amount: Decimal | None = None
    currency: str | None = None

    @property
    def order(self) -> Order:
        """Key by which reversals are ordered (contract rule 3.3)."""
        return (self.time, self.source, self.id)


def reversal_of(event: Event) -> Reversal:
    """Return an event of one of events.REVERSAL_TYPES as a fact."""
    source, id_, time, type_ = event.source, event.id, event.time, event.type
    match event.data:
        case PaymentRefunded(payment_id=payment_id, refund_id=refund_id, amount=amount, currency=currency):
            return Reversal(source, id_, time, type_, payment_id, refund_id, amount, currency)
        case PaymentFailed(payment_id=subject_id) | AppointmentCancelled(appointment_id=subject_id):
            return Reversal(source, id_, time, type_, subject_id)
        case FormRejected(submission_id=subject_id):
            return Reversal(source, id_, time, type_, subject_id)
        case _:
            raise TypeError(f"{event.type} is not a reversal")


def data_of_reversal(reversal: Reversal, contact_id: str) -> bytes:
    """Return the `data` of a reversal's event as JSON bytes, amounts as strings."""
    subject = next(name for name in _SUBJECTS if name in DATA_OF_TYPE[reversal.type].__struct_fields__)
    amount = None if reversal.amount is None else format_decimal(reversal.amount)
    given = {
        "contact_id": contact_id,
        subject: reversal.subject_id,
        "refund_id": reversal.refund_id,
        "amount": amount,
        "currency": reversal.currency,
    }
    return json.encode({name: value for name, value in given.items() if value is not None})


_SUBJECTS: Final = ("payment_id", "appointment_id", "submission_id")


class Enrollment(Struct, frozen=True, gc=False):
    """One run of one contact through one workflow; messages and judgements fill in the optional fields.

    satisfied_by and payments are JSON lists of hits: the satisfying one where no achievement holds it, and the payments
    behind purchase goals where they are not just the triggers of achievements (domain/evidence.py).
    """

    tenant_id: str
    enrollment_id: str
    workflow_id: str
    contact_id: str
    enrolled_at: datetime | None = None
    ended_at: datetime | None = None
    satisfied_at: datetime | None = None
    converted_at: datetime | None = None
    exited_at: datetime | None = None
    correlation_id: str | None = None
    started_by_source: str | None = None
    started_by_id: str | None = None
    exit_waits: bool = False
    satisfied_by: str | None = None
    payments: str | None = None
    exit_withheld: bool = False


def enrollment_key(enrollment: Enrollment) -> EnrollmentKey:
    """Return the identity of an enrollment."""
    return (enrollment.tenant_id, enrollment.enrollment_id)


class WorkflowState(Struct, frozen=True, gc=False):
    """State of a workflow, active or not, from a moment on, inclusive."""

    since: datetime
    active: bool


class Counted(Struct, frozen=True, gc=False):
    """The occurrences that a goal with `times` or `total_amount` counted: their number and the sum of their amounts."""

    occurrences: int
    total_amount: Decimal | None = None
    is_complete: bool = True


class Achievement(Struct, frozen=True, gc=False):
    """Stored achievement of (tenant, enrollment, goal); a revoked one keeps its trigger as evidence.

    `others` are further hits that are kept as evidence, with the goal's version: those of the occurrences behind it.
    """

    goal_id: UUID
    goal_version: int
    enrolled_at: datetime | None
    trigger: Trigger
    revision: int
    revoked: bool = False
    counted: Counted | None = None
    others: tuple[tuple[int, Trigger], ...] = ()


class Exit(Struct, frozen=True, gc=False):
    """The only command that an enrollment ever gets: the engine must stop it."""

    goal_id: UUID
    logic: str
    achieved_at: datetime
    goal_ids: tuple[UUID, ...]
    traceparent: str | None = None
    tracestate: str | None = None
