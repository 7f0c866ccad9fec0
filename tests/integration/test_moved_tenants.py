"""A tenant that is moved while a batch is on its way is recorded and judged by one cell (contract section 10)."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from aiokafka import TopicPartition
from msgspec import structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import events
from goalworker.domain.cells import Cell
from goalworker.goal_index import index
from goalworker.pipeline import batches, phases
from goalworker.postgres import connections
from goalworker.stores import cell_store, goal_store, tenant_copy
from tests.integration import world
from tests.integration.goal_steps import TENANT, create
from tests.integration.test_freshness import started, tagged

OTHER_CELL = UUID(int=9)


class Worker:
    """The phases of a worker with these buckets, and batches that it has decoded."""

    def __init__(self, pool: sa_async.AsyncEngine, buckets: str = "0-1023") -> None:
        settings = config.load({"GOALWORKER_CELL__BUCKETS": buckets}, env_file=None, secrets_dir=None)
        self.broker = world.Broker()
        self.goal_index = index.Index()
        self.decoder = Decoder(world.TOPICS.event_types, Limits(), Cell(settings.cell.buckets))
        self.phases = phases.Phases(settings, pool, self.broker, self.goal_index, self.decoder)

    def batch(self, *messages: events.Event) -> batches.Batch:
        fetched: dict[TopicPartition, list[object]] = {}
        for offset, event in enumerate(messages):
            record = world.record_of(event, offset)
            fetched.setdefault(TopicPartition(record.topic, 0), []).append(record)
        batch = batches.Batch(1, self.goal_index.revision, self.decoder, fetched)  # type: ignore[arg-type]
        for _ in batches.decoding(batch, self.goal_index, world.TOPICS.redrive):
            pass
        return batch


async def place(administrator: connections.Connection, state: str, bounds: dict[str, int] | None = None) -> None:
    """Write the tenant's row as a move does, with the revision that workers notice; bounds are offsets by topic."""
    offsets = None if bounds is None else json.dumps({topic: {"0": offset} for topic, offset in bounds.items()})
    await administrator.execute(
        "INSERT INTO moved_tenants (tenant_id, state, other_cell, changed_at, bounds) VALUES ($1, $2, $3, now(), $4)"
        " ON CONFLICT (tenant_id) DO UPDATE SET state = $2, bounds = $4",
        *(TENANT, state, OTHER_CELL, offsets),
    )
    await administrator.execute("UPDATE goal_revision SET revision = revision + 1")


async def story(pool: sa_async.AsyncEngine) -> Iterable[events.Event]:
    """Return events that achieve a goal."""
    goal = await create(pool, "t1")
    at = goal.created_at + timedelta(milliseconds=1)
    return started(at), tagged("e1", at + timedelta(milliseconds=1))


async def counts(administrator: connections.Connection) -> tuple[int, int, int]:
    tables = ("enrollments", "goal_hits", "achievements")
    found = [await administrator.fetchval(f"SELECT count(*) FROM {table}") for table in tables]
    return found[0], found[1], found[2]


