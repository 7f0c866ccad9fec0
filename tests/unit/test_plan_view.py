"""Plans as text for people, and the hash by which a plan is applied."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from goalworker import errors
from goalworker.admin import goal_plans
from goalworker.cli import plan_view
from goalworker.domain import planning
from goalworker.stores import goal_store

MAY = datetime(2026, 5, 1, tzinfo=UTC)
GOAL_ID = UUID(int=5)
TAG = goal_store.StoredGoal(
    GOAL_ID, "w1", "tag_added", {"tag_id": "t1"}, "Is a customer", True, 1, MAY, "ann", MAY, "ann"
)
PAID = {"goal_type": "purchase_made", "criteria": {"min_amount": "50", "currency": "EUR"}, "name": "Paid"}
REQUEST: dict[str, Any] = {"goals": [PAID], "delete": [], "logic": None, "from": None, "sample": None}
OF_NEW: dict[str, Any] = {
    "index": 0,
    "matched_events": 95,
    "would_achieve": 61,
    "more": 41,
    "only_by_this": 9,
    "first_at": "2026-04-02T08:11:00Z",
    "median_hours": 26.5,
    "near_misses": [{"pointer": "/min_amount", "count": 812, "example": {"actual": "49.90", "contact_ids": ["c1"]}}],
}
OF_TAG: dict[str, Any] = {
    "goal_id": str(GOAL_ID),
    "matched_events": 1,
    "would_achieve": 0,
    "more": 0,
    "only_by_this": 0,
    "first_at": None,
    "median_hours": None,
    "near_misses": [],
}
COVERED: dict[str, Any] = {
    "history_from": "2026-04-01T00:00:00Z",
    "history_until": None,
    "fresh_as_of": None,
    "complete": True,
}
RESULT: dict[str, Any] = {
    "enrollments": 1_200,
    "events": 5_310,
    "per_goal": [OF_TAG, OF_NEW],
    "would_exit": 37,
    "compared": {"both": 310, "only_planned": 41, "only_live": 3, "earlier": 0, "later": 2},
    "revenue": {"EUR": {"gross": "3999.00", "reversed": "129.00", "net": "3870.00"}},
    "sampled": None,
    "coverage": COVERED,
    "plan_hash": "5d41402abc4b2a76",
}


def lines(request: dict[str, Any] = REQUEST, **changes: Any) -> list[str]:
    return plan_view.lines("onboarding", request, {GOAL_ID: TAG}, RESULT | changes)


def text(**changes: Any) -> str:
    return " ".join(map(str.strip, lines(**changes)))


def test_a_difference_reads_like_sentences() -> None:
    assert lines() == [
        "onboarding: 1,200 enrollments, 5,310 kept events, history since 1 April 2026",
        "    Is a customer: tag_added (tag_id t1)",
        "      nobody achieves it, 1 tag matched",
        "  + Paid: purchase_made (min_amount 50, currency EUR)",
        "      + 41 more achieve, 9 of them only by this goal; the first on 2 April 2026,",
        "      half of them within 26 hours; 812 payments missed `min_amount`, nearest",
        "      49.90",
        "  = 41 more achievements, 3 fewer; 2 later than now; 37 exits; revenue 3870.00",
        "    EUR",
    ]


def test_deleted_and_changed_goals_are_marked() -> None:
    changed = {"goal_id": str(GOAL_ID), "changes": {"is_active": False}}
    assert lines({**REQUEST, "goals": [PAID, changed]})[1] == "  ~ Is a customer: tag_added (tag_id t1)"
    assert lines({**REQUEST, "delete": [str(GOAL_ID)]})[1:-2] == [
        *lines()[3:7],
        "  - Is a customer: tag_added (tag_id t1)",
    ]


def test_the_head_says_how_much_was_looked_at() -> None:
    nothing = {**COVERED, "history_from": None, "complete": False}
    partly = {**COVERED, "complete": False}
    behind = {**partly, "history_until": "2026-05-01T12:05:00Z"}
    assert "no history: goalworker insight keeps no events here" in text(coverage=nothing)
    assert "since 1 April 2026, which is later than this plan counts from" in text(coverage=partly)
    assert "but nothing that arrived after 1 May 2026 12:05 UTC: history is behind" in text(coverage=behind)
    assert "1,200 enrollments of 90,000," in text(sampled={"drawn": 1_200, "of": 90_000})


@pytest.mark.parametrize(
    ("near", "sentence"),
    [
        (("/form_id", 412, "frm-12"), "412 payments missed `form_id`, most often frm-12"),
        (("/product_id", 1, ["a", "b"]), "1 payment missed `product_id`, most often a, b"),
        (("/calendar_id", 2, None), "2 payments missed `calendar_id`, most of them without any"),
    ],
)
def test_a_near_miss_says_what_came_instead(near: tuple[str, int, Any], sentence: str) -> None:
    pointer, count, actual = near
    missed = {"pointer": pointer, "count": count, "example": {"actual": actual, "contact_ids": []}}
    assert sentence in text(per_goal=[{**OF_NEW, "near_misses": [missed]}])


def test_a_goal_that_stays_as_it_is_takes_one_sentence() -> None:
    stays = {**OF_NEW, "goal_id": str(GOAL_ID), "more": 0, "only_by_this": 0}
    del stays["index"]
    assert lines(per_goal=[stays])[1:3] == [
        "    Is a customer: tag_added (tag_id t1)",
        "      61 achievements, none of them new",
    ]


@pytest.mark.parametrize(
    ("hours", "words"),
    [(0.0, "a minute"), (0.5, "30 minutes"), (1.6, "2 hours"), (47.0, "47 hours"), (60.0, "2 days")],
)
def test_a_median_is_told_in_the_unit_that_suits_it(hours: float, words: str) -> None:
    assert f"half of them within {words};" in text(per_goal=[{**OF_NEW, "median_hours": hours}])


def test_no_line_is_wider_than_80_columns() -> None:
    goal = {"goal_type": "form_submitted", "criteria": {"form_id": [f"form-{n}" * 2 for n in range(50)]}, "name": None}
    assert max(map(len, lines({**REQUEST, "goals": [goal]}))) <= 80
    assert "form_id form-0form-0, form-1form-1, form-2form-2 or 47 others" in text(request={**REQUEST, "goals": [goal]})


def test_goals_that_changed_since_a_plan_are_not_applied_by_it() -> None:
    plans = [goal_plans.WorkflowPlan("w1", REQUEST, {}, "aaa"), goal_plans.WorkflowPlan("w2", REQUEST, {}, "bbb")]
    goal_plans.refuse_changed(plans, planning.combined_hash(["aaa", "bbb"]))
    goal_plans.refuse_changed(plans[:1], "aaa")
    with pytest.raises(errors.GoalworkerError, match="have changed since"):
        goal_plans.refuse_changed(plans, "aaa")
