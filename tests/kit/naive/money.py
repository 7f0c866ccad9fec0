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
    if walk_.satisfied is not None:
        return walk_.satisfied.at.time
    times = [achieved.at.time for achieved in walk_.achieved.values()]
    return min((time for time in times if logic(facts.workflow, time) == "never"), default=None)


def payments(facts: Facts, really: Walk) -> dict[UUID, dict[str, Payment]]:
    """Return the payments among the triggers, and those that would be among them had nothing been reversed."""
    found: dict[UUID, dict[str, Payment]] = {}
    for goal in facts.workflow.goals:
        if goal.goal_type == "purchase_made":
            among = really.behind.get(goal.goal_id, set()) | had_nothing_been_reversed(facts).get(goal.goal_id, set())
            by_payment = {payment(event).payment_id: earliest_among(among, event) for event in among}
            found[goal.goal_id] = {name: _as_payment(facts, event) for name, event in by_payment.items()}
    return {goal_id: by_payment for goal_id, by_payment in found.items() if by_payment}


@rule(lambda facts: {})
def had_nothing_been_reversed(facts: Facts) -> dict[UUID, set[events.Event]]:
    """Section 5: gross counts reversed ones too (the payments that would be among them had nothing been reversed)."""
    happened = [event for event in facts.happened if event.type not in events.REVERSAL_TYPES]
    return walk(facts._replace(happened=happened)).behind


@rule(lambda among, event: event)
def earliest_among(among: set[events.Event], event: events.Event) -> events.Event:
    """Section 5: A payment is as its earliest event among these says it."""
    same = {other for other in among if payment(other).payment_id == payment(event).payment_id}
    return min(same, key=walked)


def _as_payment(facts: Facts, event: events.Event) -> Payment:
    data = payment(event)
    return Payment(walked(event), data.amount, data.currency.upper(), reversed_of(facts, event))


def reversed_of(facts: Facts, event: events.Event) -> Decimal:
    """Section 5: Reversed is what was refunded or failed of them, never more than the amount."""
    data = payment(event)
    if any(concerns(failed_at, event) for failed_at in reversals.failures(facts, {event})):
        return data.amount
    refunds = [refund for refund in reversals.refunds_of(facts, data) if concerns(refund.time, event)]
    return capped(sum((reversals.refunded(refund, data) for refund in refunds), start=Decimal(0)), data.amount)


@rule(lambda reversed_at, event: True)
def concerns(reversed_at: datetime, event: events.Event) -> bool:
    """Section 5: Refunds dated before that event do not concern it."""
    return reversed_at >= event.time


@rule(lambda reversed_, amount: reversed_)
def capped(reversed_: Decimal, amount: Decimal) -> Decimal:
    """Section 5: A refund above the amount reverses the whole."""
    return min(reversed_, amount)
