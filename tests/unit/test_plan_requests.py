"""Requests of plans: refused as the changes themselves would be, and read back as they were asked."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from goalworker.domain import criteria, goals, planning
from goalworker.stores import goal_store, plan_requests

GOAL_ID, OTHER_ID = UUID(int=5), UUID(int=6)
MAY = datetime(2026, 5, 1, tzinfo=UTC)
TAG = {"goal_type": "tag_added", "criteria": {"tag_id": "t1"}}
PAID = {"goal_type": "purchase_made", "criteria": {"min_amount": Decimal("50.0"), "currency": "eur"}}


def stored(goal_id: UUID = GOAL_ID, tag_id: str = "t9") -> goal_store.StoredGoal:
    return goal_store.StoredGoal(goal_id, "w1", "tag_added", {"tag_id": tag_id}, None, True, 1, MAY, "ann", MAY, "ann")


def parse(given: dict[str, Any], *known: goal_store.StoredGoal, maximum: int = 3) -> dict[str, Any]:
    return plan_requests.parse(given, known, maximum)


def pointers(given: dict[str, Any]) -> list[str]:
    with pytest.raises(goal_store.InvalidGoalError) as refusal:
        parse(given, stored())
    return [fault.pointer for fault in refusal.value.faults]


def test_a_request_is_read_back_as_it_was_asked() -> None:
    changed = {"goal_id": str(GOAL_ID), "changes": {"criteria": {"tag_id": ["b", "a"]}, "is_active": False}}
    given = {"goals": [PAID, changed], "delete": [str(OTHER_ID)], "logic": "all", "from": "2026-05-01T02:00:00+02:00"}
    request = parse(given, stored(), stored(OTHER_ID, "t8"))
    assert plan_requests.since_of(request) == MAY
    version = goals.GoalVersion(1, criteria.Criteria(tag_id="t9"), True, MAY)
    known = [goals.Goal("acme", one, "w1", "tag_added", MAY, (version,)) for one in (GOAL_ID, OTHER_ID)]
    assert plan_requests.proposal_of(request, goals.Workflow(tuple(known))) == planning.Proposal(
        (
            planning.NewGoal("purchase_made", criteria.Criteria(min_amount=Decimal(50), currency="EUR")),
            planning.GoalChange(GOAL_ID, criteria.Criteria(tag_id=("a", "b")), False),
        ),
        frozenset({OTHER_ID}),
        "all",
    )
    assert plan_requests.criteria_asked(request) == {
        "/goals/0": {"min_amount": "50", "currency": "EUR"},
        "/goals/1/changes": {"tag_id": ["a", "b"]},
    }


def test_an_empty_request_plans_the_present_goals() -> None:
    request = parse({})
    assert plan_requests.proposal_of(request, goals.Workflow()) == planning.Proposal()
    assert plan_requests.since_of(request) is None


def test_a_goal_that_is_gone_when_the_plan_runs_is_left_out() -> None:
    changed = {"goal_id": str(GOAL_ID), "changes": {"is_active": False}}
    request = parse({"goals": [changed], "delete": [str(OTHER_ID)]}, stored(), stored(OTHER_ID, "t8"))
    assert plan_requests.proposal_of(request, goals.Workflow()) == planning.Proposal()


def test_every_fault_is_named_by_its_pointer() -> None:
    given = {
        "goals": [{"goal_type": "nothing"}, 7, {"goal_id": str(GOAL_ID), "changes": {"name": 5, "criteria": {}}}],
        "logic": "some",
        "from": "yesterday",
        "sample": 0,
        "goal": [],
    }
    assert pointers(given) == [
        "/goal",
        "/goals/0/goal_type",
        "/goals/1",
        "/goals/2/changes/criteria",
        "/goals/2/changes/name",
        "/logic",
        "/from",
        "/sample",
    ]
    assert pointers({"goals": {}, "delete": 5}) == ["/delete", "/goals"]
    assert pointers({"goals": [{"goal_id": str(GOAL_ID)}]}) == ["/goals/0/changes"]
    assert pointers({"delete": ["x"]}) == ["/delete/0"]


def test_a_goal_of_another_workflow_is_unknown() -> None:
    with pytest.raises(goal_store.GoalNotFoundError):
        parse({"delete": [str(OTHER_ID)]}, stored())


def test_twins_are_refused_and_a_deletion_makes_room() -> None:
    with pytest.raises(goal_store.DuplicateGoalError):
        parse({"goals": [TAG]}, stored(tag_id="t1"))
    assert parse({"goals": [TAG], "delete": [str(GOAL_ID)]}, stored(tag_id="t1"))["delete"] == [str(GOAL_ID)]
    assert pointers({"goals": [TAG, TAG]}) == ["/goals/1"]


def test_a_change_that_makes_a_twin_is_refused() -> None:
    same = {"goal_id": str(GOAL_ID), "changes": {"criteria": {"tag_id": "t8"}}}
    with pytest.raises(goal_store.DuplicateGoalError) as refusal:
        parse({"goals": [same]}, stored(), stored(OTHER_ID, "t8"))
    assert refusal.value.goal_id == OTHER_ID
    other = {"goal_id": str(OTHER_ID), "changes": {"criteria": {"tag_id": "t9"}}}
    assert len(parse({"goals": [same, other]}, stored(), stored(OTHER_ID, "t8"))["goals"]) == 2


def test_a_planned_name_is_stored_with_the_plan() -> None:
    named = {"goal_id": str(GOAL_ID), "changes": {"name": "Customers"}}
    assert parse({"goals": [named]}, stored())["goals"] == [named]


def test_more_goals_than_the_maximum_are_refused() -> None:
    with pytest.raises(goal_store.TooManyGoalsError):
        parse({"goals": [TAG, PAID]}, stored(), maximum=2)
    assert parse({"goals": [TAG]}, stored(), maximum=2)
