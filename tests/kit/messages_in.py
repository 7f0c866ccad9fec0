"""Records as CRM and engine send them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

TENANT = "acme"

Headers = Sequence[tuple[str, bytes | None]]

TOPIC_OF_KIND = {
    "contact.tag.added": "tag_added",
    "payment.completed": "payment_completed",
    "payment.refunded": "payment_completed",
    "payment.failed": "payment_completed",
    "appointment.booked": "appointment_booked",
    "appointment.cancelled": "appointment_booked",
    "form.submitted": "form_submitted",
    "form.rejected": "form_submitted",
    "pipeline.stage.changed": "stage_changed",
    "workflow.enrollment.started": "workflow_lifecycle",
    "workflow.enrollment.ended": "workflow_lifecycle",
    "workflow.activated": "workflow_lifecycle",
    "workflow.deactivated": "workflow_lifecycle",
}
STRUCTURED = ("content-type", b"application/cloudevents+json")


@dataclass(frozen=True, slots=True)
class Record:
    """Record to send; the topic is the lower-case name of its setting."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    timestamp_ms: int | None = None

    def with_headers(self, *headers: tuple[str, bytes | None]) -> "Record":
        return replace(self, headers=(*self.headers, *headers))


@dataclass(frozen=True, slots=True)
class Enrollment:
    """Enrollment of a contact in a workflow, and the records about it."""

    workflow_id: str
    enrollment_id: str
    contact_id: str

    @property
    def ids(self) -> dict[str, str]:
        return {"workflow_id": self.workflow_id, "enrollment_id": self.enrollment_id, "contact_id": self.contact_id}

    def started(self, at: datetime) -> Record:
        return event("workflow.enrollment.started", self.ids, at)

    def ended(self, at: datetime) -> Record:
        return event("workflow.enrollment.ended", self.ids, at)

    def submits(self, form_id: str, at: datetime, **attributes: str) -> Record:
        return event("form.submitted", {"contact_id": self.contact_id, "form_id": form_id}, at, **attributes)


def new_enrollment(workflow_id: str) -> Enrollment:
    """Return an enrollment with new ids."""
    name = uuid4().hex[:8]
    return Enrollment(workflow_id, f"run-{name}", f"contact-{name}")


def event(kind: str, data: object, at: datetime, **attributes: str) -> Record:
    """Return an event in structured mode."""
    body = {**_envelope(kind, at, attributes), "data": data}
    return Record(TOPIC_OF_KIND[kind], json.dumps(body).encode(), headers=(STRUCTURED,))


def binary(kind: str, data: object, at: datetime, **attributes: str) -> Record:
    """Return an event in binary mode."""
    headers = [(f"ce_{name}", text.encode()) for name, text in _envelope(kind, at, attributes).items()]
    return Record(TOPIC_OF_KIND[kind], json.dumps(data).encode(), headers=headers)


def _envelope(kind: str, at: datetime, attributes: dict[str, str]) -> dict[str, str]:
    good = {"specversion": "1.0", "id": str(uuid4()), "source": "/crm", "type": kind, "time": at.isoformat()}
    return {**good, "tenantid": TENANT, **attributes}


def activated(workflow_id: str, at: datetime) -> Record:
    return event("workflow.activated", {"workflow_id": workflow_id}, at)


def deactivated(workflow_id: str, at: datetime) -> Record:
    return event("workflow.deactivated", {"workflow_id": workflow_id}, at)


def later(moment: datetime, milliseconds: float) -> datetime:
    return moment + timedelta(milliseconds=milliseconds)


def rfc3339(moment: datetime) -> str:
    """Return a time as goalworker writes it in messages."""
    return moment.isoformat().replace("+00:00", "Z")


def body(value: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(value)
    return decoded


def in_partition(number: int, record: Record) -> Record:
    return replace(record, partition=number)


def rows(text: str) -> list[dict[str, Any]]:
    """Return the rows that a command printed with --json."""
    decoded: list[dict[str, Any]] = json.loads(text)
    return decoded
