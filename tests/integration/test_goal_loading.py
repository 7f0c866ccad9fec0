"""The lock on goals, and a worker's index while others write."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain import goals
from goalworker.goal_index import index
from goalworker.postgres import connections, database_errors, tables
from goalworker.stores import goal_store
from goalworker.stores.goal_store import loading
from tests.integration.goal_steps import ACTOR, TENANT, WORKFLOW, create, delete, load, traces, update

# --- the lock ---


@contextlib.asynccontextmanager
async def locked(
    pool: sa_async.AsyncEngine, how: str = "pg_advisory_xact_lock"
) -> AsyncIterator[connections.Connection]:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        await connection.execute(f"SELECT {how}({connections.GOAL_LOCK})")
        yield connection


@pytest.mark.parametrize("how", ["pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"])
async def test_a_change_gives_up_a_held_lock_soon_and_writes_nothing(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, how: str
) -> None:
    async with locked(pool, how):
        began = time.monotonic()
        with pytest.raises(goal_store.LockBusyError):
            await create(pool)
        assert time.monotonic() - began < 3
    assert await traces(administrator) == [0, 0, 0, 0]
    await create(pool)


async def test_an_idle_holder_of_the_lock_is_disconnected(pool: sa_async.AsyncEngine) -> None:
    async def idle(until: asyncio.Event) -> None:
        async with locked(pool) as connection:
            is_locked.set()
            await until.wait()
            await connection.fetchval("SELECT 1")

    is_locked, is_over = asyncio.Event(), asyncio.Event()
    holder = asyncio.create_task(idle(is_over))
    await is_locked.wait()
    async with asyncio.timeout(connections.IDLE_IN_TRANSACTION_SECONDS + 3):
        while (await goal_store.list_goals(pool, TENANT, WORKFLOW)).total == 0:
            with contextlib.suppress(goal_store.LockBusyError):
                await create(pool)
    is_over.set()
    with pytest.raises(asyncpg.InterfaceError) as ended:
        await holder
    assert database_errors.is_transient(ended.value)


async def test_a_cancelled_change_leaves_no_lock_behind(pool: sa_async.AsyncEngine) -> None:
    is_locked = asyncio.Event()

    async def freeze() -> None:
        async with connections.tenant_transaction(pool, TENANT, "test") as connection:
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(connections.GOAL_LOCK)))
            is_locked.set()
            await asyncio.Event().wait()

    frozen = asyncio.create_task(freeze())
    await is_locked.wait()
    frozen.cancel()
    with pytest.raises(asyncio.CancelledError):
        await frozen
    await create(pool)


async def test_reading_needs_no_lock(pool: sa_async.AsyncEngine) -> None:
    goal = await create(pool)
    async with locked(pool):
        assert await goal_store.get(pool, TENANT, goal.id) == goal
        assert await update(pool, goal, name=None) == goal


# --- loading ---


def contents(goal_index: index.Index, workflow_ids: Iterable[str]) -> dict[str, Any]:
    found = {workflow_id: goal_index.workflow(TENANT, workflow_id) for workflow_id in workflow_ids}
    return {
        workflow_id: (sorted(workflow.goals, key=lambda goal: goal.goal_id), workflow.logics)
        for workflow_id, workflow in found.items()
    }


async def write_at_random(pool: sa_async.AsyncEngine, workflow_id: str) -> None:
    """Make every kind of change."""
    first, second = await create(pool, workflow_id=workflow_id), await create(pool, "t2", workflow_id=workflow_id)
    for number in range(4):
        await update(pool, first, name=f"name {number}")
    await goal_store.set_logic(pool, TENANT, workflow_id, "all", actor=ACTOR)
    await update(pool, second, criteria={"tag_name": "Signed"})
    await goal_store.set_logic(pool, TENANT, workflow_id, "never", actor=ACTOR)
    await delete(pool, first)
    await update(pool, second, is_active=False)


@pytest.mark.parametrize("chunk_rows", [1, 3, 10_000])
async def test_incremental_loads_equal_one_full_load(
    pool: sa_async.AsyncEngine, monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    monkeypatch.setattr(loading, "_CHUNK_ROWS", chunk_rows)
    workflow_ids = [f"w{number}" for number in range(4)]
    stepwise = index.Index()
    for workflow_id in workflow_ids:
        await write_at_random(pool, workflow_id)
        await load(pool, stepwise)
    at_once = await load(pool)
    assert contents(stepwise, workflow_ids) == contents(at_once, workflow_ids)
    assert stepwise.revision == at_once.revision == 44
    (first, second), logics = contents(at_once, ["w0"])["w0"]
    assert {len(first.versions), len(second.versions)} == {5, 3}
    assert [version.logic for version in logics] == ["all", "never"]


async def test_nothing_is_missed_while_others_write(pool: sa_async.AsyncEngine) -> None:
    workflow_ids = [f"w{number}" for number in range(6)]
    writers = [asyncio.create_task(write_at_random(pool, workflow_id)) for workflow_id in workflow_ids]
    goal_index, loads = index.Index(), 0
    while not all(writer.done() for writer in writers):
        await load(pool, goal_index)
        loads += 1
    await asyncio.gather(*writers)
    await load(pool, goal_index)
    assert loads > 2
    assert contents(goal_index, workflow_ids) == contents(await load(pool), workflow_ids)


class Interrupted(index.Index):
    """Index that fails after the first part of the changes."""

    is_interrupted = True

    def replace(self, *news: Any) -> None:
        super().replace(*news)
        if self.is_interrupted:
            raise TimeoutError


async def test_the_load_after_an_interrupted_one_is_complete(
    pool: sa_async.AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_CHUNK_ROWS", 5)
    await write_at_random(pool, WORKFLOW)
    goal_index = Interrupted()
    with pytest.raises(TimeoutError):
        await load(pool, goal_index)
    assert goal_index.revision == 0
    goal_index.is_interrupted = False
    await load(pool, goal_index)
    assert contents(goal_index, [WORKFLOW]) == contents(await load(pool), [WORKFLOW])


async def test_a_change_is_found_by_its_revision(pool: sa_async.AsyncEngine) -> None:
    goal_index = await load(pool)
    await create(pool)
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        assert await goal_store.get_revision(connection) == goal_index.revision + 1
        assert await goal_store.refresh_index(connection, goal_index) == goal_index.revision == 1


async def test_one_workflow_is_loaded_as_the_index_has_it(pool: sa_async.AsyncEngine) -> None:
    for workflow_id in ("w1", "w2"):
        await write_at_random(pool, workflow_id)
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        found = await goal_store.load_workflow(connection, TENANT, "w1")
        nothing = await goal_store.load_workflow(connection, "zeta", "w1")
    expected = contents(await load(pool), ["w1"])["w1"]
    assert (sorted(found.goals, key=lambda goal: goal.goal_id), found.logics) == expected
    assert nothing == goals.Workflow()


async def test_a_backfilled_version_is_in_force_from_its_counts_from_on(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    goal = await create(pool)
    await update(pool, goal, criteria={"tag_id": "t2"})
    moment = goal.created_at - timedelta(days=3)
    await administrator.execute("UPDATE goal_versions SET counts_from = $1 WHERE version = 1", moment)
    (found,) = (await load(pool)).workflow(TENANT, WORKFLOW).goals
    assert found.created_at == goal.created_at
    assert (found.versions[0].active_from, found.versions[1].active_from) == (moment, found.versions[0].active_to)


# --- the mode of tracking ---


async def test_the_tracking_mode_of_the_first_start_stands(pool: sa_async.AsyncEngine) -> None:
    async def start(tracking: bool) -> None:
        async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
            await goal_store.ensure_tracking(connection, tracking)

    await start(False)
    await start(False)
    with pytest.raises(
        errors.SettingsError, match="TRACKING=true, but this database was started with false"
    ) as refusal:
        await start(True)
    assert refusal.value.exit_code == 3


async def test_goals_that_need_tracking_refuse_a_first_start_without_it(pool: sa_async.AsyncEngine) -> None:
    async def start(tracking: bool) -> None:
        async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
            await goal_store.ensure_tracking(connection, tracking)

    criteria = {"tag_id": "t1", "deadline": "P30D"}
    goal = await create(pool, given={"goal_type": "tag_added", "criteria": criteria})
    deleted = await create(pool, given={"goal_type": "tag_added", "criteria": {**criteria, "tag_id": "t2"}})
    await delete(pool, deleted)
    with pytest.raises(errors.SettingsError) as refusal:
        await start(False)
    assert f"goals have it (1; the oldest is {goal.id} in workflow onboarding of tenant acme)" in str(refusal.value)
    await update(pool, goal, criteria={"tag_id": "t1"})
    await start(False)
