"""Cost of reversals for a contact with very many, such as one for all guests of a shop, in steps of the interpreter."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import FrameType
from typing import Any, Final
from uuid import UUID

import pytest
from msgspec import Struct, structs

from goalworker.domain import events, facts, goals, reversal_effects, verdicts
from goalworker.domain.criteria import Criteria

START: Final = datetime(2026, 5, 1, tzinfo=UTC)
GOAL_ID: Final = UUID(int=7)
ENROLLMENT: Final = facts.Enrollment("north", "e1", "w1", "c1", START)
MEASURE: Final = (goals.LogicVersion("never", START),)


class Contact(Struct, frozen=True):
    """Facts of a contact; %d is the number of an event, and %b that of the one before it."""

    goal_type: str
    data: str
    reversal_type: str
    subject: str
    criteria: Criteria = Criteria()
    refund: tuple[Decimal, str] | None = None


PAID: Final = '{"payment_id":"p-%d","amount":"50","currency":"EUR"}'
CHAIN: Final = '{"appointment_id":"a-%d","replaces_appointment_id":"a-%b"}'
CONTACTS: Final = {
    "whole refunds": Contact("purchase_made", PAID, events.PAYMENT_REFUNDED, "p-%d"),
    "partial refunds": Contact("purchase_made", PAID, events.PAYMENT_REFUNDED, "p-%d", refund=(Decimal(1), "EUR")),
    "refunds of one payment": Contact(
        "purchase_made", PAID, events.PAYMENT_REFUNDED, "p-0", refund=(Decimal("0.01"), "EUR")
    ),
    "events of one payment": Contact(
        "purchase_made", PAID.replace("%d", "0"), events.PAYMENT_REFUNDED, "p-0", refund=(Decimal("0.01"), "EUR")
    ),
    "a sum": Contact(
        "purchase_made",
        PAID,
        events.PAYMENT_REFUNDED,
        "p-%d",
        Criteria(currency="EUR", total_amount=Decimal(1_000), within=86_400),
        (Decimal(1), "EUR"),
    ),
    "failures": Contact("purchase_made", PAID, events.PAYMENT_FAILED, "p-%d"),
    "rejections": Contact("form_submitted", '{"submission_id":"s-%d"}', events.FORM_REJECTED, "s-%d"),
    "cancellations": Contact("appointment_booked", '{"appointment_id":"a-%d"}', events.APPOINTMENT_CANCELLED, "a-%d"),
    "a chain": Contact("appointment_booked", CHAIN, events.APPOINTMENT_CANCELLED, "a-%d"),
}


@pytest.mark.parametrize("name", CONTACTS)
def test_twice_as_many_reversals_take_about_twice_as_long_to_judge(name: str) -> None:
    assert _steps(_judging(CONTACTS[name], 240)) < 2.6 * _steps(_judging(CONTACTS[name], 120))


@pytest.mark.parametrize("name", CONTACTS)
def test_twice_as_many_reversals_take_about_twice_as_long_to_count(name: str) -> None:
    assert _steps(_effects(CONTACTS[name], 240)) < 2.6 * _steps(_effects(CONTACTS[name], 120))


def test_an_achievement_with_many_events_of_one_payment_is_revoked_in_no_time() -> None:
    assert _steps(_revocation(240)) < 2.6 * _steps(_revocation(120))


def _judging(contact: Contact, count: int) -> Callable[[], object]:
    hits, reversals, workflow = _hits(contact, count), _reversals(contact, count), _workflow(contact)
    return lambda: verdicts.verdict_of(ENROLLMENT, (), hits, (), workflow, START, reversals, tracking=True)


def _effects(contact: Contact, count: int) -> Callable[[], object]:
    hits, reversals = _hits(contact, count), _reversals(contact, count)

    def effects() -> list[str]:
        history = reversal_effects.History(hits, reversals)
        return [history.effect_of(reversal) for reversal in reversals]

    return effects


def _revocation(count: int) -> Callable[[], object]:
    contact = CONTACTS["events of one payment"]
    first, *others = _hits(contact, count)
    kept = tuple((hit.goal_version, hit.trigger) for hit in others)
    stored = facts.Achievement(GOAL_ID, 1, START, first.trigger, 1, others=kept)
    failed = [facts.Reversal("/crm", "f", START + timedelta(days=1), events.PAYMENT_FAILED, "p-0")]
    workflow = _workflow(contact)

    def revoke() -> None:
        verdict = verdicts.verdict_of(ENROLLMENT, [stored], (), (), workflow, START, failed, tracking=True)
        assert verdict is not None
        assert [(change.kind, len(change.achievement.others)) for change in verdict.changes] == [("revoked", count - 1)]

    return revoke


def _workflow(contact: Contact) -> goals.Workflow:
    version = goals.GoalVersion(1, contact.criteria, True, START)
    goal = goals.Goal("north", GOAL_ID, "w1", contact.goal_type, START, (version,))
    return goals.Workflow((goal,), MEASURE)


def _hits(contact: Contact, count: int) -> list[facts.Hit]:
    data = [_numbered(contact.data, number) for number in range(count)]
    triggers = [facts.Trigger("/crm", f"{n:05}", _at(n), text.encode()) for n, text in enumerate(data)]
    return [facts.Hit("north", "w1", "c1", GOAL_ID, 1, trigger) for trigger in triggers]


def _reversals(contact: Contact, count: int) -> Sequence[facts.Reversal]:
    return [_reversal(contact, number, _at(count + number)) for number in range(count)]


def _reversal(contact: Contact, number: int, time: datetime) -> facts.Reversal:
    subject = _numbered(contact.subject, number)
    reversal = facts.Reversal("/crm", f"r{number:05}", time, contact.reversal_type, subject)
    if contact.refund is None:
        return reversal
    amount, currency = contact.refund
    return structs.replace(reversal, refund_id=f"r-{number}", amount=amount, currency=currency)


def _numbered(text: str, number: int) -> str:
    return text.replace("%d", str(number)).replace("%b", str(number - 1))


def _at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds + 1)


def _steps(work: Callable[[], object]) -> int:
    """Return the number of the interpreter's steps; it works once before, so that caches are filled."""
    work()
    steps = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal steps
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        steps += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps
