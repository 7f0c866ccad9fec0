"""Explanations as the contact's page shows them: words and signs, masked sentences, and three kinds of absence."""

from datetime import timedelta

import pytest
from msgspec import json, structs

from goalworker.console import contact_view, explanation_view
from goalworker.domain import gates
from goalworker.domain.explanations import Coverage
from tests.unit import test_summaries as scenes

MASKED, REVEALED = (explanation_view.Words(contact_view.Mask("c-17", label), {}) for label in ("c…7", "c-17"))
MISSED = scenes.known_of(scenes.goal(scenes.AT_LEAST_50), scenes.payment())


def _only(of: explanation_view.OfWorkflow) -> explanation_view.Explained:
    ((explained,),) = [enrollment.goals for enrollment in of.enrollments]
    return explained


def test_a_goal_that_was_missed_has_gates_and_near_misses_in_words() -> None:
    found = _only(explanation_view.explain(MISSED, REVEALED))
    assert (found.result, found.sign, found.word) == ("failed", "✗", "not achieved")
    assert found.summary == "c-17 paid 49.90 EUR on 1 May (pay-4711); the goal asks for at least 50.00."
    assert [gate.word for gate in found.gates] == ["passed"] * 3 + ["failed"] + ["unknown"] * 6
    assert [gate.name for gate in found.gates] == [gate.replace("_", " ") for gate in gates.GATES]
    (near,) = found.events
    assert (near.stopped, near.would_achieve_if) == ("stopped at criteria", "/amount 50")
    assert near.clauses[0].sentence == "/min_amount is at least 50: the event has 49.90"


def test_a_goal_is_called_by_its_name_where_it_has_one() -> None:
    found = _only(explanation_view.explain(MISSED, structs.replace(REVEALED, names={scenes.GOAL: "Big\u202espender"})))
    assert (found.name, found.criteria) == ("Big\\u202espender", "purchase_made (min_amount 50)")
    assert _only(explanation_view.explain(MISSED, REVEALED)).name is None


def test_the_sentence_hides_the_contact_until_it_is_revealed() -> None:
    masked = explanation_view.explain(MISSED, MASKED)
    assert _only(masked).summary.startswith("c…7 paid 49.90 EUR")
    assert "c-17" not in json.encode(masked).decode()


def test_the_enrollment_of_an_untracked_contact_is_masked() -> None:
    enrollment = structs.replace(scenes.run().enrollment, enrollment_id="contact:onboarding:c-17", enrolled_at=None)
    known = structs.replace(MISSED, runs=(structs.replace(scenes.run(), enrollment=enrollment),), tracked=False)
    (found,) = explanation_view.explain(known, MASKED).enrollments
    assert (found.shown_id, found.enrollment_id) == ("contact:onboarding:c…7", "contact:onboarding:c-17")
    assert "c-17" not in json.encode(found.goals).decode()


def test_the_nearest_event_comes_first_and_others_are_counted() -> None:
    payments = [scenes.payment(f"p{n}", f"{n}.00", scenes.PAID + timedelta(minutes=n)) for n in range(1, 9)]
    found = _only(explanation_view.explain(scenes.known_of(scenes.goal(scenes.AT_LEAST_50), *payments), REVEALED))
    assert found.events[0].id == "evt-p8-011208"
    assert (len(found.events), found.events_left) == (5, 3)


def test_of_very_many_enrollments_the_newest_are_explained() -> None:
    runs = tuple(
        structs.replace(
            scenes.run(),
            enrollment=structs.replace(
                scenes.run().enrollment, enrollment_id=f"e-{n}", enrolled_at=scenes.BEGAN + timedelta(hours=n)
            ),
        )
        for n in range(8)
    )
    found = explanation_view.explain(structs.replace(MISSED, runs=runs), REVEALED)
    assert [one.enrollment_id for one in found.enrollments] == ["e-7", "e-6", "e-5", "e-4", "e-3"]
    assert [one.enrollment_id for one in found.others] == ["e-2", "e-1", "e-0"]


def test_a_contact_without_enrollment_is_explained_for_each_goal() -> None:
    (found,) = explanation_view.explain(structs.replace(MISSED, runs=()), REVEALED).enrollments
    assert (found.enrollment_id, found.goals[0].word) == (None, "not achieved")


SINCE = scenes.MADE


@pytest.mark.parametrize(
    ("coverage", "sentence"),
    [
        (Coverage(None), "Nobody looked at events that miss every goal: no insight process keeps them."),
        (
            Coverage(SINCE, is_cut=True),
            "Events are kept since 2026-04-01 00:00:00 UTC; older ones are no longer kept.",
        ),
        (Coverage(SINCE), "Events are kept since 2026-04-01 00:00:00 UTC; nobody looked before that."),
        (
            Coverage(SINCE, complete=True),
            "Nothing was left out since then: an event that is not shown was not found.",
        ),
        (
            Coverage(SINCE, history_until=scenes.PAID),
            "Events that arrived after 2026-05-01 12:00:00 UTC are not kept yet.",
        ),
        (Coverage(hits_from=SINCE), "Hits are kept at least since 2026-04-01 00:00:00 UTC."),
        (
            Coverage(fresh_as_of=SINCE),
            "Every record that reached Kafka before 2026-04-01 00:00:00 UTC has been judged.",
        ),
        (Coverage(), "No worker has judged every topic to its end yet, so what is missing may still come."),
        (Coverage(), "Dead letters were not searched."),
    ],
)
def test_coverage_tells_not_found_not_looked_for_and_no_longer_kept_apart(coverage: Coverage, sentence: str) -> None:
    assert sentence in explanation_view.coverage(coverage)


def test_an_exit_that_waits_or_was_sent_is_said_with_its_enrollment() -> None:
    paid = scenes.known_of(scenes.goal(scenes.AT_LEAST_50), scenes.payment(amount="50.00"))
    sent = structs.replace(scenes.run(), sent_at=scenes.PAID, published_at=scenes.PAID + timedelta(seconds=1))
    (found,) = explanation_view.explain(structs.replace(paid, runs=(sent,)), REVEALED).enrollments
    assert found.exit == (
        "The exit was written on 2026-05-01 12:00:00 UTC.",
        "Its record has been in Kafka since 2026-05-01 12:00:01 UTC.",
    )
    (found,) = explanation_view.explain(
        structs.replace(paid, runs=(scenes.run(is_withheld=True),)), REVEALED
    ).enrollments
    assert found.exit == ("A backfill found this, and it was not asked to send exits.",)
