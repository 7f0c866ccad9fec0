"""The sentence of an explanation, for each reason: what a support person pastes (contract section 7)."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pytest
from msgspec import structs

from goalworker.domain import events, explaining, facts, gates, goals
from goalworker.domain.criteria import Criteria
from goalworker.domain.explanations import ContactFacts, Coverage, Run
from goalworker.goal_index import index, matching

GOAL: Final = UUID(int=1)
OTHER: Final = UUID(int=2)


def time(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}Z")


MADE: Final = time("04-01T00:00:00")
BEGAN: Final = time("04-30T08:00:00")
PAID: Final = time("05-01T12:00:00")
COVERAGE: Final = Coverage(time("04-20T00:00:00"), time("04-20T00:00:00"), time("06-01T00:00:00"), complete=True)


def payment(id_: str = "pay-4711", amount: str = "49.90", at: datetime = PAID, **fields: Any) -> events.Event:
    data = events.PaymentCompleted("c-17", id_, Decimal(amount), "EUR", **fields)
    return events.Event("t1", "/shop", f"evt-{id_}-{at:%d%H%M}", "payment.completed", at, data)


def goal(criteria: Criteria, *, type_: str = "purchase_made", until: datetime | None = None) -> goals.Goal:
    return goals.Goal("t1", GOAL, "onboarding", type_, MADE, (goals.GoalVersion(1, criteria, True, MADE, until),))


def run(**fields: Any) -> Run:
    stored = {name: fields.pop(name) for name in list(fields) if name in Run.__struct_fields__}
    fields = {"enrolled_at": BEGAN, **fields}
    return Run(facts.Enrollment("t1", "e-1", "onboarding", "c-17", **fields), **stored)


def known_of(
    of: goals.Goal,
    *happened: events.Event,
    runs: tuple[Run, ...] = (run(),),
    logic: str = "any",
    reversals: tuple[facts.Reversal, ...] = (),
    states: tuple[facts.WorkflowState, ...] = (),
    coverage: Coverage = COVERAGE,
    others: tuple[goals.Goal, ...] = (),
    is_judged: bool = True,
) -> ContactFacts:
    """Return the facts of c-17 in the workflow onboarding."""
    goal_index = index.Index()
    goal_index.replace([of, *others], {("t1", "onboarding"): (goals.LogicVersion(logic, MADE),)}, revision=1)
    hits = matching.all_hits(happened, goal_index) if is_judged else []
    workflow = goal_index.workflow("t1", "onboarding")
    whose = ("t1", "onboarding", "c-17")
    asked_at = time("06-01T00:00:00")
    return ContactFacts(*whose, workflow, runs, happened, hits, reversals, states, coverage, asked_at)


def reason_and_summary(of: goals.Goal, *happened: events.Event, **others: Any) -> tuple[str, str]:
    (explained,) = explaining.explain(known_of(of, *happened, **others), GOAL)
    return explained.reason, explained.summary


AT_LEAST_50 = Criteria(min_amount=Decimal(50))
ANY = Criteria()


def test_a_payment_below_the_amount_names_both_amounts() -> None:
    assert reason_and_summary(goal(AT_LEAST_50), payment()) == (
        gates.CRITERIA_NOT_MET,
        "c-17 paid 49.90 EUR on 1 May (pay-4711); the goal asks for at least 50.00.",
    )


refund: Final = facts.Reversal("/shop", "r1", time("05-03T00:00:00"), events.PAYMENT_REFUNDED, "pay-4711")
pause: Final = facts.WorkflowState(time("04-30T12:00:00"), active=False)


@pytest.mark.parametrize(
    ("criteria", "data", "sentence"),
    [
        (
            Criteria(currency="USD", min_amount=Decimal(50)),
            events.PaymentCompleted("c-17", "pay-1", Decimal(20), "eur"),
            "c-17 paid 20 EUR on 1 May (pay-1); the goal asks for at least 50 and a payment in USD.",
        ),
        (
            Criteria(min_amount=Decimal("49.99")),
            events.PaymentCompleted("c-17", "pay-1", Decimal("49.98999"), "EUR"),
            "c-17 paid 49.98999 EUR on 1 May (pay-1); the goal asks for at least 49.99.",
        ),
        (
            Criteria(product_id=("p1", "p2")),
            events.PaymentCompleted("c-17", "pay-1", Decimal(20), "EUR", ("p3", "p4", "p5", "p6", "p7")),
            "c-17 paid 20 EUR for p3, p4, p5 and 2 others on 1 May (pay-1); the goal asks for the product p1 or p2.",
        ),
        (
            Criteria(tag_name="Customer"),
            events.TagAdded("c-17", "t1", "Prospect"),
            'c-17 got the tag "Prospect" (t1) on 1 May (evt-1); the goal asks for the tag "Customer".',
        ),
        (
            Criteria(calendar_id="cal-1", service_id="s1"),
            events.AppointmentBooked("c-17", "app-1", "cal-2", None),
            "c-17 booked an appointment in the calendar cal-2 on 1 May (app-1); the goal asks for the calendar cal-1 "
            "and the service s1.",
        ),
        (
            Criteria(form_id="f1"),
            events.FormSubmitted("c-17", "f2", "sub-1"),
            "c-17 submitted the form f2 on 1 May (sub-1); the goal asks for the form f1.",
        ),
        (
            Criteria(pipeline_id="p1", stage_id="s1"),
            events.StageChanged("c-17", "p1", "s2", None, "deal-1"),
            "c-17 reached the stage s2 of the pipeline p1 on 1 May (deal-1); the goal asks for the stage s1.",
        ),
    ],
)
def test_criteria_that_are_not_met_are_named(criteria: Criteria, data: events.GoalData, sentence: str) -> None:
    row = next(row for row in events.GOAL_TYPE_TABLE.values() if row.data is type(data))
    event = events.Event("t1", "/crm", "evt-1", row.event_type, PAID, data)
    assert reason_and_summary(goal(criteria, type_=row.name), event) == (gates.CRITERIA_NOT_MET, sentence)


SENT = run(sent_at=time("05-01T12:00:01"), is_published=True)
ENDED = run(ended_at=time("05-02T00:00:00"))
CASES: Final[dict[str, tuple[str, dict[str, Any], str]]] = {
    "achieved and sent": (
        gates.ACHIEVED,
        {"runs": (SENT,)},
        "c-17 paid 49.90 EUR on 1 May (pay-4711) and achieved the goal; the exit was sent on 1 May, 12:00:01 UTC.",
    ),
    "achieved, about to be sent": (
        gates.ACHIEVED,
        {},
        "c-17 paid 49.90 EUR on 1 May (pay-4711) and achieved the goal; the exit is about to be sent.",
    ),
    "achieved, and ended by now": (
        gates.ACHIEVED,
        {"runs": (ENDED,)},
        "c-17 paid 49.90 EUR on 1 May (pay-4711) and achieved the goal; no exit was due, because the enrollment e-1 "
        "has ended.",
    ),
    "achieved in a workflow that measures": (
        gates.ACHIEVED,
        {"logic": "never"},
        "c-17 paid 49.90 EUR on 1 May (pay-4711) and achieved the goal; no exit is due, because onboarding only "
        "measures.",
    ),
    "inactive": (
        gates.WAITS_FOR_ACTIVATION,
        {"states": (pause,)},
        "c-17 paid 49.90 EUR on 1 May (pay-4711) and achieved the goal; the exit waits until onboarding is activated.",
    ),
    "backfilled": (
        gates.WAITS_FOR_BACKFILL,
        {"runs": (run(is_withheld=True),)},
        "c-17 paid 49.90 EUR on 1 May (pay-4711) and achieved the goal, as a backfill found; backfills send no exit "
        "unless they are told to.",
    ),
    "no enrollment": (
        gates.NOT_ENROLLED,
        {"runs": ()},
        "c-17 paid 49.90 EUR on 1 May (pay-4711), which meets the goal, but c-17 was never enrolled in onboarding.",
    ),
    "an end without a start": (
        gates.NOT_ENROLLED,
        {"runs": (run(enrolled_at=None, ended_at=PAID),)},
        "c-17 paid 49.90 EUR on 1 May (pay-4711), which meets the goal, but no start of the enrollment e-1 is known, "
        "only its end.",
    ),
    "not judged": (
        gates.NO_EVENT,
        {"is_judged": False},
        "c-17 paid 49.90 EUR on 1 May (pay-4711), which meets the goal, but no worker has judged it: it is new, or "
        "came late.",
    ),
    "before": (
        gates.BEFORE_ENROLLMENT,
        {"runs": (run(enrolled_at=time("05-01T12:00:05")),)},
        "c-17 paid 49.90 EUR on 1 May, 12:00:00 UTC (pay-4711), before the enrollment e-1 began on 1 May, 12:00:05 "
        "UTC.",
    ),
    "after": (
        gates.AFTER_END,
        {"runs": (run(ended_at=time("05-01T11:00:00")),)},
        "c-17 paid 49.90 EUR on 1 May, 12:00:00 UTC (pay-4711), when the enrollment e-1 had ended on 1 May, 11:00:00 "
        "UTC.",
    ),
    "founding": (
        gates.FOUNDING_EVENT,
        {"runs": (run(started_by_source="/shop", started_by_id="evt-pay-4711-011200"),)},
        "c-17 paid 49.90 EUR on 1 May (pay-4711), but that started the enrollment e-1 and so does not count for it.",
    ),
    "reversed": (
        gates.REVERSED,
        {"reversals": (refund,)},
        "c-17 paid 49.90 EUR on 1 May (pay-4711), but it was refunded on 3 May.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_reason_has_its_sentence(name: str) -> None:
    reason, given, sentence = CASES[name]
    assert reason_and_summary(goal(ANY), payment(), **given) == (reason, sentence)


def test_the_sentence_of_a_deadline_says_when_it_began_to_run() -> None:
    assert reason_and_summary(goal(Criteria(deadline=90_000)), payment(at=time("05-02T12:00:00"))) == (
        gates.AFTER_DEADLINE,
        "c-17 paid 49.90 EUR on 2 May, 12:00:00 UTC (pay-4711), more than 1 day and 1 hour after the enrollment e-1 "
        "began on 30 April, 08:00:00 UTC.",
    )


def test_the_sentence_of_a_correlation_names_both_sides() -> None:
    correlated = run(correlation_id="order-1")
    event = payment(correlation_id="order-2")
    assert reason_and_summary(goal(Criteria(correlate_by="correlation_id")), event, runs=(correlated,)) == (
        gates.NOT_CORRELATED,
        "c-17 paid 49.90 EUR on 1 May (pay-4711), whose correlation_id is order-2; the enrollment e-1 asks for "
        "order-1.",
    )


def test_the_sentence_of_a_repeat_names_the_older_event() -> None:
    older, newer = payment(at=time("04-29T10:00:00")), payment()
    assert reason_and_summary(goal(ANY), older, newer) == (
        gates.REPEATS_OLDER_OCCURRENCE,
        "c-17 paid 49.90 EUR on 1 May, 12:00:00 UTC (pay-4711), which repeats the payment of 29 April, 10:00:00 UTC, "
        "so it does not count again.",
    )


@pytest.mark.parametrize(
    ("criteria", "sentence"),
    [
        (
            Criteria(times=3, within=604_800),
            "c-17 has 2 payments, the last one on 2 May (pay-2); the goal asks for 3 within 7 days.",
        ),
        (
            Criteria(total_amount=Decimal(150), currency="EUR", deadline=604_800),
            "c-17 paid 99.80 EUR, the last one on 2 May (pay-2); the goal asks for 150.00 EUR.",
        ),
    ],
)
def test_the_sentence_of_a_threshold_says_how_much_is_there(criteria: Criteria, sentence: str) -> None:
    happened = (payment("pay-1"), payment("pay-2", at=time("05-02T12:00:00")))
    assert reason_and_summary(goal(criteria), *happened) == (gates.BELOW_THRESHOLD, sentence)


def test_the_sentence_of_a_workflow_that_had_stopped_says_when() -> None:
    other = structs.replace(goal(Criteria(product_id="p1")), goal_id=OTHER)
    happened = (payment("pay-1", product_ids=("p1",)), payment("pay-2", "60", at=time("05-02T12:00:00")))
    assert reason_and_summary(goal(AT_LEAST_50), *happened, others=(other,)) == (
        gates.STOPPED_BEFORE,
        "c-17 paid 60 EUR on 2 May, 12:00:00 UTC (pay-2), when onboarding had reached its goal already on 1 May, "
        "12:00:00 UTC.",
    )


@pytest.mark.parametrize(
    ("versions", "sentence"),
    [
        (
            (goals.GoalVersion(1, ANY, True, time("05-02T00:00:00")),),
            "before the goal was made on 2 May, 00:00:00 UTC.",
        ),
        (
            (goals.GoalVersion(1, ANY, True, MADE, time("05-01T00:00:00")),),
            "after the goal was deleted on 1 May, 00:00:00 UTC.",
        ),
        (
            (goals.GoalVersion(1, ANY, True, MADE, PAID), goals.GoalVersion(2, ANY, False, PAID)),
            "while the goal was inactive since 1 May, 12:00:00 UTC.",
        ),
    ],
)
def test_the_sentence_of_a_goal_not_in_force_says_since_when(
    versions: tuple[goals.GoalVersion, ...], sentence: str
) -> None:
    of = structs.replace(goal(ANY), versions=versions)
    happened = "c-17 paid 49.90 EUR on 1 May, 12:00:00 UTC (pay-4711)"
    assert reason_and_summary(of, payment()) == (gates.GOAL_NOT_IN_FORCE, f"{happened}, {sentence}")


@pytest.mark.parametrize(
    ("coverage", "sentence"),
    [
        (COVERAGE, "No payment of c-17 was found since the enrollment e-1 began on 30 April."),
        (
            Coverage(),
            "Nobody looked: no payment of c-17 meets the goal, and events that miss it are not kept here.",
        ),
        (
            Coverage(time("05-05T00:00:00")),
            "No payment of c-17 was found since 5 May; what came before was not kept yet.",
        ),
        (
            Coverage(time("04-20T00:00:00"), history_until=time("05-02T08:00:00")),
            "No payment of c-17 was found since the enrollment e-1 began until 2 May, 08:00:00 UTC; what came after is "
            "not kept yet.",
        ),
        (
            Coverage(time("05-05T00:00:00"), is_cut=True),
            "No payment of c-17 was found since 5 May; what came before is no longer kept.",
        ),
    ],
)
def test_nothing_found_and_nobody_looked_and_no_longer_kept_differ(coverage: Coverage, sentence: str) -> None:
    assert reason_and_summary(goal(ANY), coverage=coverage) == (gates.NO_EVENT, sentence)


def test_a_year_is_named_where_it_is_another_one() -> None:
    event = payment(at=datetime.fromisoformat("2025-05-01T12:00:00Z"))
    _, sentence = reason_and_summary(goal(AT_LEAST_50), event)
    assert sentence.startswith("c-17 paid 49.90 EUR on 1 May 2025, 12:00:00 UTC (pay-4711)")


def test_a_name_with_control_characters_stays_on_its_line() -> None:
    event = payment("pay\u2028\u202e1")
    assert reason_and_summary(goal(AT_LEAST_50), event)[1].isprintable()


@pytest.mark.parametrize(
    ("amount", "asked", "sentence"),
    [("49.9", "50", "paid 49.90 EUR"), ("20", "50", "paid 20 EUR"), ("20", "20.5", "paid 20 EUR")],
)
def test_amounts_have_no_decimals_or_at_least_two(amount: str, asked: str, sentence: str) -> None:
    assert sentence in reason_and_summary(goal(Criteria(min_amount=Decimal(asked))), payment(amount=amount))[1]
