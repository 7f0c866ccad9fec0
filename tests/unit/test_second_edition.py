"""Windows, occurrences, reversals, thresholds and waiting exits, rule by rule (contract section 3)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from goalworker.domain import events, facts, goals, judging
from goalworker.domain.criteria import Criteria
from goalworker.goal_index import index, matching

ONE, TWO = UUID(int=1), UUID(int=2)
START = datetime(2026, 5, 1, tzinfo=UTC)
ALWAYS = START - timedelta(days=400)
NEVER = (goals.LogicVersion("never", ALWAYS),)


def at(seconds: float) -> datetime:
    """Return a moment, in seconds after the start."""
    return START + timedelta(seconds=seconds)


def goal(goal_type: str = "purchase_made", goal_id: UUID = ONE, **criteria: Any) -> goals.Goal:
    """Return a goal that was always in force."""
    version = goals.GoalVersion(1, Criteria(**criteria), True, ALWAYS)
    return goals.Goal("north", goal_id, "w1", goal_type, ALWAYS, (version,))


def changed(before: goals.Goal, seconds: float, **criteria: Any) -> goals.Goal:
    """Return a goal whose criteria were changed."""
    first = before.versions[-1]
    ended = goals.GoalVersion(first.number, first.criteria, True, first.active_from, at(seconds))
    then = goals.GoalVersion(first.number + 1, Criteria(**criteria), True, at(seconds))
    return goals.Goal("north", before.goal_id, "w1", before.goal_type, ALWAYS, (*before.versions[:-1], ended, then))


def event(seconds: float, data: Any, type_: str, id_: str | None = None) -> events.Event:
    """Return an event of contact c1, whose id is its time if it has no other."""
    return events.Event("north", "/crm", id_ or f"{seconds:012.6f}", type_, at(seconds), data)


def paid(
    seconds: float, payment_id: str = "pay-1", amount: str = "50", currency: str = "EUR", **more: Any
) -> events.Event:
    """Return a payment."""
    data = events.PaymentCompleted("c1", payment_id, Decimal(amount), currency, **more)
    return event(seconds, data, "payment.completed")


def booked(seconds: float, appointment_id: str, replaces: str | None = None) -> events.Event:
    """Return an appointment."""
    data = events.AppointmentBooked("c1", appointment_id, replaces_appointment_id=replaces)
    return event(seconds, data, "appointment.booked")


def submitted(seconds: float, submission_id: str | None, form_id: str = "f1") -> events.Event:
    """Return a submission of a form."""
    return event(seconds, events.FormSubmitted("c1", form_id, submission_id), "form.submitted")


def tagged(seconds: float, **more: Any) -> events.Event:
    """Return an added tag."""
    return event(seconds, events.TagAdded("c1", "vip", **more), "contact.tag.added")


def refunded(
    seconds: float,
    amount: str | None = None,
    currency: str = "EUR",
    refund_id: str | None = None,
    payment_id: str = "pay-1",
) -> events.Event:
    """Return a refund; without an amount, of the whole payment."""
    exact = None if amount is None else Decimal(amount)
    data = events.PaymentRefunded("c1", payment_id, refund_id, exact, None if exact is None else currency)
    return event(seconds, data, events.PAYMENT_REFUNDED)


def failed(seconds: float, payment_id: str = "pay-1") -> events.Event:
    """Return a payment's failure."""
    return event(seconds, events.PaymentFailed("c1", payment_id), events.PAYMENT_FAILED)


def cancelled(seconds: float, appointment_id: str) -> events.Event:
    """Return an appointment's cancellation."""
    return event(seconds, events.AppointmentCancelled("c1", appointment_id), events.APPOINTMENT_CANCELLED)


def rejected(seconds: float, submission_id: str) -> events.Event:
    """Return a submission's rejection."""
    return event(seconds, events.FormRejected("c1", submission_id), events.FORM_REJECTED)


def judged(
    happened: Sequence[events.Event],
    *all_goals: goals.Goal,
    logics: tuple[goals.LogicVersion, ...] = (),
    enrolled: float = 0,
    ended: float | None = None,
    **enrollment: Any,
) -> judging.Judgement:
    """Judge contact c1, enrolled at the start."""
    goal_index = index.Index()
    goal_index.replace(all_goals, {}, revision=1)
    whose = facts.Enrollment(
        "north", "e1", "w1", "c1", at(enrolled), None if ended is None else at(ended), **enrollment
    )
    reversals = [facts.reversal_of(one) for one in happened if one.type in events.REVERSAL_TYPES]
    hits = matching.all_hits(happened, goal_index)
    return judging.judge(whose, hits, goals.Workflow(all_goals, logics), reversals)


def achieved_at(happened: Sequence[events.Event], *all_goals: goals.Goal, **more: Any) -> list[float]:
    """Return the moments of the achievements, in seconds after the start."""
    return [
        (hit.trigger.time - START).total_seconds()
        for hit in judged(happened, *(all_goals or (goal(),)), **more).achieved
    ]


# --- rule 2: the window ---


