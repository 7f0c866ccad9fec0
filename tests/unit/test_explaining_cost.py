"""Cost of explaining a contact with very many events, in calls of Python functions, which no load changes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Final
from uuid import UUID

import pytest
from msgspec import structs

from goalworker.domain import events, explaining, facts, gates, goals, judging
from goalworker.domain.criteria import Criteria
from goalworker.domain.explanations import ContactFacts, Run
from tests.kit import calls, contact_facts

BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)
EARLIER, LATER = BEGAN - timedelta(days=30), BEGAN + timedelta(days=30)
RUNS: Final = {
    "before": (LATER, None, None),
    "after the end": (EARLIER, BEGAN, None),
    "within": (BEGAN, None, None),
    "started by one": (BEGAN, None, "7"),
}
REASONS: Final = {
    "before": gates.BEFORE_ENROLLMENT,
    "after the end": gates.AFTER_END,
    "within": gates.NO_EVENT,
    "started by one": gates.NO_EVENT,
}


def _known(run: str, number: int) -> ContactFacts:
    """Return a contact with payments, of which one goal wants any and another one much more."""
    enrolled_at, ended_at, founder = RUNS[run]
    began = facts.Enrollment("north", "e1", "w1", "c1", enrolled_at, ended_at)
    enrollment = structs.replace(began, started_by_source=founder and "/shop", started_by_id=founder)
    goals_ = tuple(_goal(number, asked) for number, asked in enumerate((Criteria(), Criteria(min_amount=Decimal(99)))))
    happened = [_payment(number) for number in range(number)]
    workflow = goals.Workflow(goals_)
    known = ContactFacts(
        *("north", "w1", "c1"), workflow, [Run(enrollment)], happened, (), (), (), contact_facts.COMPLETE, LATER
    )
    assert explaining.explain(known)[0].reason == REASONS[run]
    return known


def _goal(number: int, criteria: Criteria) -> goals.Goal:
    version = goals.GoalVersion(1, criteria, True, EARLIER - timedelta(days=1))
    return goals.Goal("north", UUID(int=number), "w1", "purchase_made", version.active_from, (version,))


def _payment(number: int) -> events.Event:
    data = events.PaymentCompleted("c1", f"p-{number}", Decimal(50), "EUR")
    at = BEGAN + timedelta(minutes=number)
    return events.Event("north", "/shop", str(number), "payment.completed", at, data)


def _calls(run: str, number: int) -> int:
    return calls.calls_of(partial(explaining.answer, _known(run, number)))


@pytest.mark.parametrize("run", RUNS)
def test_a_further_event_costs_a_bounded_number_of_calls(run: str) -> None:
    assert (_calls(run, 400) - _calls(run, 200)) / 200 <= 100


@pytest.mark.parametrize("run", RUNS)
def test_the_judge_is_asked_as_often_however_many_events_there_are(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = _known(run, 50), _known(run, 100)
    asked: list[int] = []
    for name in ("judge", "counting"):
        monkeypatch.setattr(judging, name, _noting(asked, getattr(judging, name)))
    explaining.answer(few)
    of_few = len(asked)
    explaining.answer(many)
    assert len(asked) == 2 * of_few
    assert of_few <= 40


def _noting(asked: list[int], work: Callable[..., object]) -> Callable[..., object]:
    def noting(*given: object, **options: object) -> object:
        asked.append(1)
        return work(*given, **options)

    return noting
