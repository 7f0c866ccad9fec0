"""The naive judge against examples computed by hand from the sentences of the contract, sections 3 and 5."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from goalworker.domain import events, goals
from goalworker.domain.criteria import Criteria
from tests.kit import naive_judge

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)
EUR = Criteria(currency="EUR")
FORM = Criteria(form_id="f1")
NUMBERS = itertools.count()


def at(seconds: float) -> datetime:
    """Return a moment in seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def happened(type_: str, seconds: float, data: Any, event_id: str | None = None) -> events.Event:
    """Return an event with an id of its own, unless one is given."""
    return events.Event("north", "/crm", event_id or f"{next(NUMBERS):09}", type_, at(seconds), data)


def paid(seconds: float, payment: str = "p1", amount: str = "100", currency: str = "EUR", **more: Any) -> events.Event:
    data = events.PaymentCompleted("c1", payment, Decimal(amount), currency)
    return happened("payment.completed", seconds, data, **more)


def refunded(
    seconds: float, amount: str | None = None, currency: str | None = "EUR", refund_id: str | None = None
) -> events.Event:
    whole = amount is None
    data = events.PaymentRefunded(
        "c1", "p1", refund_id, None if amount is None else Decimal(amount), None if whole else currency
    )
    return happened("payment.refunded", seconds, data)


def failed(seconds: float, payment: str = "p1") -> events.Event:
    return happened("payment.failed", seconds, events.PaymentFailed("c1", payment))


def booked(seconds: float, appointment: str, replaces: str | None = None) -> events.Event:
    data = events.AppointmentBooked("c1", appointment, replaces_appointment_id=replaces)
    return happened("appointment.booked", seconds, data)


def cancelled(seconds: float, appointment: str) -> events.Event:
    return happened("appointment.cancelled", seconds, events.AppointmentCancelled("c1", appointment))


def submitted(seconds: float, submission: str | None = None, correlation_id: str | None = None) -> events.Event:
    return happened("form.submitted", seconds, events.FormSubmitted("c1", "f1", submission, correlation_id))


def rejected(seconds: float, submission: str) -> events.Event:
    return happened("form.rejected", seconds, events.FormRejected("c1", submission))


def started(seconds: float = 0, enrollment: str = "e1", **more: Any) -> events.Event:
    data = events.EnrollmentChanged("w1", enrollment, "c1", **more)
    return happened(events.ENROLLMENT_STARTED, seconds, data)


def ended(seconds: float) -> events.Event:
    return happened(events.ENROLLMENT_ENDED, seconds, events.EnrollmentChanged("w1", "e1", "c1"))


def workflow(type_: str, seconds: float) -> events.Event:
    return happened(f"workflow.{type_}", seconds, events.WorkflowChanged("w1"))


def goal(
    *lives: Criteria | None, goal_id: UUID = ONE, changes: Iterable[float] = (), created: float = -99
) -> goals.Goal:
    """Return a goal with one version for each of the criteria (None: paused), changed at these moments."""
    starts = [created, *changes]
    versions = tuple(
        goals.GoalVersion(number, life or Criteria(), life is not None, at(since), None if until is None else at(until))
        for number, (life, since, until) in enumerate(zip(lives, starts, [*changes, None], strict=True), start=1)
    )
    kind = "purchase_made" if any(life and life.currency for life in lives) else "appointment_booked"
    kind = "form_submitted" if any(life and life.form_id for life in lives) else kind
    return goals.Goal("north", goal_id, "w1", kind, at(created), versions)


def logic(*changes: tuple[str, float]) -> tuple[goals.LogicVersion, ...]:
    return tuple(goals.LogicVersion(name, at(since)) for name, since in changes)


def judged(
    given: goals.Goal | list[goals.Goal], *messages: events.Event, logics: tuple[goals.LogicVersion, ...] = ()
) -> naive_judge.Answer:
    """Judge enrollment e1, which starts at noon unless a message says otherwise."""
    if not any(event.type == events.ENROLLMENT_STARTED for event in messages):
        messages = (started(), *messages)
    all_goals = given if isinstance(given, list) else [given]
    answered = naive_judge.everything(all_goals, {("north", "w1"): logics}, messages)
    return {enrolled.enrollment_id: one for enrolled, one in answered.items()}["e1"]