async def test_a_tenant_that_moved_away_after_decoding_is_not_recorded(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    worker = Worker(pool)
    batch = worker.batch(*await story(pool))
    assert batch.items
    await place(administrator, "away")
    await world.through(worker.phases, batch)
    assert ([found.outcome for *_, found in batch.skipped], batch.items) == (["foreign_tenant"] * 2, [])
    assert (await counts(administrator), worker.broker.sent) == ((0, 0, 0), [])


LIFECYCLE, TAGS = world.TOPICS.workflow_lifecycle, world.TOPICS.tag_added


@pytest.mark.parametrize(("state", "taken"), [("leaving", (1, 0, 0)), ("here", (0, 1, 0))])
async def test_of_a_tenant_on_the_move_each_cell_takes_its_part_of_a_batch(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, state: str, taken: tuple[int, int, int]
) -> None:
    worker = Worker(pool, "0-1023" if state == "leaving" else "none")
    batch = worker.batch(*await story(pool))  # the start has the offset 0, the tag the offset 1
    await place(administrator, state, {LIFECYCLE: 1, TAGS: 1})
    await world.through(worker.phases, batch)
    assert await counts(administrator) == taken
    assert [found.outcome for *_, found in batch.skipped] == ["foreign_tenant"]


async def test_what_was_recorded_before_the_fence_is_judged_after_it(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    worker = Worker(pool)
    batch = worker.batch(*await story(pool))
    await worker.phases.record(batch)
    await place(administrator, "leaving", {LIFECYCLE: 2, TAGS: 2})
    assert [message async for part in worker.phases.judge(batch) for message in part.messages]
    assert await counts(administrator) == (1, 1, 1)


async def test_a_dead_letter_that_was_sent_before_a_move_is_not_sent_again(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    worker = Worker(pool)
    faulty = structs.replace(tagged("e1", datetime.now(UTC)), data=events.TagAdded("c1"))
    batch = worker.batch(faulty, *await story(pool))
    await worker.phases.send_letters(batch)
    await place(administrator, "leaving", {LIFECYCLE: 9, TAGS: 9})
    await world.through(worker.phases, batch)
    assert len(worker.broker.letters()) == 1
    assert await counts(administrator) == (1, 1, 1)


@pytest.mark.parametrize("state", ["here", "arriving"])
async def test_a_tenant_that_came_after_decoding_is_recorded_only_once_it_is_here(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, state: str
) -> None:
    worker = Worker(pool, "none")
    batch = worker.batch(*await story(pool))
    assert batch.items == []
    await place(administrator, state)
    await world.through(worker.phases, batch)
    assert await counts(administrator) == ((1, 1, 1) if state == "here" else (0, 0, 0))


async def test_batches_of_before_and_after_a_move_may_be_merged(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    worker = Worker(pool)
    start, tag = await story(pool)
    before = worker.batch(start)
    await place(administrator, "away")
    async with connections.transaction(pool, "goalworker_worker", "goals") as connection:
        await worker.phases.refresh(connection)
    before.add(worker.batch(tag))
    await world.through(worker.phases, before)
    assert await counts(administrator) == (0, 0, 0)


async def test_the_goals_of_a_tenant_elsewhere_cannot_be_changed(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    goal = await create(pool, "t1")
    for state in ("away", "arriving", "leaving"):
        await place(administrator, state)
        with pytest.raises(cell_store.ForeignTenantError):
            await create(pool, "t2")
        with pytest.raises(cell_store.ForeignTenantError):
            await goal_store.delete(pool, TENANT, goal.id, actor="test")
        with pytest.raises(cell_store.ForeignTenantError):
            await goal_store.set_logic(pool, TENANT, "w", "all", actor="test")
    await place(administrator, "here")
    await create(pool, "t2")


async def test_a_copy_has_every_row_as_it_was_and_may_be_repeated(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    """The target is the same database, emptied of the tenant in between: what comes back is what was there."""
    worker = Worker(pool)
    await world.through(worker.phases, worker.batch(*await story(pool)))

    async def rows() -> dict[str, list[str]]:
        return {
            table.name: [
                row[0] for row in await administrator.fetch(f"SELECT t::text FROM {table.name} t ORDER BY t::text")
            ]
            for table in tenant_copy.COPIED
        }

    async def check(_: connections.Connection) -> None:
        pass

    before = await rows()
    assert before["achievements"]
    assert before["audit_log"]
    await tenant_copy.copy(pool, pool, TENANT, None, check)
    await tenant_copy.copy(pool, pool, TENANT, None, check)
    assert await rows() == before
    sizes = {size.table: size.rows for size in await _sizes(pool)}
    assert sizes == {**{table: len(of_table) for table, of_table in before.items()}, "history_events": 0}


async def _sizes(pool: sa_async.AsyncEngine) -> list[tenant_copy.Size]:
    async with tenant_copy.own_transaction(pool) as connection:
        return await tenant_copy.sizes(connection, TENANT)


async def test_a_copy_of_what_has_changed_leaves_the_rest_alone(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    async def check(_: connections.Connection) -> None:
        pass

    await create(pool, "t1")
    assert await tenant_copy.copy(pool, pool, TENANT, None, check) > 0
    horizon = await _horizon(pool)
    assert await tenant_copy.copy(pool, pool, TENANT, horizon, check) == 0
    await administrator.execute("UPDATE goals SET name = 'n'")
    assert await tenant_copy.copy(pool, pool, TENANT, horizon, check) == 1


async def _horizon(pool: sa_async.AsyncEngine) -> int:
    async with tenant_copy.own_transaction(pool) as connection:
        return await tenant_copy.horizon(connection)
