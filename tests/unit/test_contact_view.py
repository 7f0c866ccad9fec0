"""A contact's timeline as its page shows it: sentences, details, clauses, and no id of the contact until asked for."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from msgspec import json, structs

from goalworker.console import contact_view
from goalworker.domain import events, timelines
from goalworker.domain.criteria import Criteria
from goalworker.domain.timelines import Entry, Position
from tests.unit import test_summaries as scenes

AT = scenes.PAID
MASKED = contact_view.Mask("c-17", "c…7")
NAMED = contact_view.NamedGoal(scenes.goal(Criteria(min_amount=Decimal(50))), "Big spender")
SCENE = contact_view.Scene("t1", MASKED, {scenes.GOAL: NAMED})
PAID = '{"contact_id":"c-17","payment_id":"pay-1","amount":"49.90","currency":"eur","product_ids":["a","b"]}'
KEPT = timelines.Happened("payment.completed", "/shop", "evt-1", PAID, "payment-completed", 3, 7)


def _line(fact: timelines.Fact, kind: str = timelines.EVENT, scene: contact_view.Scene = SCENE) -> contact_view.Line:
    entry = Entry(Position(AT, timelines.RANKS.index(kind), ("x",)), fact)
    ((line,),) = [day.lines for day in contact_view.days([entry], scene)]
    return line


def _fields(given: tuple[contact_view.Field, ...]) -> dict[str, str]:
    return {field.name: field.value for field in given}


def test_an_event_is_a_sentence_with_its_data_and_where_its_record_is() -> None:
    line = _line(KEPT)
    assert (line.title, line.kind_name, line.is_failure) == ("Paid 49.90 EUR", "Event", False)
    assert _fields(line.fields) == {
        "type": "payment.completed",
        "source": "/shop",
        "event id": "evt-1",
        "topic": "payment-completed",
        "partition": "3",
        "offset": "7",
    }
    assert _fields(line.data) == {
        "contact_id": "c…7",
        "payment_id": "pay-1",
        "amount": "49.90",
        "currency": "eur",
        "product_ids": "a, b",
    }


def test_an_event_is_shown_beside_the_goals_of_its_type_with_each_clause() -> None:
    (beside,) = _line(KEPT).beside
    assert (beside.label, beside.workflow_id, beside.verdict) == ("Big spender", "onboarding", "misses the criteria")
    assert beside.clauses == (contact_view.Checked("failed", "✗", "/min_amount is at least 50: the event has 49.90"),)
    tag = timelines.Happened("contact.tag.added", "/crm", "t", '{"contact_id":"c-17","tag_id":"vip"}')
    assert _line(tag).beside == ()


def test_a_goal_that_was_not_in_force_is_said_to_be_so() -> None:
    deleted = scenes.goal(Criteria(), until=scenes.MADE + timedelta(days=1))
    scene = structs.replace(SCENE, goals={scenes.GOAL: contact_view.NamedGoal(deleted, None)})
    (beside,) = _line(KEPT, scene=scene).beside
    assert (beside.verdict, beside.clauses) == ("the goal was not in force then", ())


REVERSALS = [
    (events.PAYMENT_REFUNDED, {"payment_id": "p"}, "Payment p was refunded"),
    (
        events.PAYMENT_REFUNDED,
        {"payment_id": "p", "amount": "9.5", "currency": "eur"},
        "Payment p was refunded (9.50 EUR)",
    ),
    (events.PAYMENT_FAILED, {"payment_id": "p"}, "Payment p failed"),
    (events.APPOINTMENT_CANCELLED, {"appointment_id": "a"}, "Appointment a was cancelled"),
    (events.FORM_REJECTED, {"submission_id": "s"}, "Form submission s was rejected"),
]


@pytest.mark.parametrize(("type_", "data", "title"), REVERSALS)
def test_a_reversal_is_a_failure(type_: str, data: dict[str, Any], title: str) -> None:
    line = _line(timelines.Happened(type_, "/bank", "r", json.encode({"contact_id": "c-17", **data}).decode()))
    assert (line.title, line.is_failure, line.beside) == (title, True, ())
    assert "topic" not in _fields(line.fields)


def test_a_hit_names_its_goal_and_the_clauses_that_it_met() -> None:
    data = PAID.replace("49.90", "50.00")
    line = _line(timelines.Hit("onboarding", scenes.GOAL, 1, "/shop", "evt-1", data), timelines.HIT)
    assert line.title == "Paid 50.00 EUR, which met the goal Big spender"
    assert (line.workflow_id, line.goal_id, line.goal_label) == ("onboarding", scenes.GOAL, "Big spender")
    assert [clause.word for clause in line.beside[0].clauses] == ["passed"]


def test_a_goal_that_is_not_known_is_named_by_its_id() -> None:
    line = _line(timelines.Hit("w", UUID(int=9), 1, "/shop", "evt-1", PAID), timelines.HIT)
    assert (line.title, line.beside) == (f"Met the goal {UUID(int=9)}", ())


def _achieved(revoked_at: datetime | None = None) -> timelines.Achieved:
    of = ("e-1", "onboarding", scenes.GOAL, 1, "purchase_made", "/shop", "evt-1", PAID)
    return timelines.Achieved(*of, 2, revoked_at)


def test_an_achievement_is_a_failure_once_it_was_revoked() -> None:
    line = _line(_achieved(), timelines.ACHIEVEMENT)
    assert (line.title, line.is_failure) == ("Achieved the goal Big spender", False)
    line = _line(_achieved(AT), timelines.ACHIEVEMENT)
    assert (line.title, line.is_failure) == ("Achievement of the goal Big spender was revoked", True)
    assert _fields(line.fields)["revoked"] == "2026-05-01 12:00:00 UTC"


def test_an_exit_names_the_goals_behind_it() -> None:
    goals_ = (scenes.GOAL, UUID(int=9))
    line = _line(
        timelines.ExitSent("e-1", "onboarding", scenes.GOAL, "purchase_made", "all", goals_, AT), timelines.EXIT
    )
    assert line.title == "Exit from onboarding was sent for the goal Big spender"
    assert _fields(line.fields)["goals"] == f"Big spender and {UUID(int=9)}"


def test_starts_and_ends_name_the_workflow() -> None:
    started = timelines.Enrollment("e-1", "onboarding", "corr", "/crm", "evt-0")
    line = _line(started, timelines.STARTED)
    assert line.title == "Enrolled in onboarding"
    assert _fields(line.fields) == {
        "enrollment": "e-1",
        "correlation id": "corr",
        "started by source": "/crm",
        "started by event": "evt-0",
    }
    assert _line(structs.replace(started), timelines.ENDED).title == "Enrollment ended in onboarding"


def test_entries_are_grouped_by_the_day_in_utc() -> None:
    entries = [
        Entry(Position(scenes.time(text), 1, ("x",)), KEPT)
        for text in ("05-02T00:00:00", "05-01T23:59:59", "05-01T00:00:00")
    ]
    found = contact_view.days(entries, SCENE)
    assert [(day.date, len(day.lines)) for day in found] == [(date(2026, 5, 2), 1), (date(2026, 5, 1), 2)]


def test_an_id_of_the_contact_stands_nowhere_while_it_is_masked() -> None:
    untracked = "contact:onboarding:c-17"
    facts_: list[timelines.Fact] = [
        KEPT,
        structs.replace(KEPT, source="c-17", id="c-17"),
        timelines.Enrollment(untracked, "onboarding", "c-17", "c-17", "c-17"),
        structs.replace(_achieved(), enrollment_id=untracked),
        timelines.ExitSent(untracked, "onboarding", scenes.GOAL, "purchase_made", "any", (scenes.GOAL,), AT),
    ]
    kinds = [timelines.EVENT, timelines.EVENT, timelines.STARTED, timelines.ACHIEVEMENT, timelines.EXIT]
    for fact, kind in zip(facts_, kinds, strict=True):
        assert "c-17" not in json.encode(_line(fact, kind)).decode()
    revealed = structs.replace(SCENE, mask=contact_view.Mask("c-17", "c-17"))
    assert _fields(_line(KEPT, scene=revealed).data)["contact_id"] == "c-17"


def test_texts_from_outside_cannot_turn_or_break_their_line() -> None:
    hostile = structs.replace(KEPT, source="a\u202eb", data=PAID.replace("pay-1", "p\u200f"))
    line = _line(hostile)
    assert _fields(line.fields)["source"] == "a\\u202eb"
    assert _fields(line.data)["payment_id"] == "p\\u200f"


def test_of_a_long_list_the_first_values_are_shown() -> None:
    products = json.encode([f"p{number}" for number in range(1_000)]).decode()
    shown = _fields(_line(structs.replace(KEPT, data=PAID.replace('["a","b"]', products))).data)["product_ids"]
    assert shown.endswith("p19, and 980 others")