def achieved_at(answer: naive_judge.Answer, goal_id: UUID = ONE) -> float | None:
    """Return the seconds after noon at which a goal was achieved."""
    found = answer.achieved.get(goal_id)
    return None if found is None else (found.at.time - NOON).total_seconds()


def completed(answer: naive_judge.Answer) -> tuple[UUID, datetime] | None:
    """Return the completing goal and the time of the satisfying event."""
    return None if answer.satisfied is None else (answer.satisfied.goal_id, answer.satisfied.at.time)


# --- rules 1 and 2 ---


def test_a_list_of_ids_means_any_of_them() -> None:
    listed: Any = ("f0", "f1")
    assert achieved_at(judged(goal(Criteria(form_id=listed)), submitted(1))) == 1


def test_a_stage_event_without_a_move_hits_nothing() -> None:
    stage = Criteria(pipeline_id="pl", stage_id="st")
    assert naive_judge.meets(stage, events.StageChanged("c1", "pl", "st", "another"))
    assert not naive_judge.meets(stage, events.StageChanged("c1", "pl", "st", "st"))


@pytest.mark.parametrize(("moment", "counts"), [(0, True), (0.4, False), (0.5, True), (9.999999, True), (10, False)])
def test_whole_seconds_are_compared_with_the_start_cut_to_the_second(moment: float, counts: bool) -> None:
    answer = judged(goal(FORM), started(0.5), ended(10), submitted(moment))
    assert achieved_at(answer) == (moment if counts else None)


def test_the_founding_event_and_its_occurrence_never_count() -> None:
    founder = submitted(1, "s1")
    begun = started(0, started_by=events.EventReference(founder.source, founder.id))
    assert achieved_at(judged(goal(FORM), begun, founder, submitted(2, "s1"))) is None
    assert achieved_at(judged(goal(FORM), begun, founder, submitted(2, "s2"))) == 2


def test_a_deadline_is_inclusive() -> None:
    assert achieved_at(judged(goal(Criteria(form_id="f1", deadline=2)), submitted(2))) == 2
    assert achieved_at(judged(goal(Criteria(form_id="f1", deadline=2)), submitted(2.000001))) is None


def test_a_correlated_goal_asks_for_the_id_of_the_earliest_start_that_has_one() -> None:
    correlated = goal(Criteria(form_id="f1", correlate_by="correlation_id"))
    starts = started(0), started(1, correlation_id="b"), started(1, correlation_id="c"), started(2, correlation_id="a")
    assert achieved_at(judged(correlated, *starts, submitted(3, None, "a"), submitted(4, None, "b"))) == 4
    assert achieved_at(judged(correlated, submitted(3))) is None


# --- rule 3 ---


def test_an_occurrence_counts_once_as_the_earliest() -> None:
    twice = goal(Criteria(currency="EUR", times=2))
    assert achieved_at(judged(twice, paid(1), paid(2))) is None
    assert achieved_at(judged(twice, paid(1), paid(2), paid(3, "p2"))) == 3
    assert achieved_at(judged(goal(Criteria(form_id="f1", times=2)), submitted(1), submitted(2))) == 2


def test_a_chain_of_appointments_is_one_occurrence() -> None:
    twice = goal(Criteria(times=2))
    chain = booked(1, "a1"), booked(3, "a3", "a2"), booked(2, "a2", "a1")
    assert achieved_at(judged(twice, *chain)) is None
    assert achieved_at(judged(twice, *chain, booked(4, "a4"))) == 4


def test_an_occurrence_that_began_before_the_window_never_counts() -> None:
    assert achieved_at(judged(goal(EUR), paid(-2), paid(1))) is None
    assert achieved_at(judged(goal(EUR), paid(-2), failed(-1), paid(1))) is None


def test_a_failure_undoes_up_to_its_own_time() -> None:
    assert achieved_at(judged(goal(EUR), paid(1), failed(1))) is None
    assert achieved_at(judged(goal(EUR), paid(1), failed(2), paid(3))) == 3
    assert achieved_at(judged(goal(Criteria(currency="EUR", reversals="keep")), paid(1), failed(2))) == 1
    assert achieved_at(judged(goal(FORM), submitted(1, "s1"), rejected(2, "s1"))) is None


def test_only_the_last_appointment_of_a_chain_can_be_cancelled() -> None:
    chain = booked(1, "a1"), booked(2, "a2", "a1")
    assert achieved_at(judged(goal(Criteria()), *chain, cancelled(3, "a1"))) == 1
    assert achieved_at(judged(goal(Criteria()), *chain, cancelled(3, "a2"))) is None
    fork = (*chain, booked(2, "a3", "a1"))
    assert achieved_at(judged(goal(Criteria()), *fork, cancelled(3, "a2"))) == 1
    assert achieved_at(judged(goal(Criteria()), *fork, cancelled(3, "a2"), cancelled(4, "a3"))) is None


def test_one_that_replaces_itself_is_last_and_a_circle_has_no_last() -> None:
    assert achieved_at(judged(goal(Criteria()), booked(1, "a1", "a1"), cancelled(3, "a1"))) is None
    circle = booked(1, "a1", "a2"), booked(2, "a2", "a1")
    assert achieved_at(judged(goal(Criteria()), *circle, cancelled(3, "a1"), cancelled(3, "a2"))) == 1


@pytest.mark.parametrize(
    ("refunds", "counts"),
    [
        ([("60", "EUR", "r1"), ("40", "eur", "r2")], False),
        ([("60", "EUR", "r1"), ("40", "EUR", "r1")], True),  # one refund, as its earliest message says it
        ([("60", "EUR", "r1"), ("40", "USD", "r2")], True),
        ([("60", "EUR", None), ("60", "EUR", None)], False),
        ([(None, None, None)], False),
        ([("99.99", "EUR", None)], True),
    ],
)
def test_refunds_reverse_once_they_add_up_to_the_amount(refunds: list[Any], counts: bool) -> None:
    messages = [refunded(number, *one) for number, one in enumerate(refunds, 2)]
    assert achieved_at(judged(goal(EUR), paid(1), *messages)) == (1 if counts else None)


def test_refunds_reverse_at_the_one_that_completes_and_any_after_it() -> None:
    half = refunded(2, "50"), refunded(4, "50")
    assert achieved_at(judged(goal(EUR), paid(1), *half, paid(3))) is None
    assert achieved_at(judged(goal(EUR), paid(1), *half, paid(5))) == 5
    assert achieved_at(judged(goal(EUR), paid(1), *half, paid(5), refunded(6, "1"))) is None


# --- rule 4 ---


def test_times_counts_what_lies_within_and_not_what_comes_later() -> None:
    twice = goal(Criteria(form_id="f1", times=2, within=2))
    answer = judged(twice, submitted(1), submitted(3), submitted(4.9))
    assert (achieved_at(answer), answer.achieved[ONE].occurrences, answer.achieved[ONE].total_amount) == (4.9, 2, None)


def test_a_total_is_of_one_currency_and_of_all_versions() -> None:
    total = Criteria(currency="EUR", total_amount=Decimal(150))
    versions = goal(Criteria(currency="USD"), None, total, changes=(2, 3), created=-1)
    answer = judged(
        versions, paid(1, "p1", "500", "USD"), paid(4, "p2", "100"), paid(5, "p3", "70"), logics=logic(("never", -9))
    )
    assert answer.achieved[ONE].goal_version == 1
    answer = judged(
        goal(Criteria(currency="USD", total_amount=Decimal(999)), total, changes=(2,)),
        paid(1, "p1", "500", "USD"), paid(4, "p2", "100"), paid(5, "p3", "70"),
    )  # fmt: skip
    assert answer.achieved[ONE] == naive_judge.Achieved(answer.achieved[ONE].at, 2, 2, Decimal(170))
    assert achieved_at(answer) == 5


def test_satisfaction_is_asked_at_every_event_that_hits_an_achieved_goal() -> None:
    answer = judged(goal(FORM), submitted(1), submitted(3), logics=logic(("never", -9), ("any", 2)))
    assert achieved_at(answer) == 1
    assert (completed(answer), answer.converted_at) == ((ONE, at(3)), at(3))


