"""Partitions of a day each: made ahead, and dropped once they are too old.

The login of a service owns no table, so functions of their owner make and drop them.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Final, cast

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker.postgres import connections, tables

# Days that are made ahead, so that no batch after midnight lacks one.
DAYS_AHEAD: Final = 2

_MAKE: Final = "SELECT goalworker_make_days($1::text[], $2::date, $3::date)"
# One day in a transaction: the lock of the whole table is held until it ends.
_DROP: Final = "SELECT goalworker_drop_day($1::text[], $2::date)"
_DAYS: Final = """
SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass($1) AND c.relname ~ '_[0-9]{8}$' ORDER BY day
"""

Note = Callable[[connections.Connection, date], Awaitable[object]]
"""What else to write in the transaction that drops a day, when the first day that stays is this one."""


async def make(connection: connections.Connection, parents: Sequence[str], today: date) -> None:
    """Make the partitions of today and the days after it, where they are missing, in the caller's transaction."""
    await make_between(connection, parents, today, today + timedelta(days=DAYS_AHEAD))


async def make_between(connection: connections.Connection, parents: Sequence[str], first: date, last: date) -> None:
    """Make the partitions of these days, where they are missing, in the caller's transaction."""
    await connection.fetch(_MAKE, parents, first, last)


async def days_of(connection: connections.Connection, parent: str) -> list[date]:
    """Return the days that have a partition, in order."""
    return [day for (day,) in await connection.fetch(_DAYS, parent)]


async def keep(
    pool: AsyncEngine, parents: Sequence[str], lock: int, kept_for: timedelta | None, note: Note | None = None
) -> list[date]:
    """Make the partitions of the next days, drop those whose rows are all older than this, and return the dropped days.

    None keeps nothing. One process at a time does it, by an advisory lock; a day that is in use stays until the next
    time.
    """
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
        if not await _is_locked(connection, lock):
            return []
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        if kept_for is not None:
            await make(connection, parents, now.date())
    first_kept = now.date() + timedelta(days=DAYS_AHEAD + 1) if kept_for is None else (now - kept_for).date()
    dropped: list[date] = []
    while (day := await _drop_next(pool, parents, lock, first_kept, note)) is not None:
        dropped.append(day)
    return dropped


async def last(pool: AsyncEngine, parent: str) -> date | None:
    """Return the last day that has a partition, None without one."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
        return max(await days_of(connection, parent), default=None)


async def _drop_next(
    pool: AsyncEngine, parents: Sequence[str], lock: int, first_kept: date, note: Note | None
) -> date | None:
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
        if not await _is_locked(connection, lock):
            return None
        day = cast("date | None", await connection.fetchval(_DROP, parents, first_kept))
        if day is not None and note is not None:
            await note(connection, first_kept)
    return day


async def _is_locked(connection: connections.Connection, lock: int) -> bool:
    return bool(await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({lock})"))
