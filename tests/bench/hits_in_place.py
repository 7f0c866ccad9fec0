"""Hits in place: rows of goal_hits that are there before a load, in a table of its own or with partitions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import asyncpg

from tests.bench import seed

DAYS = 9
"""Days on which the hits were recorded, today included: those of the first one may go, the others may not."""
WRITERS = 2
"""Partitions that are filled at the same time."""

# The table itself, or its partitions with their bounds.
_PARTS = """
SELECT oid::regclass::text AS name, pg_get_expr(relpartbound, oid) AS bound,
    substring(pg_get_expr(relpartbound, oid) FROM '\\(''(\\d{4}-\\d\\d-\\d\\d)''\\)')::date AS day
FROM pg_class WHERE relkind = 'r' AND (
    oid = 'goal_hits'::regclass OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'goal_hits'::regclass))
ORDER BY day
"""
_MAKE_DAYS = "SELECT goalworker_make_days(ARRAY['goal_hits'], $1, $2)"
_TODAY = "SELECT (now() AT TIME ZONE 'UTC')::date"
_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = 'goal_hits'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""
_DAY_COLUMN = "SELECT substring(pg_get_partkeydef('goal_hits'::regclass) FROM '\\((\\w+)\\)')"
_BYTES = (
    f"SELECT sum(pg_total_relation_size(name::regclass)) / (SELECT count(*) FROM goal_hits) FROM ({_PARTS}) AS part"
)

_TAKE = "CREATE UNLOGGED TABLE bench_hits AS SELECT * FROM goal_hits"
_COPY = """
INSERT INTO {part} ({columns})
SELECT {values} FROM generate_series({first}::int, {end}::int - 1) AS copy CROSS JOIN bench_hits AS hit
"""
# A copy is of another contact, beside the first one in an index by contact, and anywhere in one by a hash.
_OTHER = {
    "contact_id": "hit.contact_id || '-' || copy",
    "contact_hash": "hashint8extended(hit.contact_hash, copy)",
    "recorded_at": f"""CASE WHEN hit.recorded_at IS NOT NULL THEN now() - random() * interval '20 hours'
        - CASE copy % {DAYS} WHEN 0 THEN interval '7 days 2 hours' ELSE (copy % {DAYS} - 1) * interval '20 hours' END
        END""",
}
# Columns that tell the hits of one load apart, and by which its indexes find them.
_KEY = ("contact_hash", "tenant_id", "workflow_id", "contact_id", "goal_id", "event_source", "event_id")
# Few rows of many are met by index, whatever the server believes.
_BY_INDEX = "SET enable_hashjoin = off; SET enable_mergejoin = off"


@dataclass(frozen=True, slots=True)
class Part:
    """A table that holds hits, with its bound and its day where it is a partition."""

    name: str
    bound: str | None
    day: date | None


@dataclass(frozen=True, slots=True)
class Filled:
    """Hits in place, how many of them may go, and the bytes of each."""

    hits: int
    due: int
    bytes_each: float


async def take(url: str) -> float:
    """Keep the hits that a worker has written, to be copied and found again; return the bytes of each.

    That is table, indexes and what is stored beside, over the number of rows.
    """
    async with seed.Connection(url) as connection:
        await connection.execute(_TAKE)
        return await _bytes_each(connection)


async def count_taken(url: str) -> int:
    """Return how many of the taken hits are in the table."""
    async with seed.Connection(url) as connection:
        key = ", ".join(await _key(connection))
        await connection.execute(_BY_INDEX)
        return int(await connection.fetchval(f"SELECT count(*) FROM bench_hits JOIN goal_hits USING ({key})"))


async def delete_taken(url: str) -> None:
    """Delete the taken hits from the table."""
    async with seed.Connection(url) as connection:
        same = " AND ".join(f"goal_hits.{name} = hit.{name}" for name in await _key(connection))
        await connection.execute(_BY_INDEX)
        await connection.execute(f"DELETE FROM goal_hits USING bench_hits hit WHERE {same}")


async def fill(url: str, count: int) -> Filled:
    """Write about this many copies of the taken hits, recorded evenly over the days, and the indexes afterwards."""
    async with seed.Connection(url) as connection:
        await connection.execute("TRUNCATE goal_hits")
        parts, columns = await _parts_to_fill(connection), [row[0] for row in await connection.fetch(_COLUMNS)]
        day_column = await connection.fetchval(_DAY_COLUMN)
        taken = await connection.fetchval("SELECT count(*) FROM bench_hits")
    copies, writers = max(count // taken // DAYS, 1) * DAYS, asyncio.Semaphore(WRITERS)
    of_part = copies // len(parts)

    async def fill_part(number: int, part: Part) -> None:
        days = {} if part.day is None else {day_column: f"date '{part.day}'"}
        sql = _copy_sql(part, columns, _OTHER | days, number * of_part, of_part)
        async with writers, seed.Connection(url) as connection, _apart(connection, part):
            await connection.execute(sql)

    await asyncio.gather(*(fill_part(number, part) for number, part in enumerate(parts)))
    async with seed.Connection(url) as connection:
        return Filled(copies * taken, copies // DAYS * taken, await _bytes_each(connection))


def _copy_sql(part: Part, columns: Sequence[str], others: Mapping[str, str], first: int, count: int) -> str:
    return _COPY.format(
        part=part.name,
        columns=", ".join(columns),
        values=", ".join(others.get(name, f"hit.{name}") for name in columns),
        first=first,
        end=first + count,
    )


@contextlib.asynccontextmanager
async def _apart(connection: asyncpg.Connection, part: Part) -> AsyncIterator[None]:
    """Let a table be filled alone and without indexes."""
    if part.bound is not None:
        await connection.execute(f"ALTER TABLE goal_hits DETACH PARTITION {part.name}")
    async with seed.without_indexes(connection, part.name):
        yield
    if part.bound is not None:
        await connection.execute(f"ALTER TABLE goal_hits ATTACH PARTITION {part.name} {part.bound}")


async def _parts_to_fill(connection: asyncpg.Connection) -> list[Part]:
    """Return the partitions of all days, or the table itself where nobody made any."""
    today = await connection.fetchval(_TODAY)
    first = today - timedelta(days=DAYS - 1)
    if await connection.fetchval(_DAY_COLUMN) is not None:
        await connection.execute(_MAKE_DAYS, first, today)
    parts = [Part(*row) for row in await connection.fetch(_PARTS)]
    return [part for part in parts if part.bound is None or (part.day is not None and first <= part.day <= today)]


async def _bytes_each(connection: asyncpg.Connection) -> float:
    return round(float(await connection.fetchval(_BYTES)), 1)


async def _key(connection: asyncpg.Connection) -> list[str]:
    columns = {row[0] for row in await connection.fetch(_COLUMNS)}
    return [name for name in _KEY if name in columns]
