"""Goals and events for short scenarios: one tenant, workflow w1, contact c1, enrollment e1."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec import structs

from goalworker.domain import criteria, events, goals
from tests.kit.strategies import at

TENANT = "north"
DEACTIVATED, ACTIVATED = events.WORKFLOW_DEACTIVATED, events.WORKFLOW_ACTIVATED


def goal(number: int, tag_id: str, workflow_id: str = "w1") -> goals.Goal:
    version = goals.GoalVersion(1, criteria.Criteria(tag_id=tag_id), True, at(-1))
    return goals.Goal(TENANT, UUID(int=number), workflow_id, "tag_added", at(-1), (version,))


ONE, TWO = goal(1, "tag-1"), goal(2, "tag-2")


def logic(name: str, workflow_id: str = "w1") -> dict[tuple[str, str], tuple[goals.LogicVersion, ...]]:
    return {(TENANT, workflow_id): (goals.LogicVersion(name, at(-1)),)}


def tagged(id_: str, when: int | datetime, tag_id: str = "tag-1", contact_id: str = "c1") -> events.Event:
    return _event("/crm", id_, "contact.tag.added", when, events.TagAdded(contact_id, tag_id))


def started(when: int | datetime, id_: str = "s1", run: tuple[str, str, str] = ("w1", "e1", "c1")) -> events.Event:
    return _event("/engine", id_, events.ENROLLMENT_STARTED, when, events.EnrollmentChanged(*run))


def ended(when: int | datetime, id_: str = "x1", run: tuple[str, str, str] = ("w1", "e1", "c1")) -> events.Event:
    return _event("/engine", id_, events.ENROLLMENT_ENDED, when, events.EnrollmentChanged(*run))


def state(type_: str, when: int | datetime, id_: str = "a1", workflow_id: str = "w1") -> events.Event:
    return _event("/engine", id_, type_, when, events.WorkflowChanged(workflow_id))


def purchase(number: int, workflow_id: str = "w1", **wanted: Any) -> goals.Goal:
    version = goals.GoalVersion(1, criteria.Criteria(**wanted), True, at(-1))
    return goals.Goal(TENANT, UUID(int=number), workflow_id, "purchase_made", at(-1), (version,))


def paid(
    id_: str, when: int | datetime, payment_id: str = "p1", amount: str = "100", contact_id: str = "c1"
) -> events.Event:
    data = events.PaymentCompleted(contact_id, payment_id, Decimal(amount), "EUR")
    return _event("/shop", id_, "payment.completed", when, data)


def refunded(
    id_: str, when: int | datetime, amount: str | None = None, payment_id: str = "p1", currency: str = "EUR"
) -> events.Event:
    money = (None, None) if amount is None else (Decimal(amount), currency)
    return _event("/shop", id_, events.PAYMENT_REFUNDED, when, events.PaymentRefunded("c1", payment_id, None, *money))


def failed(id_: str, when: int | datetime, payment_id: str = "p1", contact_id: str = "c1") -> events.Event:
    return _event("/bank", id_, events.PAYMENT_FAILED, when, events.PaymentFailed(contact_id, payment_id))


def of_tenant(event: events.Event, tenant_id: str) -> events.Event:
    """Return an event of another tenant."""
    return structs.replace(event, tenant_id=tenant_id)


def _event(
    source: str,
    id_: str,
    type_: str,
    when: int | datetime,
    data: events.GoalData | events.ReversalData | events.LifecycleData,
) -> events.Event:
    return events.Event(TENANT, source, id_, type_, when if isinstance(when, datetime) else at(when), data)
