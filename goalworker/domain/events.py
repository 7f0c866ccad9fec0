"""What comes in, what is recorded, and what comes of it: the data that travels through the flow."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final

from msgspec import Meta, Struct

from goalworker.domain.text import Text

PRODUCT_IDS_MAX: Final = 1000


ProductIds = Annotated[tuple[Text, ...], Meta(max_length=PRODUCT_IDS_MAX)]


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
