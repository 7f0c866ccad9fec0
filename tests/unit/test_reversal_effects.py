"""The effect of a reversal, as the metrics count it, follows from the facts about its subject when it is judged."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final
from uuid import UUID

import pytest

from goalworker.domain import events, facts, reversal_effects
from tests.kit.strategies import at

PAID: Final = events.PaymentCompleted("c1", "p1", Decimal("100.00"), "EUR")


def hit(id_: str, tick: int, data: events.GoalData) -> facts.Hit:
    event = events.Event("north", "/s", id_, "any", at(tick), data)
    return facts.Hit("north", "w1", "c1", UUID(int=1), 1, facts.trigger_of(event))


def refund(id_: str, tick: int, amount: str | None = None, currency: str = "eur") -> facts.Reversal:
    money = (None, None, None) if amount is None else (id_, Decimal(amount), currency)
    return facts.Reversal("/s", id_, at(tick), events.PAYMENT_REFUNDED, "p1", *money)


def effect(reversal: facts.Reversal, hits: Sequence[facts.Hit], *others: facts.Reversal) -> str:
    found = reversal_effects.History(hits, [reversal, *others]).effect_of(reversal)
    assert found in reversal_effects.EFFECTS
    return found


@pytest.mark.parametrize(
    ("reversal", "others", "expected"),
    [
        (refund("r", 6), (), "reversed"),
        (refund("r", 6, "100"), (), "reversed"),
        (refund("r", 6, "99.99"), (), "partial"),
        (refund("r", 6, "0.01"), (refund("q", 5, "99.99"),), "reversed"),
        (refund("r", 6, "0.01"), (refund("q", 7, "99.99"),), "partial"),
        (refund("r", 6, "0.02"), (refund("q", 5, "99.99"),), "excess"),
        (refund("r", 6, "100.01"), (), "excess"),
        (refund("r", 6), (refund("q", 5, "1"),), "reversed"),
        (refund("r", 6, "100", "USD"), (), "mismatch"),
        (refund("r", 3), (), "unknown"),
        (facts.Reversal("/s", "r", at(6), events.PAYMENT_FAILED, "p1"), (), "reversed"),
        (facts.Reversal("/s", "r", at(6), events.PAYMENT_FAILED, "p2"), (), "unknown"),
    ],
)
def test_the_effect_on_a_payment(reversal: facts.Reversal, others: tuple[facts.Reversal, ...], expected: str) -> None:
    assert effect(reversal, [hit("h", 4, PAID)], *others) == expected


def test_a_refund_that_was_told_before_in_another_currency_adds_nothing() -> None:
    again = facts.Reversal("/s", "again", at(6), events.PAYMENT_REFUNDED, "p1", "r", Decimal(100), "EUR")
    assert effect(again, [hit("h", 4, PAID)], refund("r", 5, "100", "USD")) == "partial"


def test_a_rejection_reverses_a_known_submission() -> None:
    submitted = hit("h", 4, events.FormSubmitted("c1", "f1", "s1"))
    for submission_id, expected in (("s1", "reversed"), ("s2", "unknown")):
        rejection = facts.Reversal("/s", "r", at(6), events.FORM_REJECTED, submission_id)
        assert effect(rejection, [submitted]) == expected


def test_a_cancellation_of_the_last_appointment_reverses_and_of_a_replaced_one_moves() -> None:
    first = hit("h1", 3, events.AppointmentBooked("c1", "a1"))
    second = hit("h2", 4, events.AppointmentBooked("c1", "a2", replaces_appointment_id="a1"))
    for appointment_id, expected in (("a1", "moved"), ("a2", "reversed"), ("a3", "unknown")):
        cancellation = facts.Reversal("/s", "r", at(6), events.APPOINTMENT_CANCELLED, appointment_id)
        assert effect(cancellation, [second, first]) == expected


def test_one_of_several_last_appointments_is_only_a_part() -> None:
    hits = [hit("h1", 3, events.AppointmentBooked("c1", "a1"))]
    hits += [hit(f"h{n}", 4, events.AppointmentBooked("c1", n, replaces_appointment_id="a1")) for n in ("a2", "a3")]
    both = [facts.Reversal("/s", f"r-{n}", at(6), events.APPOINTMENT_CANCELLED, n) for n in ("a2", "a3")]
    assert effect(both[0], hits) == "partial"
    assert effect(both[0], hits, both[1]) == "reversed"


def test_every_kind_and_effect_is_of_the_closed_list() -> None:
    assert reversal_effects.KINDS == ("refunded", "failed", "cancelled", "rejected")
    assert {reversal_effects.kind_of(type_) for type_ in events.REVERSAL_TYPES} == set(reversal_effects.KINDS)
