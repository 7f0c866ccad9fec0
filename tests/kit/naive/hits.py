"""Rule 1: the hits of a goal, whoever is enrolled."""

import unicodedata
from datetime import datetime
from typing import Final

from goalworker.domain import events, goals
from goalworker.domain.criteria import Criteria
from tests.kit.naive.rules import rule


@rule(lambda goal, moment: goal.versions[-1])
def in_force(goal: goals.Goal, moment: datetime) -> goals.GoalVersion | None:
    """Rule 1: A version is in force from active_from (inclusive) to active_to (exclusive) if it is_active."""
    found = [
        version
        for version in goal.versions
        if version.is_active
        and version.active_from <= moment
        and (version.active_to is None or moment < version.active_to)
    ]
    assert len(found) <= 1, "two versions of one goal in force at once"
    return found[0] if found else None


def hits(event: events.Event, goal: goals.Goal) -> bool:
    """Rule 1: Event E is a hit of goal G: tenant and type agree, and the version of G in force at E.time matches."""
    version = in_force(goal, event.time)
    return (
        version is not None
        and goal.tenant_id == event.tenant_id
        and event.type == events.GOAL_TYPE_TABLE[goal.goal_type].event_type
        and isinstance(event.data, events.GoalData)
        and meets(version.criteria, event.data)
    )


def meets(criteria: Criteria, data: events.GoalData) -> bool:
    """Rule 1: All given fields must match; a stage event whose previous_stage_id equals stage_id hits nothing."""
    match data:
        case events.TagAdded():
            return _meets_tag(criteria, data)
        case events.PaymentCompleted():
            return _meets_payment(criteria, data)
        case events.AppointmentBooked():
            return all(meets_id(getattr(criteria, name), getattr(data, name)) for name in ("calendar_id", "service_id"))
        case events.FormSubmitted():
            return meets_id(criteria.form_id, data.form_id)
        case events.StageChanged():
            is_move = data.previous_stage_id != data.stage_id
            return is_move and all(meets_id(getattr(criteria, name), getattr(data, name)) for name in _STAGE)


_BOOKING: Final = ("calendar_id", "service_id")
_STAGE: Final = ("pipeline_id", "stage_id")


def _meets_tag(criteria: Criteria, tag: events.TagAdded) -> bool:
    """Rule 1: By id where both sides have one (the name is then a label), otherwise by name."""
    if criteria.tag_id is not None and tag.tag_id is not None:
        return meets_id(criteria.tag_id, tag.tag_id)
    return bool(criteria.tag_name and tag.tag_name and fold(criteria.tag_name) == fold(tag.tag_name))


def _meets_payment(criteria: Criteria, payment: events.PaymentCompleted) -> bool:
    """Rule 1: product_id is one of the event's product_ids, min_amount is inclusive, currency in upper case."""
    products = payment.product_ids or ()
    is_product = criteria.product_id is None or any(meets_id(criteria.product_id, product) for product in products)
    is_enough = criteria.min_amount is None or payment.amount >= criteria.min_amount
    return is_product and is_enough and criteria.currency in (None, payment.currency.upper())


@rule(lambda wanted, given: wanted is None or given == (wanted[0] if isinstance(wanted, tuple) else wanted))
def meets_id(wanted: str | tuple[str, ...] | None, given: str | None) -> bool:
    """Rule 1: Every id criterion takes one text or a list (any of them)."""
    if wanted is None:
        return True
    return given in (wanted if isinstance(wanted, tuple) else (wanted,))


def fold(name: str) -> str:
    """Rule 1: Compared after NFKC, strip, casefold, NFKC."""
    name = unicodedata.normalize("NFKC", name)
    name = name.strip()
    name = name.casefold()
    return unicodedata.normalize("NFKC", name)


def settings_at(goal: goals.Goal, event: events.Event) -> Criteria:
    """Rule 1: The settings of a hit are those of the version in force at E.time."""
    version = in_force(goal, event.time)
    assert version is not None, "asked of an event that hits nothing"
    return version.criteria