def test_a_time_of_whole_seconds_is_compared_with_enrolled_at_cut_to_the_second() -> None:
    assert achieved_at([paid(5)], enrolled=5.9) == [5]
    assert achieved_at([paid(5.5)], enrolled=5.9) == []
    assert achieved_at([paid(4)], enrolled=5.9) == []


def test_the_founding_event_never_counts_for_the_enrollment_it_started() -> None:
    founder = paid(0)
    started_by = {"started_by_source": founder.source, "started_by_id": founder.id}
    assert achieved_at([founder], **started_by) == []
    assert achieved_at([founder, paid(3)], **started_by) == []
    assert achieved_at([founder, paid(3, "pay-2")], **started_by) == [3]


def test_a_hit_counts_up_to_the_deadline_inclusive() -> None:
    by = goal(deadline=10)
    assert achieved_at([paid(10)], by) == [10]
    assert achieved_at([paid(10.000001)], by) == []


def test_the_deadline_is_that_of_the_version_in_force_at_the_event() -> None:
    longer = changed(goal(deadline=10), 15, deadline=100)
    assert achieved_at([paid(12)], longer) == []
    assert achieved_at([paid(20)], longer) == [20]


def test_with_correlate_by_the_field_of_the_event_must_equal_the_enrollments_correlation_id() -> None:
    by_deal = goal("pipeline_stage_reached", pipeline_id="p", stage_id="won", correlate_by="deal_id")
    moved = event(5, events.StageChanged("c1", "p", "won", None, "deal-1"), "pipeline.stage.changed")
    assert achieved_at([moved], by_deal, correlation_id="deal-1") == [5]
    assert achieved_at([moved], by_deal, correlation_id="deal-2") == []
    assert achieved_at([moved], by_deal) == []
    by_run = goal("tag_added", tag_id="vip", correlate_by="correlation_id")
    assert achieved_at([tagged(5, correlation_id="run-1"), tagged(7)], by_run, correlation_id="run-1") == [5]


# --- rule 3: occurrences ---


def test_several_events_of_one_payment_are_one_occurrence() -> None:
    twice = goal(times=2, within=100)
    assert achieved_at([paid(1), paid(2), paid(3)], twice) == []
    assert achieved_at([paid(1), paid(2), paid(3, "pay-2")], twice) == [3]


def test_an_occurrence_that_was_there_before_the_window_does_not_count_when_it_is_repeated() -> None:
    assert achieved_at([paid(-5), paid(5)]) == []
    assert achieved_at([paid(-5), paid(5, "pay-2")]) == [5]


def test_an_undone_hit_before_the_window_still_dates_its_occurrence() -> None:
    assert achieved_at([paid(-5), failed(-4), paid(5)]) == []


def test_a_rescheduled_appointment_is_the_one_that_it_replaces() -> None:
    twice = goal("appointment_booked", times=2, within=100)
    chain = [booked(1, "a"), booked(2, "b", replaces="a"), booked(3, "c", replaces="b")]
    assert achieved_at(chain, twice) == []
    assert achieved_at([*chain, booked(4, "d")], twice) == [4]


def test_a_chain_holds_together_by_an_appointment_that_was_never_seen() -> None:
    twice = goal("appointment_booked", times=2, within=100)
    assert achieved_at([booked(1, "b", replaces="a"), booked(2, "c", replaces="a")], twice) == []


def test_submissions_without_an_id_are_occurrences_of_their_own() -> None:
    twice = goal("form_submitted", form_id="f1", times=2, within=100)
    assert achieved_at([submitted(1, "s1"), submitted(2, "s1")], twice) == []
    assert achieved_at([submitted(1, None), submitted(2, None)], twice) == [2]


# --- rule 3: reversals ---


def test_a_failed_payment_does_not_count_up_to_its_failure_and_counts_anew_after_it() -> None:
    assert achieved_at([paid(1), failed(5)]) == []
    assert achieved_at([paid(1), failed(5), paid(5)]) == []
    assert achieved_at([paid(1), failed(5), paid(6)]) == [6]
    assert achieved_at([paid(1), failed(0)]) == [1]


def test_a_reversal_of_another_payment_changes_nothing() -> None:
    assert achieved_at([paid(1), failed(5, "pay-2"), refunded(5, payment_id="pay-2")]) == [1]


def test_refunds_reverse_a_payment_once_they_add_up_to_its_amount() -> None:
    assert achieved_at([paid(1), refunded(2, "20"), refunded(3, "29.99")]) == [1]
    assert achieved_at([paid(1), refunded(2, "20"), refunded(3, "30")]) == []
    assert achieved_at([paid(1), refunded(2, "20"), refunded(3, "30"), paid(3)]) == []
    assert achieved_at([paid(1), refunded(2, "20"), refunded(3, "30"), paid(4)]) == [4]
    assert achieved_at([paid(1), refunded(2)]) == []
    assert achieved_at([paid(1), refunded(2, "70")]) == []


