"""Events and their data, and the table of goal types (contract section 2)."""

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final

from msgspec import Meta, Struct

from goalworker.domain.text import Text

PRODUCT_IDS_MAX: Final = 1000
ProductIds = Annotated[tuple[Text, ...], Meta(max_length=PRODUCT_IDS_MAX)]


# In the data of each goal event, correlation_id and test come last; reversals have test, too. It is True or None.


class TagAdded(Struct, frozen=True, gc=False):
    """`data` of `contact.tag.added`, with a tag_id, a tag_name or both."""

    contact_id: Text
    tag_id: Text | None = None
    tag_name: Text | None = None
    correlation_id: Text | None = None
    test: bool | None = None


class PaymentCompleted(Struct, frozen=True, gc=False):
    """`data` of `payment.completed`, with the exact amount and the currency as it was written."""

    contact_id: Text
    payment_id: Text
    amount: Decimal
    currency: Text
    product_ids: ProductIds | None = None
    correlation_id: Text | None = None
    test: bool | None = None


class AppointmentBooked(Struct, frozen=True, gc=False):
    """`data` of `appointment.booked`."""

    contact_id: Text
    appointment_id: Text
    calendar_id: Text | None = None
    service_id: Text | None = None
    starts_at: Text | None = None
    replaces_appointment_id: Text | None = None
    correlation_id: Text | None = None
    test: bool | None = None


class FormSubmitted(Struct, frozen=True, gc=False):
    """`data` of `form.submitted`."""

    contact_id: Text
    form_id: Text
    submission_id: Text | None = None
    correlation_id: Text | None = None
    test: bool | None = None


class StageChanged(Struct, frozen=True, gc=False):
    """`data` of `pipeline.stage.changed`."""

    contact_id: Text
    pipeline_id: Text
    stage_id: Text
    previous_stage_id: Text | None = None
    deal_id: Text | None = None
    correlation_id: Text | None = None
    test: bool | None = None


class PaymentRefunded(Struct, frozen=True, gc=False):
    """`data` of `payment.refunded`; without amount and currency, the whole payment was refunded."""

    contact_id: Text
    payment_id: Text
    refund_id: Text | None = None
    amount: Decimal | None = None
    currency: Text | None = None
    test: bool | None = None


class PaymentFailed(Struct, frozen=True, gc=False):
    """`data` of `payment.failed`."""

    contact_id: Text
    payment_id: Text
    test: bool | None = None


class AppointmentCancelled(Struct, frozen=True, gc=False):
    """`data` of `appointment.cancelled`."""

    contact_id: Text
    appointment_id: Text
    test: bool | None = None


class FormRejected(Struct, frozen=True, gc=False):
    """`data` of `form.rejected`."""

    contact_id: Text
    submission_id: Text
    test: bool | None = None


class EventReference(Struct, frozen=True, gc=False):
    """An event that another one names, within their tenant."""

    source: Text
    id: Text


class EnrollmentChanged(Struct, frozen=True, gc=False):
    """`data` of `workflow.enrollment.started` and `.ended`; only a start has a correlation_id and a started_by."""

    workflow_id: Text
    enrollment_id: Text
    contact_id: Text
    reason: Text | None = None
    correlation_id: Text | None = None
    started_by: EventReference | None = None


class WorkflowChanged(Struct, frozen=True, gc=False):
    """`data` of `workflow.activated` and `.deactivated`."""

    workflow_id: Text


GoalData = TagAdded | PaymentCompleted | AppointmentBooked | FormSubmitted | StageChanged
ReversalData = PaymentRefunded | PaymentFailed | AppointmentCancelled | FormRejected
LifecycleData = EnrollmentChanged | WorkflowChanged


class GoalType(Struct, frozen=True, kw_only=True):
    """A type of goal: one row of the table that settings, decoder, index, API, schemas and metrics are made from."""

    name: str
    event_type: str
    """CloudEvents type of the events that can achieve such a goal."""
    topic: str
    """Setting of their topic, a field of config.Topics."""
    data: type[GoalData]
    reversals: Mapping[str, type[ReversalData]] = {}
    """Data of the events that undo them, which share their topic, by CloudEvents type."""
    criteria: tuple[str, ...]
    """Fields of the criteria that goals of this type may set."""
    are_criteria_required: bool = False
    """Whether a goal must set all of these fields; otherwise it sets at least one."""
    any_flag: str | None = None
    """Flag that a goal sets in place of these fields when any event is good enough for it."""
    index_key: str
    """Field of the criteria under which the index keeps a goal."""

    @property
    def event_types(self) -> frozenset[str]:
        """CloudEvents types that the topic may carry."""
        return frozenset({self.event_type, *self.reversals})


