"""What comes in, what is recorded, and what comes of it: the data that travels through the flow."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final
from uuid import UUID

from msgspec import Meta, Struct, ValidationError, convert, json, structs

TEXT_BYTES_MAX: Final = 255
AMOUNT_MAX: Final = Decimal(10**15)
AMOUNT_FRACTION_DIGITS_MAX: Final = 18
PRODUCT_IDS_MAX: Final = 1000

Text = Annotated[str, Meta(min_length=1, max_length=TEXT_BYTES_MAX)]
"""A text from outside, as far as a schema can say it; is_text says the rest."""

ProductIds = Annotated[tuple[Text, ...], Meta(max_length=PRODUCT_IDS_MAX)]

BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
"""Where the window of an enrollment begins when enrollments are not tracked (contract rule 3.8)."""


class TagAdded(Struct, frozen=True, gc=False):
    """`data` of `contact.tag.added`; one of tag_id and tag_name is there."""

    contact_id: Text
    tag_id: Text | None = None
    tag_name: Text | None = None


class PaymentCompleted(Struct, frozen=True, gc=False):
    """`data` of `payment.completed`; the amount is exact, the currency as it came."""

    contact_id: Text
    payment_id: Text
    amount: Decimal
    currency: Text
    product_ids: ProductIds | None = None


class AppointmentBooked(Struct, frozen=True, gc=False):
    """`data` of `appointment.booked`."""

    contact_id: Text
    appointment_id: Text
    calendar_id: Text | None = None
    service_id: Text | None = None
    starts_at: Text | None = None


class FormSubmitted(Struct, frozen=True, gc=False):
    """`data` of `form.submitted`."""

    contact_id: Text
    form_id: Text
    submission_id: Text | None = None


class StageChanged(Struct, frozen=True, gc=False):
    """`data` of `pipeline.stage.changed`."""

    contact_id: Text
    pipeline_id: Text
    stage_id: Text
    previous_stage_id: Text | None = None
    deal_id: Text | None = None


class EnrollmentChanged(Struct, frozen=True, gc=False):
    """`data` of `workflow.enrollment.started` and `.ended`."""

    workflow_id: Text
    enrollment_id: Text
    contact_id: Text
    reason: Text | None = None


class WorkflowChanged(Struct, frozen=True, gc=False):
    """`data` of `workflow.activated` and `.deactivated`."""

    workflow_id: Text


GoalData = TagAdded | PaymentCompleted | AppointmentBooked | FormSubmitted | StageChanged
LifecycleData = EnrollmentChanged | WorkflowChanged

ENROLLMENT_STARTED: Final = "workflow.enrollment.started"
ENROLLMENT_ENDED: Final = "workflow.enrollment.ended"
WORKFLOW_ACTIVATED: Final = "workflow.activated"
WORKFLOW_DEACTIVATED: Final = "workflow.deactivated"

DATA_OF_TYPE: Final[Mapping[str, type[GoalData | LifecycleData]]] = {
    "contact.tag.added": TagAdded,
    "payment.completed": PaymentCompleted,
    "appointment.booked": AppointmentBooked,
    "form.submitted": FormSubmitted,
    "pipeline.stage.changed": StageChanged,
    ENROLLMENT_STARTED: EnrollmentChanged,
    ENROLLMENT_ENDED: EnrollmentChanged,
    WORKFLOW_ACTIVATED: WorkflowChanged,
    WORKFLOW_DEACTIVATED: WorkflowChanged,
}

LIFECYCLE_TYPES: Final = frozenset({ENROLLMENT_STARTED, ENROLLMENT_ENDED, WORKFLOW_ACTIVATED, WORKFLOW_DEACTIVATED})

GOAL_TYPE_OF_EVENT: Final[Mapping[str, str]] = {
    "contact.tag.added": "tag_added",
    "payment.completed": "purchase_made",
    "appointment.booked": "appointment_booked",
    "form.submitted": "form_submitted",
    "pipeline.stage.changed": "pipeline_stage_reached",
}
EVENT_TYPE_OF_GOAL: Final[Mapping[str, str]] = {goal: event for event, goal in GOAL_TYPE_OF_EVENT.items()}
GOAL_TYPES: Final[tuple[str, ...]] = tuple(EVENT_TYPE_OF_GOAL)


class Event(Struct, frozen=True, gc=False):
    """One message in; (tenant_id, source, id) is its identity, and time is when it happened, in UTC."""

    tenant_id: str
    source: str
    id: str
    type: str
    time: datetime
    data: GoalData | LifecycleData
    traceparent: str | None = None
    tracestate: str | None = None


class Trigger(Struct, frozen=True, gc=False):
    """The event that a hit or an achievement rests on; data is its contract fields as JSON bytes."""

    source: str
    id: str
    time: datetime
    data: bytes
    traceparent: str | None = None
    tracestate: str | None = None

    @property
    def order(self) -> tuple[datetime, str, str]:
        """The order of the walk (contract rule 3.3)."""
        return (self.time, self.source, self.id)


def trigger_of(event: Event) -> Trigger:
    """Return an event as evidence: its contract fields that it had, in the contract's order, amounts as strings."""
    present = {name: value for name, value in structs.asdict(event.data).items() if value is not None}
    if isinstance(event.data, PaymentCompleted):
        present["amount"] = plain(event.data.amount)
    return Trigger(event.source, event.id, event.time, json.encode(present), event.traceparent, event.tracestate)


