"""Sweeps of tables that are partitioned: they delete the rows that are due, in whichever partition those are."""

from datetime import timedelta

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import judging
from goalworker.postgres import connections
from goalworker.stores import retention
from tests.integration import hit_days, world
from tests.integration.scenes import paid, purchase, started
from tests.kit.strategies import at

WEEK = timedelta(days=7)

# Both partitions number their rows alike, so that a row of one has the ctid of a row of the other.
_PARTITION = """
ALTER TABLE {table} RENAME TO whole;
CREATE TABLE {table} (LIKE whole INCLUDING DEFAULTS INCLUDING INDEXES) PARTITION BY LIST (tenant_id);
CREATE TABLE {table}_north PARTITION OF {table} FOR VALUES IN ('north');
CREATE TABLE {table}_south PARTITION OF {table} FOR VALUES IN ('south');
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO goalworker_worker;
DROP TABLE whole;
"""
_HITS = """
INSERT INTO goal_hits (tenant_id, workflow_id, contact_id, goal_id, event_source, event_id, goal_version, event_time,
    data, recorded_at, kept_until, contact_hash, recorded_on)
SELECT $1::text, 'w1', 'c' || n, '00000000-0000-0000-0000-000000000001', '/shop', 'h' || n, 1, now(), '{}',
    clock_timestamp() - $3::interval, clock_timestamp() + $4::interval, n,
    CASE WHEN $1::text = 'south' THEN (clock_timestamp() AT TIME ZONE 'UTC')::date ELSE '-infinity' END
FROM generate_series(1, $2::int) AS n
"""
_REVERSALS = """
INSERT INTO reversals (tenant_id, contact_id, event_source, event_id, type, subject_id, event_time, recorded_at)
SELECT $1, 'c' || n, '/bank', 'r' || n, 'payment.failed', 'p', now(), clock_timestamp() - $3::interval
FROM generate_series(1, $2::int) AS n
"""
NEW = timedelta(0)


async def _by_tenant(administrator: connections.Connection, table: str) -> dict[str, int]:
    rows = await administrator.fetch(f"SELECT tenant_id, count(*) FROM {table} GROUP BY tenant_id")
    return dict(map(tuple, rows))


async def test_a_sweep_of_hits_spares_the_other_partitions(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await hit_days.make(administrator)
    await administrator.execute(_HITS, "north", 1, WEEK, None)
    await administrator.execute(_HITS, "south", 31, NEW, None)
    assert await retention.sweep_hits(pool, WEEK) == 1
    assert await _by_tenant(administrator, "goal_hits") == {"south": 31}


async def test_a_sweep_of_kept_hits_spares_the_other_partitions(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    counting = purchase(1, times=3, within=60)
    await world.install(administrator, [counting])
    await hit_days.make(administrator)
    await administrator.execute(_HITS.replace("'h' ||", "'old ' ||"), "north", 1, 2 * WEEK, -WEEK)
    await administrator.execute(_HITS, "north", 1, timedelta(seconds=30), -timedelta(seconds=1))  # counts for 30 s
    await administrator.execute(_HITS.replace("'h' ||", "'later' ||"), "north", 30, NEW, WEEK)
    await administrator.execute(_HITS.replace("'h' ||", "'later' ||"), "south", 30, NEW, WEEK)
    before = await administrator.fetchval("SELECT count(*) FROM goal_hits WHERE kept_until > now() + interval '6 days'")
    assert await retention.sweep_hits(pool, WEEK) == 1
    assert await _by_tenant(administrator, "goal_hits") == {"north": 31, "south": 30}
    assert await administrator.fetchval("SELECT count(*) FROM goal_hits WHERE kept_until < clock_timestamp()") == 0
    after = await administrator.fetchval("SELECT count(*) FROM goal_hits WHERE kept_until > now() + interval '6 days'")
    assert after == before


async def test_a_sweep_of_reversals_spares_the_other_partitions(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute(_PARTITION.format(table="reversals"))
    await administrator.execute(_REVERSALS, "north", 1, retention.REVERSALS_KEPT)
    await administrator.execute(_REVERSALS, "south", 31, NEW)
    assert await retention.sweep_reversals(pool) == 1
    assert await _by_tenant(administrator, "reversals") == {"south": 31}


async def test_hits_beyond_those_that_count_are_deleted_from_their_partition_alone(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "COUNTED_HITS_MAX", 3)
    await world.install(administrator, [purchase(1, times=3, within=60)])
    await hit_days.make(administrator)
    await administrator.execute(_HITS, "south", 31, NEW, None)
    worker = world.Worker(pool, world.Broker())
    await worker.take(started(0), *(paid(f"h{number}", at(1 + number), f"p{number}") for number in range(5)))
    assert await _by_tenant(administrator, "goal_hits") == {"north": 3, "south": 31}