STAGE_CHANGED: Final = "pipeline.stage.changed"
PAYMENT_REFUNDED: Final = "payment.refunded"
PAYMENT_FAILED: Final = "payment.failed"
APPOINTMENT_CANCELLED: Final = "appointment.cancelled"
FORM_REJECTED: Final = "form.rejected"

_ROWS: Final = (
    GoalType(
        name="tag_added",
        event_type="contact.tag.added",
        topic="tag_added",
        data=TagAdded,
        criteria=("tag_id", "tag_name"),
        index_key="tag_id",
    ),
    GoalType(
        name="purchase_made",
        event_type="payment.completed",
        topic="payment_completed",
        data=PaymentCompleted,
        reversals={PAYMENT_REFUNDED: PaymentRefunded, PAYMENT_FAILED: PaymentFailed},
        criteria=("product_id", "min_amount", "currency"),
        any_flag="any_purchase",
        index_key="product_id",
    ),
    GoalType(
        name="appointment_booked",
        event_type="appointment.booked",
        topic="appointment_booked",
        data=AppointmentBooked,
        reversals={APPOINTMENT_CANCELLED: AppointmentCancelled},
        criteria=("calendar_id", "service_id"),
        any_flag="any_appointment",
        index_key="calendar_id",
    ),
    GoalType(
        name="form_submitted",
        event_type="form.submitted",
        topic="form_submitted",
        data=FormSubmitted,
        reversals={FORM_REJECTED: FormRejected},
        criteria=("form_id",),
        are_criteria_required=True,
        index_key="form_id",
    ),
    GoalType(
        name="pipeline_stage_reached",
        event_type=STAGE_CHANGED,
        topic="stage_changed",
        data=StageChanged,
        criteria=("pipeline_id", "stage_id"),
        are_criteria_required=True,
        index_key="stage_id",
    ),
)

GOAL_TYPE_TABLE: Final[Mapping[str, GoalType]] = {row.name: row for row in _ROWS}
GOAL_TYPES: Final[tuple[str, ...]] = tuple(row.name for row in _ROWS)
GOAL_EVENT_TYPES: Final[tuple[str, ...]] = tuple(row.event_type for row in _ROWS)

REVERSAL_DATA: Final[Mapping[str, type[ReversalData]]] = {
    event_type: data for row in _ROWS for event_type, data in row.reversals.items()
}
REVERSAL_TYPES: Final = frozenset(REVERSAL_DATA)

ENROLLMENT_STARTED: Final = "workflow.enrollment.started"
ENROLLMENT_ENDED: Final = "workflow.enrollment.ended"
WORKFLOW_ACTIVATED: Final = "workflow.activated"
WORKFLOW_DEACTIVATED: Final = "workflow.deactivated"

_LIFECYCLE_DATA: Final[Mapping[str, type[LifecycleData]]] = {
    ENROLLMENT_STARTED: EnrollmentChanged,
    ENROLLMENT_ENDED: EnrollmentChanged,
    WORKFLOW_ACTIVATED: WorkflowChanged,
    WORKFLOW_DEACTIVATED: WorkflowChanged,
}
LIFECYCLE_TYPES: Final = frozenset(_LIFECYCLE_DATA)

DATA_OF_TYPE: Final[Mapping[str, type[GoalData | ReversalData | LifecycleData]]] = {
    **{row.event_type: row.data for row in _ROWS},
    **REVERSAL_DATA,
    **_LIFECYCLE_DATA,
}


def primary_type(event_types: Collection[str]) -> str | None:
    """Return the type among those of a topic that can achieve goals, None for the lifecycle topic."""
    return next((event_type for event_type in GOAL_EVENT_TYPES if event_type in event_types), None)


class Event(Struct, frozen=True, gc=False):
    """One incoming event: (tenant_id, source, id) is its identity, and time is when it happened, in UTC."""

    tenant_id: str
    source: str
    id: str
    type: str
    time: datetime
    data: GoalData | ReversalData | LifecycleData
    traceparent: str | None = None
    tracestate: str | None = None