def test_all_asks_for_the_goals_in_force_and_a_deletion_alone_satisfies_nobody() -> None:
    both = [goal(FORM), goal(EUR, None, goal_id=TWO, changes=(2,))]
    assert judged(both, submitted(1), logics=logic(("all", -9))).satisfied is None
    answer = judged(both, submitted(1), submitted(3), submitted(4), logics=logic(("all", -9)))
    assert completed(answer) == (ONE, at(3))


def test_the_completing_goal_is_first_a_newly_achieved_one() -> None:
    twice = Criteria(form_id="f1", times=2)
    answer = judged([goal(FORM), goal(twice, goal_id=TWO)], submitted(1), submitted(2), logics=logic(("all", -9)))
    assert completed(answer) == (TWO, at(2))
    answer = judged([goal(FORM), goal(FORM, goal_id=TWO, created=-100)], submitted(1))
    assert (completed(answer), set(answer.achieved)) == ((TWO, at(1)), {ONE, TWO})


def test_the_walk_stops_where_the_workflow_is_satisfied() -> None:
    answer = judged([goal(FORM), goal(EUR, goal_id=TWO)], submitted(2), paid(1))
    assert (achieved_at(answer), achieved_at(answer, TWO)) == (None, 1)


def test_an_exit_waits_for_the_next_activation_that_nothing_overrules() -> None:
    paused = [workflow("deactivated", 1), workflow("activated", 1), submitted(1)]
    assert judged(goal(FORM), *paused).exit_waits
    assert achieved_at(judged(goal(FORM), *paused)) == 1
    assert judged(goal(FORM), *paused, workflow("activated", 2), workflow("deactivated", 2)).exit_waits
    assert not judged(goal(FORM), *paused, workflow("activated", 3)).exit_waits
    assert not judged(goal(FORM), submitted(1), workflow("deactivated", 2)).exit_waits


def test_in_never_the_first_achievement_converts() -> None:
    answer = judged(goal(FORM), submitted(1), submitted(2), logics=logic(("never", -9)))
    assert (answer.satisfied, answer.converted_at, answer.exit_waits) == (None, at(1), False)


# --- section 5: revenue ---


def money(answer: naive_judge.Answer) -> dict[str, tuple[int, ...]]:
    """Return revenue in whole units."""
    return {currency: tuple(map(int, sums)) for currency, sums in naive_judge.revenue([("c1", answer)]).items()}


def test_revenue_counts_what_would_be_there_had_nothing_been_reversed() -> None:
    assert money(judged(goal(EUR), paid(1), failed(2))) == {"EUR": (100, 100, 0)}
    assert money(judged(goal(EUR), paid(1), failed(2), paid(3, "p2", "30"))) == {"EUR": (130, 100, 30)}
    assert money(judged(goal(EUR), paid(1), refunded(2, "30"), refunded(0, "50"))) == {"EUR": (100, 30, 70)}
    assert money(judged(goal(Criteria(currency="EUR", reversals="keep")), paid(1), refunded(2, "300"))) == {
        "EUR": (100, 100, 0)
    }


def test_revenue_counts_every_occurrence_and_each_payment_once() -> None:
    both = [goal(Criteria(currency="EUR", times=2)), goal(Criteria(currency="EUR", min_amount=Decimal(1)), goal_id=TWO)]
    answer = judged(both, paid(1, "p1", "10"), paid(2, "p2", "20"), logics=logic(("all", -9)))
    assert money(answer) == {"EUR": (30, 0, 30)}
    twice = [("c1", answer), ("c1", answer), ("c2", answer)]
    assert naive_judge.revenue(twice)["EUR"] == (Decimal(60), Decimal(0), Decimal(60))


# --- the switches ---


def test_a_rule_that_is_switched_off_is_not_followed() -> None:
    messages = [started(), submitted(-1)]
    assert not naive_judge.answers([goal(FORM)], {}, messages)[0]
    without = frozenset({"is_before_window", "repeats_older_occurrence"})
    assert naive_judge.answers([goal(FORM)], {}, messages, without=without)[0]
    with pytest.raises(AssertionError, match="no such rules"):
        naive_judge.answers([goal(FORM)], {}, messages, without=frozenset({"no_rule"}))