def test_one_refund_id_is_one_refund_as_its_earliest_message_says_it() -> None:
    assert achieved_at([paid(1), refunded(2, "25", refund_id="r"), refunded(3, "25", refund_id="r")]) == [1]
    assert achieved_at([paid(1), refunded(2, "25", refund_id="r"), refunded(3, "50", refund_id="r")]) == [1]
    assert achieved_at([paid(1), refunded(2, "25", refund_id="r"), refunded(3, "25", refund_id="q")]) == []


def test_a_refund_in_another_currency_counts_for_nothing() -> None:
    assert achieved_at([paid(1), refunded(2, "50", "USD")]) == [1]
    assert achieved_at([paid(1), refunded(2, "50", "eur")]) == []


def test_a_goal_that_keeps_reversals_counts_what_was_undone() -> None:
    assert achieved_at([paid(1), refunded(2)], goal(reversals="keep")) == [1]


def test_a_cancelled_appointment_that_another_replaces_was_moved() -> None:
    meeting = goal("appointment_booked")
    assert achieved_at([booked(1, "a"), cancelled(2, "a")], meeting) == []
    moved = [booked(1, "a"), booked(3, "b", replaces="a"), cancelled(2, "a")]
    assert achieved_at(moved, meeting) == [1]
    assert achieved_at([*moved, cancelled(4, "b")], meeting) == []


def test_a_fork_is_cancelled_when_all_its_last_appointments_are() -> None:
    meeting = goal("appointment_booked")
    fork = [booked(1, "a"), booked(2, "b", replaces="a"), booked(3, "c", replaces="a")]
    assert achieved_at([*fork, cancelled(5, "b")], meeting) == [1]
    assert achieved_at([*fork, cancelled(5, "b"), cancelled(6, "c")], meeting) == []


def test_a_rejected_submission_does_not_count() -> None:
    form = goal("form_submitted", form_id="f1")
    assert achieved_at([submitted(1, "s1"), rejected(2, "s1")], form) == []
    assert achieved_at([submitted(1, "s1"), rejected(2, "s2")], form) == [1]


# --- rule 4: thresholds ---


def test_times_counts_occurrences_within_the_span_that_long_ago_excluded() -> None:
    twice = goal(times=2, within=10)
    assert achieved_at([paid(1), paid(11, "pay-2")], twice) == []
    assert achieved_at([paid(1), paid(10.999999, "pay-2")], twice) == [10.999999]
    count = judged([paid(1), paid(9, "pay-2")], twice).counts[ONE]
    assert count.counted == facts.Counted(2)


def test_total_amount_is_reached_by_the_sum_in_its_currency() -> None:
    total = goal(total_amount=Decimal(100), currency="EUR", deadline=1000)
    instalments = [paid(1, "p1", "50"), paid(2, "p2", "60", "USD"), paid(3, "p3", "49.99"), paid(4, "p4", "0.01")]
    assert achieved_at(instalments, total) == [4]
    assert judged(instalments, total).counts[ONE].counted == facts.Counted(3, Decimal("100.00"))


def test_the_oldest_of_too_many_hits_are_not_counted_and_the_achievement_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judging, "COUNTED_HITS_MAX", 3)
    thrice = goal("tag_added", tag_id="vip", times=3, within=100)
    assert judged([tagged(1), tagged(2), tagged(3)], thrice).counts[ONE].counted == facts.Counted(3)
    five = judged([tagged(second) for second in range(1, 6)], thrice)
    assert [hit.trigger.time for hit in five.achieved] == [at(5)]
    assert five.counts[ONE].counted == facts.Counted(3, None, is_complete=False)


def test_a_plain_goal_is_achieved_by_the_oldest_of_very_many_hits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judging, "COUNTED_HITS_MAX", 3)
    assert achieved_at([tagged(second) for second in range(1, 6)], goal("tag_added", tag_id="vip")) == [1]


def test_an_undone_occurrence_does_not_add_up() -> None:
    twice = goal(times=2, within=100)
    assert achieved_at([paid(1), failed(2), paid(3, "pay-2")], twice) == []
    assert achieved_at([paid(1), failed(2), paid(3, "pay-2"), paid(4, "pay-3")], twice) == [4]


def test_the_version_in_force_decides_and_hits_under_earlier_ones_count_along() -> None:
    lowered = changed(goal(times=3, within=100), 5, times=2, within=100)
    assert achieved_at([paid(1), paid(2, "pay-2")], lowered) == []
    assert achieved_at([paid(1), paid(2, "pay-2"), paid(6, "pay-3")], lowered) == [6]


# --- rule 4: the exit that waits ---


@pytest.mark.parametrize(
    ("states", "waits"),
    [
        ([], False),
        ([(5, False)], True),
        ([(6, False)], False),
        ([(4, False), (5, True)], False),
        ([(4, False), (6, True)], False),
        ([(4, True), (5, False)], True),
        ([(4, False), (6, False)], True),
    ],
)
def test_an_exit_waits_while_the_workflow_is_inactive_and_no_activation_is_known(
    states: list[tuple[int, bool]], waits: bool
) -> None:
    assert judging.waits([facts.WorkflowState(at(since), active) for since, active in states], at(5)) is waits


def test_what_happens_in_a_pause_is_achieved() -> None:
    assert achieved_at([paid(5)]) == [5]
