"""Changes of goals in PostgreSQL: moments, races, refusals, traces, and the isolation of tenants."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events, ids
from goalworker.postgres import connections, tables
from goalworker.stores import goal_store
from tests.integration.goal_steps import (
    ACTOR,
    MAXIMUM,
    TENANT,
    WORKFLOW,
    create,
    delete,
    load,
    traces,
    update,
    versions,
)

FAR = datetime(2100, 1, 1, tzinfo=UTC)


# --- versions and their moments ---


async def test_a_new_goal_is_in_force_from_the_moment_it_was_created(pool: sa_async.AsyncEngine) -> None:
    goal = await create(pool)
    (version,) = await versions(pool, goal.id)
    assert (version.active_from, version.active_to, version.is_active) == (goal.created_at, None, True)
    assert (goal.version, goal.created_by, goal.updated_by, goal.updated_at) == (1, ACTOR, ACTOR, goal.created_at)
    assert await goal_store.get(pool, TENANT, goal.id, workflow_id=WORKFLOW) == goal


async def test_versions_neither_overlap_nor_leave_gaps(pool: sa_async.AsyncEngine) -> None:
    goal = await create(pool)
    changes: list[dict[str, Any]] = [
        {"name": "Signed"},
        {"is_active": False},
        {"is_active": True, "criteria": {"tag_id": "t2"}},
    ]
    changed = [await update(pool, goal, **change) for change in changes]
    deleted = await delete(pool, goal)
    found = await versions(pool, goal.id)
    assert [version.number for version in found] == [1, 2, 3, 4]
    moments = [goal.created_at, *(goal.updated_at for goal in changed), deleted.deleted_at]
    assert [version.active_from for version in found] == moments[:-1]
    assert [version.active_to for version in found] == moments[1:]
    assert moments == sorted(set(moments), key=str)
    assert [version.is_active for version in found] == [True, True, False, True]
    assert [version.criteria.tag_id for version in found] == ["t1", "t1", "t1", "t2"]


async def test_moments_increase_even_if_the_clock_does_not(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute("UPDATE goal_revision SET moment = $1", FAR)
    goal = await create(pool)
    changed = await update(pool, goal, name="later")
    await goal_store.set_logic(pool, TENANT, WORKFLOW, "all", actor=ACTOR)
    (logic,) = (await load(pool)).workflow(TENANT, WORKFLOW).logics
    assert [goal.created_at, changed.updated_at, logic.active_from] == [
        FAR + timedelta(microseconds=count) for count in (1, 2, 3)
    ]


# --- races ---


async def test_ten_concurrent_creations_keep_to_the_maximum_of_three(pool: sa_async.AsyncEngine) -> None:
    outcomes = await asyncio.gather(*(create(pool, f"t{number}") for number in range(10)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, goal_store.TooManyGoalsError)]
    assert [error.sentence for error in refused] == ["Maximum of 3 goals per workflow exceeded"] * 7
    assert (await goal_store.list_goals(pool, TENANT, WORKFLOW)).total == MAXIMUM


async def test_ten_concurrent_equal_creations_make_one_goal(pool: sa_async.AsyncEngine) -> None:
    outcomes = await asyncio.gather(*(create(pool) for _ in range(10)), return_exceptions=True)
    (made,) = (outcome for outcome in outcomes if isinstance(outcome, goal_store.StoredGoal))
    refused = [outcome for outcome in outcomes if isinstance(outcome, goal_store.DuplicateGoalError)]
    assert [error.goal_id for error in refused] == [made.id] * 9


async def test_nine_of_ten_concurrent_changes_of_a_version_are_stale(pool: sa_async.AsyncEngine) -> None:
    goal = await create(pool)
    outcomes = await asyncio.gather(
        *(update(pool, goal, 1, name=f"name {number}") for number in range(10)), return_exceptions=True
    )
    assert sum(isinstance(outcome, goal_store.StaleGoalError) for outcome in outcomes) == 9
    assert (await goal_store.get(pool, TENANT, goal.id)).version == 2


async def test_without_an_expected_version_every_change_is_made(pool: sa_async.AsyncEngine) -> None:
    goal = await create(pool)
    await asyncio.gather(*(update(pool, goal, name=f"name {number}") for number in range(10)))
    assert (await goal_store.get(pool, TENANT, goal.id)).version == 11
    assert len(await versions(pool, goal.id)) == 11


async def test_a_goal_is_deleted_once(pool: sa_async.AsyncEngine) -> None:
    goal = await create(pool)
    outcomes = await asyncio.gather(*(delete(pool, goal) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, goal_store.GoalNotFoundError) for outcome in outcomes) == 4
    assert [entry.action for entry in await goal_store.get_audit(pool, TENANT, goal.id)] == ["created", "deleted"]


# --- refusals ---


async def test_a_paused_goal_counts_towards_the_maximum_and_a_deleted_one_does_not(pool: sa_async.AsyncEngine) -> None:
    first, *_ = [await create(pool, f"t{number}") for number in range(MAXIMUM)]
    await update(pool, first, is_active=False)
    with pytest.raises(goal_store.TooManyGoalsError):
        await create(pool, "t4")
    await delete(pool, first)
    await create(pool, "t4")


async def test_the_maximum_is_per_workflow(pool: sa_async.AsyncEngine) -> None:
    for number in range(MAXIMUM):
        await create(pool, f"t{number}")
    await create(pool, workflow_id="another")


async def test_the_same_criteria_in_other_words_are_a_duplicate(pool: sa_async.AsyncEngine) -> None:
    first = {"goal_type": "purchase_made", "criteria": {"min_amount": 100, "currency": "EUR"}}
    again = {"goal_type": "purchase_made", "criteria": {"currency": "eur", "min_amount": "100.00", "product_id": None}}
    await create(pool, given=first)
    with pytest.raises(goal_store.DuplicateGoalError):
        await create(pool, given=again)
    other = await create(pool, given={"goal_type": "purchase_made", "criteria": {"any_purchase": True}})
    with pytest.raises(goal_store.DuplicateGoalError):
        await update(pool, other, criteria=again["criteria"])
    await create(pool, given=again, workflow_id="another")


async def test_a_deleted_goal_may_be_created_again(pool: sa_async.AsyncEngine) -> None:
    await delete(pool, await create(pool))
    assert (await create(pool)).version == 1


async def test_a_stale_change_or_deletion_changes_nothing(pool: sa_async.AsyncEngine) -> None:
    goal = await update(pool, await create(pool), name="new")
    with pytest.raises(goal_store.StaleGoalError):
        await update(pool, goal, 1, name="newer")
    with pytest.raises(goal_store.StaleGoalError):
        await goal_store.delete(pool, TENANT, goal.id, actor=ACTOR, expected_version=1)
    assert await goal_store.get(pool, TENANT, goal.id) == goal


@pytest.mark.parametrize(
    ("given", "pointers"),
    [
        ({}, {"/goal_type"}),
        ({"goal_type": "tag_added"}, {"/criteria"}),
        ({"goal_type": "tag_added", "criteria": []}, {"/criteria"}),
        (
            {"goal_type": "tag_added", "criteria": {"tag_id": 1, "form_id": "f"}},
            {"/criteria/tag_id", "/criteria/form_id"},
        ),
        ({"goal_type": "sale", "criteria": {"tag_id": "t"}, "name": ""}, {"/goal_type", "/name"}),
        ({"goal_type": "form_submitted", "criteria": {"form_id": "f"}, "name": "a\0"}, {"/name"}),
        ({"goal_type": "form_submitted", "criteria": {"form_id": "f"}, "a/b": 1}, {"/a~1b"}),
    ],
)
def test_every_fault_of_a_goal_is_pointed_at(given: dict[str, Any], pointers: set[str]) -> None:
    with pytest.raises(goal_store.InvalidGoalError) as refusal:
        goal_store.parse_draft(given)
    assert {fault.pointer for fault in refusal.value.faults} == pointers


def test_an_unknown_type_is_answered_with_the_five() -> None:
    with pytest.raises(goal_store.InvalidGoalError, match=", ".join(events.GOAL_TYPES)):
        goal_store.parse_draft({"goal_type": "sale", "criteria": {}})


async def test_every_fault_of_a_change_is_pointed_at(pool: sa_async.AsyncEngine) -> None:
    goal = await create(pool)
    with pytest.raises(goal_store.InvalidGoalError) as refusal:
        await update(pool, goal, criteria=None, is_active="yes", name=3, goal_type="tag_added")
    pointers = {fault.pointer for fault in refusal.value.faults}
    assert pointers == {"/criteria", "/is_active", "/name", "/goal_type"}


@pytest.mark.parametrize("workflow_id", ["", "a\0", "x" * 256, "\ud800"])
async def test_an_invalid_workflow_id_is_refused_and_has_no_goals(pool: sa_async.AsyncEngine, workflow_id: str) -> None:
    with pytest.raises(goal_store.InvalidGoalError):
        await create(pool, workflow_id=workflow_id)
    assert await goal_store.list_goals(pool, TENANT, workflow_id) == goal_store.Page((), 0)
    assert await goal_store.get_logic(pool, TENANT, workflow_id) == "any"


# --- traces of a change ---


async def test_a_change_of_nothing_leaves_no_trace(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    goal = await create(pool, given={"goal_type": "purchase_made", "criteria": {"min_amount": 100}, "name": "Sale"})
    before = await traces(administrator)
    same: list[dict[str, Any]] = [{}, {"name": "Sale"}, {"is_active": True}, {"criteria": {"min_amount": "100.0"}}]
    for given in same:
        assert await update(pool, goal, **given) == goal
    assert await traces(administrator) == before


async def test_setting_the_same_logic_again_leaves_no_trace(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    assert await goal_store.get_logic(pool, TENANT, WORKFLOW) == "any"
    assert not await goal_store.set_logic(pool, TENANT, WORKFLOW, "any", actor=ACTOR)
    assert await traces(administrator) == [0, 0, 0, 0]
    outcomes = await asyncio.gather(
        *(goal_store.set_logic(pool, TENANT, WORKFLOW, "all", actor=ACTOR) for _ in range(5))
    )
    assert sorted(outcomes) == [False] * 4 + [True]
    assert await goal_store.get_logic(pool, TENANT, WORKFLOW) == "all"
    assert await traces(administrator) == [0, 1, 1, 0]
    (entry,) = await administrator.fetch("SELECT actor, action, before, after FROM audit_log")
    assert tuple(entry) == (ACTOR, "logic_set", '{"logic": "any"}', '{"logic": "all"}')


async def test_an_unknown_logic_is_refused(pool: sa_async.AsyncEngine) -> None:
    with pytest.raises(goal_store.InvalidGoalError, match="any, all, never"):
        await goal_store.set_logic(pool, TENANT, WORKFLOW, "some", actor=ACTOR)


async def test_every_change_is_announced_under_an_id_of_its_own(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    goal = await create(pool)
    changed = await update(pool, goal, is_active=False)
    deleted = await delete(pool, goal)
    rows = await administrator.fetch("SELECT topic, key, value, batch_id FROM outbox ORDER BY id")
    assert {(row["topic"], row["key"], row["batch_id"]) for row in rows} == {
        ("goal_configured", f"{TENANT}:{goal.id}".encode(), None)
    }
    announced = [msgspec.json.decode(row["value"]) for row in rows]
    assert [message["id"] for message in announced] == [
        str(ids.configured_message_id(TENANT, goal.id, version)) for version in (1, 2, 3)
    ]
    described = {
        "goal_id": str(goal.id),
        "workflow_id": WORKFLOW,
        "goal_type": "tag_added",
        "criteria": {"tag_id": "t1"},
    }
    assert [message["data"] for message in announced] == [
        described | {"action": action, "version": version, "is_active": is_active}
        for action, version, is_active in (("created", 1, True), ("updated", 2, False), ("deleted", 3, False))
    ]
    moments = [goal.created_at, changed.updated_at, deleted.deleted_at]
    assert [datetime.fromisoformat(message["time"]) for message in announced] == moments


async def test_every_change_is_audited_from_which_to_which(pool: sa_async.AsyncEngine) -> None:
    goal = await create(pool)
    await update(pool, goal, name="Signed")
    await delete(pool, goal)
    entries = await goal_store.get_audit(pool, TENANT, goal.id, workflow_id=WORKFLOW)
    unnamed = {"goal_type": "tag_added", "criteria": {"tag_id": "t1"}, "name": None, "is_active": True}
    named = unnamed | {"name": "Signed"}
    assert [(entry.actor, entry.action, entry.version, entry.before, entry.after) for entry in entries] == [
        (ACTOR, "created", 1, None, unnamed),
        ("bob", "updated", 2, unnamed, named),
        ("eve", "deleted", 3, named, None),
    ]
    with pytest.raises(goal_store.GoalNotFoundError):
        await goal_store.get_audit(pool, TENANT, uuid4())


async def test_a_deleted_goal_is_seen_only_in_the_list_that_asks_for_it(pool: sa_async.AsyncEngine) -> None:
    kept, gone = await create(pool, "t1"), await create(pool, "t2")
    deleted = await delete(pool, gone)
    assert (deleted.deleted_at, deleted.updated_by, deleted.version) == (deleted.updated_at, "eve", 2)
    for attempt in (goal_store.get(pool, TENANT, gone.id), update(pool, gone, name="x"), delete(pool, gone)):
        with pytest.raises(goal_store.GoalNotFoundError):
            await attempt
    assert await goal_store.list_goals(pool, TENANT, WORKFLOW) == goal_store.Page((kept,), 1)
    everything = await goal_store.list_goals(pool, TENANT, WORKFLOW, include_deleted=True)
    assert everything == goal_store.Page((kept, deleted), 2)


async def test_pages_are_in_the_order_of_creation_with_the_total(pool: sa_async.AsyncEngine) -> None:
    made = [await create(pool, workflow_id=f"w{number}") for number in range(5)]
    assert await goal_store.list_goals(pool, TENANT, None, offset=1, limit=2) == goal_store.Page(tuple(made[1:3]), 5)
    assert await goal_store.list_goals(pool, TENANT, None, offset=9) == goal_store.Page((), 5)


# --- tenants ---


async def test_a_goal_of_another_tenant_is_not_found(pool: sa_async.AsyncEngine) -> None:
    goal = await create(pool)
    for attempt in (
        goal_store.get(pool, "other", goal.id),
        goal_store.update(pool, "other", goal.id, {"name": "x"}, actor=ACTOR),
        goal_store.delete(pool, "other", goal.id, actor=ACTOR),
        goal_store.get_audit(pool, "other", goal.id),
        goal_store.get(pool, TENANT, goal.id, workflow_id="another"),
    ):
        with pytest.raises(goal_store.GoalNotFoundError):
            await attempt
    assert await goal_store.get(pool, TENANT, goal.id) == goal
    await create(pool, tenant_id="other")


async def test_a_tenant_sees_and_changes_its_own_rows_only_whatever_the_query(pool: sa_async.AsyncEngine) -> None:
    for tenant_id in (TENANT, "other"):
        await create(pool, tenant_id=tenant_id)
        await goal_store.set_logic(pool, tenant_id, WORKFLOW, "all", actor=ACTOR)
    for table in ("goals", "goal_versions", "workflow_settings", "audit_log"):
        async with connections.tenant_transaction(pool, TENANT, "test") as connection:
            seen = await connection.execute(sa.text(f"SELECT DISTINCT tenant_id FROM {table}"))
            assert seen.all() == [(TENANT,)]
    async with connections.tenant_transaction(pool, TENANT, "test") as connection:
        changed = await connection.execute(sa.text("UPDATE goals SET name = 'mine'"))
        assert changed.rowcount == 1
    with pytest.raises(sa.exc.ProgrammingError, match="row-level security"):
        async with connections.tenant_transaction(pool, TENANT, "test") as connection:
            await connection.execute(sa.text("UPDATE goals SET tenant_id = 'other'"))


async def test_without_a_tenant_nothing_is_seen(pool: sa_async.AsyncEngine) -> None:
    await create(pool)
    async with pool.connect() as connection:
        for _ in range(2):  # The setting is unset at first, and empty after a tenant's transaction.
            await connection.execute(sa.text(f"SET LOCAL ROLE {tables.API_ROLE}"))
            assert (await connection.execute(sa.text("SELECT * FROM goals"))).all() == []
            await connection.rollback()
            await connection.execute(sa.text(f"SET LOCAL {tables.TENANT_SETTING} = '{TENANT}'"))
            await connection.commit()
