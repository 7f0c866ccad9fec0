"""A full table of hits: bytes of each, speed with very many in place, and a day of them dropped beside a worker."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from goalworker import config
from goalworker.kafka import sender
from goalworker.postgres import connections
from goalworker.runtime import housekeeping
from tests.bench import drains, figures, hits_in_place, latency, limits, scale, seed
from tests.kit import support, worker_process

HITS = 100_000_000
ENROLLMENTS = 100_000
EVENTS = 1_000_000
EVENTS_PER_SECOND, LATENCY_SECONDS = 2_000, 30
_HOLD = f"SELECT pg_advisory_lock({connections.RETENTION_LOCK})"
_RELEASE = f"SELECT pg_advisory_unlock({connections.RETENTION_LOCK})"
_FIRST_DAY = """
SELECT min(relname) FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid
WHERE inhparent = 'goal_hits'::regclass AND relname ~ '_[0-9]{8}$'
"""


async def measured(bench: limits.Bench) -> dict[str, Any]:
    """Measure the second mix with hits in place and without, in turn; nothing is swept until a day is dropped."""
    count = bench.extent.of(ENROLLMENTS, ENROLLMENTS // 10)
    mix = scale.spread_out(bench.part(replace(limits.TENTH, events=EVENTS)), count)
    async with scale.staged(bench, [mix, mix], [count, count]) as (none, filled):
        url = support.with_database(bench.pair.database_url, filled.database)
        own_bytes = await _written(filled)
        began = time.monotonic()
        there = await hits_in_place.fill(url, bench.extent.of(HITS))
        await seed.settled(url)
        print(f"  {there.hits:,} hits of {there.bytes_each} bytes: {time.monotonic() - began:.0f} s", flush=True)
        async with seed.Connection(url) as sweeper:
            await sweeper.execute(_HOLD)
            speeds = await _speeds(bench, none, replace(filled, hits_in_place=True))
            dropped = await _dropped(bench, filled.database, sweeper)
            left = await sweeper.fetchval("SELECT count(*) FROM goal_hits") - dropped["latency"]["hits"]
            assert left == there.hits - there.due, f"{left:,} hits are left"
    in_place = {"hits": there.hits, "due": there.due, "bytes_each_in_place": there.bytes_each}
    return {"bytes_each": own_bytes, **in_place, **speeds, **dropped}


async def _written(stage: drains.Stage) -> float:
    """Let a worker write the hits of the mix; return the bytes of each."""
    sizes = list[float]()

    async def take(_stage: drains.Stage, url: str) -> None:
        sizes.append(await hits_in_place.take(url))

    await drains.product(stage, afterwards=take)
    print(f"  a worker writes hits of {sizes[0]} bytes", flush=True)
    return sizes[0]


async def _speeds(bench: limits.Bench, none: drains.Stage, filled: drains.Stage) -> dict[str, Any]:
    async for alone, beside in drains.in_turn(bench.extent.rounds, none, filled):
        speeds = f"{beside[-1].events_per_second:,.0f}, with none {alone[-1].events_per_second:,.0f}"
        print(f"  with hits in place {speeds}", flush=True)
    own, first = ([drain.events_per_second for drain in done] for done in (beside, alone))
    return {
        "events_per_second": figures.spread(own),
        "none_events_per_second": figures.spread(first),
        "of_none_percent": figures.shares(own, first),
        "cpu_us": limits.cpu(beside),
        "none_cpu_us": limits.cpu(alone),
    }


async def _dropped(bench: limits.Bench, database: str, sweeper: Any) -> dict[str, Any]:
    """Drop a day of hits in the middle of a steady load; return how long that took, and the load's latency.

    PostgreSQL deletes the files of the day after everybody sees that it is gone, without a lock.
    """
    gone, took, seconds = list[float](), list[float](), bench.extent.of(LATENCY_SECONDS, 10)
    waiting = EVENTS_PER_SECOND * seconds * latency.BUILDING_SECONDS + latency.WARM_UP_SECONDS + seconds / 2

    async def drop(there: worker_process.Installation) -> None:
        await asyncio.sleep(waiting)
        await sweeper.execute(_RELEASE)
        deleting = asyncio.create_task(_deleting_seconds(there))
        gone.append(await _gone_seconds(sweeper))
        took.append(await deleting)

    @contextlib.asynccontextmanager
    async def beside(there: worker_process.Installation) -> AsyncIterator[None]:
        dropping = asyncio.create_task(drop(there))
        yield
        await dropping

    measured = await latency.measured(
        *(bench.pair, database, bench.folder, EVENTS_PER_SECOND, seconds),
        beside=beside,
        in_place=True,
        scans=bench.scans,
    )
    times = {"drop_ms": round(gone[0] * 1000, 1), "deleted_ms": round(took[0] * 1000, 1)}
    print(f"  a day of hits went: {times}; {measured}", flush=True)
    return {**times, "latency": measured}


async def _gone_seconds(connection: Any) -> float:
    """Wait until the first day of hits is gone for others; return how long that took."""
    first, began = await connection.fetchval(_FIRST_DAY), time.monotonic()
    while await connection.fetchval(_FIRST_DAY) == first:
        pass
    return time.monotonic() - began


async def _deleting_seconds(there: worker_process.Installation) -> float:
    """Delete what is too old as a worker's housekeeping does; return how long that took."""

    async def nothing() -> None:
        return None

    settings = config.load(there.environment(), env_file=None, secrets_dir=None)
    pool = connections.engine(there.database_url, pool_size=1, statement_timeout_seconds=60, application="bench")
    upkeep = housekeeping.Housekeeping(settings, pool, sender.Sender(settings), nothing, nothing)
    async with pool.connect():  # a worker has its connections already
        pass
    began = time.monotonic()
    await upkeep._delete_old_rows()
    seconds = time.monotonic() - began
    await pool.dispose()
    return seconds