class Hit(Struct, frozen=True, gc=False):
    """An event that satisfies one goal's criteria, whoever is enrolled (contract rule 3.1)."""

    tenant_id: str
    workflow_id: str
    contact_id: str
    goal_id: UUID
    goal_version: int
    trigger: Trigger


class Enrollment(Struct, frozen=True, gc=False):
    """One run of one contact through one workflow, as far as it is known."""

    tenant_id: str
    enrollment_id: str
    workflow_id: str
    contact_id: str
    enrolled_at: datetime | None = None
    ended_at: datetime | None = None
    satisfied_at: datetime | None = None
    converted_at: datetime | None = None
    exited_at: datetime | None = None


class WorkflowState(Struct, frozen=True, gc=False):
    """A workflow is active, or is not, from a moment on, inclusive."""

    since: datetime
    active: bool


class Achievement(Struct, frozen=True, gc=False):
    """What is stored for (tenant, enrollment, goal); a revoked one keeps its trigger as evidence."""

    goal_id: UUID
    goal_version: int
    enrolled_at: datetime | None
    trigger: Trigger
    revision: int
    revoked: bool = False


class Exit(Struct, frozen=True, gc=False):
    """The one command per enrollment telling the engine to stop."""

    goal_id: UUID
    logic: str
    achieved_at: datetime
    goal_ids: tuple[UUID, ...]
    traceparent: str | None = None
    tracestate: str | None = None


_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


def is_text(value: str) -> bool:
    """Say whether a text from outside is 1 to 255 bytes of UTF-8 without control characters (contract section 1)."""
    if value.isascii() and value.isprintable():
        return 0 < len(value) <= TEXT_BYTES_MAX
    try:
        size_bytes = len(value.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return 0 < size_bytes <= TEXT_BYTES_MAX and not _CONTROL.search(value)


_PLAIN_DECIMAL: Final = re.compile(r"[0-9]{1,64}(\.[0-9]{1,18})?")
_JSON_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
_NUMBER_LENGTH_MAX: Final = 128


def amount_of_text(text: str) -> Decimal | None:
    """Return the exact amount that a plain decimal string stands for; None where it is none or out of range."""
    return _in_range(Decimal(text)) if _PLAIN_DECIMAL.fullmatch(text) else None


def amount_of_number(number: str) -> Decimal | None:
    """Return the exact amount that a JSON number, as it is written, stands for; None where out of range."""
    if len(number) > _NUMBER_LENGTH_MAX or not _JSON_NUMBER.fullmatch(number):
        return None
    return _in_range(Decimal(number))


def time_of_text(text: str) -> datetime | None:
    """Return the moment that an RFC 3339 time with an offset stands for, in UTC, rounded half up to the microsecond.

    Second 60 is the first of the next minute. None where it is none.
    """
    try:
        if text[16:19] == ":60":
            before = time_of_text(f"{text[:17]}59{text[19:]}")
            return before and before + timedelta(seconds=1)
        # msgspec takes two more forms: a blank for the T, and an offset without its colon.
        if text[10] in "Tt" and (text[-1] in "Zz" or text[-3] == ":"):
            time = convert(text, datetime)
            if time.tzinfo is not None:
                return time if time.tzinfo is UTC else time.astimezone(UTC)
    except (ValidationError, LookupError, OverflowError):
        pass
    return None


def plain(amount: Decimal) -> str:
    """Return an amount as a plain decimal string with the digits that it came with."""
    return format(amount, "f")


def money(amount: Decimal) -> str:
    """Return an amount as a plain decimal string, exact, without trailing zeros beyond two decimals."""
    whole, point, fraction = plain(amount).partition(".")
    return whole + point + fraction[:2] + fraction[2:].rstrip("0")


def _in_range(amount: Decimal) -> Decimal | None:
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -AMOUNT_FRACTION_DIGITS_MAX or not 0 <= amount <= AMOUNT_MAX:
        return None
    if amount.is_zero():
        amount = amount.copy_abs()
    return amount.quantize(Decimal(1)) if exponent > 0 else amount
