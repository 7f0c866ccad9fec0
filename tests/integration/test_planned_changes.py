"""Planned changes: made as they were planned, all or none, and refused once the goals are other ones."""

from typing import Any

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.stores import goal_store, plan_requests, planned_changes
from tests.integration import goal_steps
from tests.integration.goal_steps import TENANT, WORKFLOW

FORM: dict[str, Any] = {"goal_type": "form_submitted", "criteria": {"form_id": "f1"}, "name": "Signed up"}


async def planned(pool: sa_async.AsyncEngine, maximum: int = 3, **given: Any) -> tuple[dict[str, Any], str]:
    """Return a request, and the hash that its plan has now."""
    present = await planned_changes.read_present(pool, TENANT, WORKFLOW)
    request = plan_requests.parse(given, present.goals.values(), maximum)
    return request, planned_changes.hash_of(WORKFLOW, present, request)


async def make(pool: sa_async.AsyncEngine, request: dict[str, Any], plan_hash: str) -> tuple[Any, ...]:
    return await planned_changes.make(pool, TENANT, WORKFLOW, request, plan_hash, actor="cleo", maximum=3)


async def test_planned_changes_are_made_together(pool: sa_async.AsyncEngine) -> None:
    kept, gone = await goal_steps.create(pool, "t1"), await goal_steps.create(pool, "t2")
    change = {"goal_id": str(kept.id), "changes": {"name": "Customer", "criteria": {"tag_id": ["t4", "t3"]}}}
    plan = await planned(pool, goals=[FORM, change], delete=[str(gone.id)], logic="all")
    created, changed = await make(pool, *plan)
    assert (created.goal_type, created.criteria, created.name) == ("form_submitted", {"form_id": "f1"}, "Signed up")
    assert (changed.id, changed.criteria, changed.name) == (kept.id, {"tag_id": ["t3", "t4"]}, "Customer")
    present = await planned_changes.read_present(pool, TENANT, WORKFLOW)
    assert (present.goals, present.logic) == ({changed.id: changed, created.id: created}, "all")
    last = (await goal_store.get_audit(pool, TENANT, kept.id))[-1]
    assert (last.actor, last.action, last.version) == ("cleo", "updated", 2)


async def test_a_plan_of_goals_that_changed_since_changes_nothing(pool: sa_async.AsyncEngine) -> None:
    goal = await goal_steps.create(pool, "t1")
    plan = await planned(pool, goals=[FORM])
    await goal_steps.update(pool, goal, name="Other")
    with pytest.raises(planned_changes.ChangedSinceError, match="plan again"):
        await make(pool, *plan)
    plan = await planned(pool, goals=[FORM])
    await goal_store.set_logic(pool, TENANT, WORKFLOW, "never", actor="ann")
    with pytest.raises(planned_changes.ChangedSinceError):
        await make(pool, *plan)
    assert list((await planned_changes.read_present(pool, TENANT, WORKFLOW)).goals) == [goal.id]


async def test_a_plan_is_made_once(pool: sa_async.AsyncEngine) -> None:
    plan = await planned(pool, goals=[FORM])
    await make(pool, *plan)
    with pytest.raises(planned_changes.ChangedSinceError):
        await make(pool, *plan)


async def test_a_refused_change_takes_the_others_back(pool: sa_async.AsyncEngine) -> None:
    goal = await goal_steps.create(pool, "t1")
    change = {"goal_id": str(goal.id), "changes": {"name": "Customer"}}
    plan = await planned(pool, goals=[change, *(FORM | {"criteria": {"form_id": f}} for f in "abc")], maximum=9)
    with pytest.raises(goal_store.TooManyGoalsError):
        await make(pool, *plan)
    assert (await goal_store.get(pool, TENANT, goal.id)) == goal
