"""Hits as if they were recorded long ago, and the sweep that deletes them."""

from datetime import timedelta

from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections, tables
from goalworker.stores import retention

DAY = timedelta(days=1)

_MAKE = """
SELECT goalworker_make_days(ARRAY['goal_hits'], today - $1::int, today - $1::int + 1)
FROM (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS today) AS clock
"""
_DAYS_OF_HITS = f"SELECT DISTINCT recorded_on FROM goal_hits WHERE {tables.OF_DAYS}"
_MAKE_DAY = "SELECT goalworker_make_days(ARRAY['goal_hits'], $1::date, $1::date)"
_AGE_DAYS = f"UPDATE goal_hits SET recorded_on = recorded_on - $1::int WHERE {tables.OF_DAYS}"
_AGE_OTHERS = "UPDATE goal_hits_kept SET recorded_at = recorded_at - $1::interval"


async def make(administrator: connections.Connection, days_ago: int = 0) -> None:
    """Make the partitions of a day and of the next one, where they are missing."""
    await administrator.execute(_MAKE, days_ago)


async def age(administrator: connections.Connection, by: timedelta) -> None:
    """Let hits have been recorded earlier: those of days by whole days, at least by this."""
    days = -(-by // DAY)
    for (day,) in await administrator.fetch(_DAYS_OF_HITS):
        await administrator.execute(_MAKE_DAY, day - timedelta(days=days))
    await administrator.execute(_AGE_DAYS, days)
    await administrator.execute(_AGE_OTHERS, by)


async def sweep(pool: sa_async.AsyncEngine, lateness: timedelta, progress: retention.Progress | None = None) -> int:
    """Delete old hits as housekeeping does; return how many went."""
    before = await _count(pool)
    await retention.keep_days_of_hits(pool, lateness)
    await retention.sweep_hits(pool, lateness, progress)
    return before - await _count(pool)


async def _count(pool: sa_async.AsyncEngine) -> int:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        return int(await connection.fetchval("SELECT count(*) FROM goal_hits"))
