"""Section 5, stats: what converted, and the money."""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from goalworker.domain import events
from tests.kit.naive import reversals
from tests.kit.naive.facts import Facts, Walked, walked
from tests.kit.naive.rules import rule
from tests.kit.naive.walk import Walk, logic, payment, walk


class Payment(NamedTuple):
    """A payment that counts for revenue, as its earliest event among those that count says it."""

    at: Walked
    amount: Decimal
    currency: str
    reversed: Decimal


# --- section 5: conversion and revenue ---


def converted_at(facts: Facts, walk_: Walk) -> datetime | None:
    """Section 5: Converted means satisfied (in `never`: at least one achievement)."""
    return in_never(facts, walk_) if walk_.satisfied is None else walk_.satisfied.at.time


@rule(lambda facts, walk_: None)
def in_never(facts: Facts, walk_: Walk) -> datetime | None:
    """Section 5: ... in `never`: at least one achievement."""
    times = [achieved.at.time for achieved in walk_.achieved.values()]
    return min((time for time in times if logic(facts.workflow, time) == "never"), default=None)


def payments(facts: Facts, really: Walk) -> dict[UUID, dict[str, Payment]]:
    """Return the payments among the triggers, and those that would be among them had nothing been reversed."""
    found: dict[UUID, dict[str, Payment]] = {}
    would_be = had_nothing_been_reversed(facts)
    for goal in facts.workflow.goals:
        among = really.behind.get(goal.goal_id, set()) | would_be.get(goal.goal_id, set())
        if goal.goal_type == "purchase_made" and among:
            found[goal.goal_id] = {
                name: _as_payment(facts, earliest_among({event for event in among if _name(event) == name}))
                for name in map(_name, among)
            }
    return found


@rule(lambda facts: {})
def had_nothing_been_reversed(facts: Facts) -> dict[UUID, set[events.Event]]:
    """Section 5: gross counts reversed ones too (the payments that would be among them had nothing been reversed)."""
    happened = [event for event in facts.happened if event.type not in events.REVERSAL_TYPES]
    return walk(facts._replace(happened=happened)).behind


@rule(lambda same: max(same, key=walked))
def earliest_among(same: set[events.Event]) -> events.Event:
    """Section 5: A payment is as its earliest event among these says it."""
    return min(same, key=walked)


def _name(event: events.Event) -> str:
    return payment(event).payment_id


def _as_payment(facts: Facts, event: events.Event) -> Payment:
    data = payment(event)
    return Payment(walked(event), data.amount, data.currency.upper(), reversed_of(facts, event))


def reversed_of(facts: Facts, event: events.Event) -> Decimal:
    """Section 5: Reversed is what was refunded or failed of them, never more than the amount."""
    data = payment(event)
    if any(concerns(failed_at, event) for failed_at in reversals.failures(facts, frozenset({event}))):
        return data.amount
    refunds = [refund for refund in reversals.refunds_of(facts, data) if concerns(refund.time, event)]
    return capped(sum((reversals.refunded(refund, data) for refund in refunds), start=Decimal(0)), data.amount)


@rule(lambda reversed_at, event: True)
def concerns(reversed_at: datetime, event: events.Event) -> bool:
    """Section 5: Refunds dated before that event do not concern it."""
    return is_not_before(reversed_at, event)


@rule(lambda reversed_at, event: reversed_at > event.time)
def is_not_before(reversed_at: datetime, event: events.Event) -> bool:
    """Section 5: ... one of the same moment concerns it."""
    return reversed_at >= event.time


@rule(lambda reversed_, amount: reversed_)
def capped(reversed_: Decimal, amount: Decimal) -> Decimal:
    """Section 5: A refund above the amount reverses the whole."""
    return min(reversed_, amount)
