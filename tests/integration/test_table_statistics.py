"""Tables that grow are analyzed by the worker, and plans that were made while they were empty are made anew."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.pipeline import judgements
from goalworker.postgres import connections, tables
from goalworker.stores import enrollment_walk, table_statistics
from tests.integration import scenes, world

_ENROLL = """
INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at)
SELECT 'north', 'e' || n, 'w1', 'c' || n, '2026-01-01' FROM generate_series($1::int, $2::int - 1) AS n
"""
# Each tenant has a workflow of its own, with 100 contacts.
_ENROLL_TENANTS = """
INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at)
SELECT 't' || n % 200, 'e' || n, 'w' || n % 200, 'c' || n, '2026-01-01' FROM generate_series(0, 19999) AS n
"""
_PREPARED = "SELECT name FROM pg_prepared_statements WHERE statement = $1 AND generic_plans > 0"


@pytest.fixture
async def one_connection(database_url: str) -> AsyncIterator[sa_async.AsyncEngine]:
    pool = connections.engine(database_url, pool_size=1, statement_timeout_seconds=30, application="test")
    yield pool
    await pool.dispose()


async def test_a_table_is_analyzed_once_it_is_large_enough_to_matter(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute(_ENROLL, 0, 10)
    assert await table_statistics.analyze_grown(pool) == []
    await administrator.execute(_ENROLL, 10, 1_000)
    assert await table_statistics.analyze_grown(pool) == ["enrollments"]
    assert await administrator.fetchval("SELECT reltuples FROM pg_class WHERE relname = 'enrollments'") == 1_000
    assert await table_statistics.analyze_grown(pool) == []


async def test_a_table_is_analyzed_again_once_it_has_grown_tenfold(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute(_ENROLL, 0, 1_000)
    assert await table_statistics.analyze_grown(pool) == ["enrollments"]
    await administrator.execute(_ENROLL, 1_000, 9_500)
    assert await table_statistics.analyze_grown(pool) == []
    await administrator.execute(_ENROLL, 9_500, 10_500)
    assert await table_statistics.analyze_grown(pool) == ["enrollments"]


async def test_a_table_that_was_never_analyzed_is_whatever_an_index_counted(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute(_ENROLL, 0, 1_000)
    await administrator.execute("REINDEX TABLE enrollments")
    assert await administrator.fetchval("SELECT reltuples FROM pg_class WHERE relname = 'enrollments'") == 1_000
    assert await table_statistics.analyze_grown(pool) == ["enrollments"]


async def test_a_partition_is_analyzed_as_a_table(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute("SELECT goalworker_make_history_days('2026-05-01', '2026-05-02')")
    await administrator.execute(
        "INSERT INTO history_events SELECT 'north', 'c' || n, '/crm', 'h', 'contact.tag.added', '2026-05-01', '{}',"
        " 'tag-added', 0, n, '2026-05-01' FROM generate_series(1, 2000) AS n"
    )
    assert await table_statistics.analyze_grown(pool) == ["history_events_20260501"]


async def test_a_table_that_is_locked_is_left_out_and_nobody_waits(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, database_url: str
) -> None:
    await administrator.execute(_ENROLL, 0, 1_000)
    other = await asyncpg.connect(database_url)
    try:
        await other.execute("BEGIN; LOCK TABLE enrollments IN SHARE UPDATE EXCLUSIVE MODE")
        taken: table_statistics.Pages = {}
        async with asyncio.timeout(connections.LOCK_TIMEOUT_SECONDS):
            assert await table_statistics.analyze_grown(pool, taken) == []
        assert await administrator.fetchval("SELECT reltuples FROM pg_class WHERE relname = 'enrollments'") == -1
    finally:
        await other.close()
    assert await table_statistics.analyze_grown(pool, taken) == ["enrollments"]


async def test_a_process_takes_a_table_again_only_once_it_has_grown_tenfold(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    taken: table_statistics.Pages = {}
    await administrator.execute(_ENROLL, 0, 1_000)
    assert await table_statistics.analyze_grown(pool, taken) == ["enrollments"]
    await administrator.execute("SELECT pg_stat_reset()")
    assert await table_statistics.analyze_grown(pool, taken) == []
    assert await table_statistics.analyze_grown(pool) == ["enrollments"]
    await administrator.execute(_ENROLL, 1_000, 10_500)
    assert await table_statistics.analyze_grown(pool, taken) == ["enrollments"]


async def test_a_table_of_another_owner_is_left_as_it_is(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute(_ENROLL, 0, 1_000)
    await administrator.execute("ALTER FUNCTION goalworker_analyze OWNER TO pg_monitor")
    await table_statistics.analyze_grown(pool)
    assert await administrator.fetchval("SELECT reltuples FROM pg_class WHERE relname = 'enrollments'") == -1


async def test_one_process_analyzes_at_a_time(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute(_ENROLL, 0, 1_000)
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        assert await connection.fetchval(table_statistics._LOCK)
        assert await table_statistics.analyze_grown(pool) == []
    assert await table_statistics.analyze_grown(pool) == ["enrollments"]


async def test_a_plan_from_when_tables_were_empty_is_replaced_once_they_have_grown(
    one_connection: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute("ALTER TABLE enrollments SET (autovacuum_enabled = false)")
    await world.install(administrator, [scenes.ONE])
    worker = world.Worker(one_connection, world.Broker())
    for number in range(8):  # from the sixth time on, a statement has one plan for any values
        await worker.take(scenes.started(0, f"s{number}"))
    await administrator.execute(_ENROLL, 10, 20_000)
    assert await _indexes_of_the_lock(one_connection) != {"enrollments_by_contact"}
    assert "enrollments" in await table_statistics.analyze_grown(one_connection)
    assert await _indexes_of_the_lock(one_connection) == {"enrollments_by_contact"}


@pytest.mark.parametrize("upkeep", ["ANALYZE enrollments", "SELECT"], ids=["analyzed", "never analyzed"])
@pytest.mark.parametrize(
    ("sql", "arguments"),
    [
        (
            judgements._LOCK_ENROLLMENTS,
            judgements._CONTACTS.arguments([(f"t{n}", f"w{n}", f"c{n}") for n in range(200)]),
        ),
        (enrollment_walk._OF_CONTACTS, ("t7", "w7", [f"c{n * 200 + 7}" for n in range(100)])),
    ],
    ids=["locked for judgement", "read for a plan"],
)
async def test_enrollments_are_found_by_their_contact_whatever_the_planner_knows(
    administrator: connections.Connection, upkeep: str, sql: str, arguments: Sequence[object]
) -> None:
    await administrator.execute("ALTER TABLE enrollments SET (autovacuum_enabled = false)")
    await administrator.execute(_ENROLL_TENANTS)
    await administrator.execute(upkeep)
    ((plan,),) = await administrator.fetch(f"EXPLAIN (FORMAT JSON) {sql}", *arguments)
    nodes = _nodes(json.loads(plan)[0]["Plan"])
    assert {node["Index Name"] for node in nodes if "Index Name" in node} == {"enrollments_by_contact"}


async def _indexes_of_the_lock(pool: sa_async.AsyncEngine) -> set[str]:
    """Return the indexes in the plan that the pool's connection keeps for the statement that locks enrollments."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        ((name,),) = await connection.fetch(_PREPARED, judgements._LOCK_ENROLLMENTS)
        ((plan,),) = await connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE {name} ('north', 'w1', 'c7')")
    return {node["Index Name"] for node in _nodes(plan[0]["Plan"]) if "Index Name" in node}


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for part in plan.get("Plans", ()) for node in _nodes(part))]
