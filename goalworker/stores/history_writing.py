"""Writing of history: events, exits, positions and days, each batch in one transaction (contract section 7)."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sa
from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker.postgres import connections, insight_tables, tables
from goalworker.stores import day_partitions, seen_values

_DAYS: Final = (insight_tables.history_events.name, insight_tables.history_exits.name)


class Position(NamedTuple):
    """The next offset of a partition, and the id of its topic, where the broker has ids."""

    next_offset: int
    topic_id: uuid.UUID | None


class Move(NamedTuple):
    """The step of a partition from the offset that is stored to the next one; first_at is its first record's time."""

    partition: TopicPartition
    stored: int
    next_offset: int
    first_at: datetime


class FencedError(Exception):
    """Another process has moved a position: what this one has read since is written there."""


# --- a batch ---

# A partition whose history begins with these rows covers the time from its first record on.
_MOVE: Final = """
WITH moved AS (
    UPDATE history_positions AS p SET
        next_offset = n.next_offset,
        history_from = CASE WHEN p.next_offset = p.first_offset THEN least(p.history_from, n.first_at)
            ELSE p.history_from END
    FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::timestamptz[])
        AS n (topic, partition, stored, next_offset, first_at)
    WHERE p.topic = n.topic AND p.partition = n.partition AND p.next_offset = n.stored
    RETURNING 1
)
SELECT (SELECT count(*) FROM moved) AS moved, today,
    to_regclass('history_events_' || to_char(today, 'YYYYMMDD')) IS NOT NULL
        AND to_regclass('history_exits_' || to_char(today, 'YYYYMMDD')) IS NOT NULL AS has_day
FROM (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS today) AS clock
"""


async def write(
    pool: AsyncEngine,
    moves: Sequence[Move],
    rows: Sequence[tuple[Any, ...]],
    seen: Iterable[seen_values.CountsOfField],
    exits: Sequence[tuple[Any, ...]] = (),
) -> None:
    """Write events, counts of values, exits and positions in one transaction.

    Rows and exits have the columns of history_events and history_exits without the day, which the database's clock
    decides. Raises FencedError where a stored position is another one, and writes nothing then.
    """
    async with connections.transaction(pool, tables.WORKER_ROLE, "history") as connection:
        found = await connection.fetchrow(_MOVE, *_columns_of(moves))
        if found["moved"] != len(moves):
            raise FencedError
        today = found["today"]
        if (rows or exits) and not found["has_day"]:
            await day_partitions.make(connection, _DAYS, today)
        await _copy(connection, insight_tables.history_events, today, rows)
        await _copy(connection, insight_tables.history_exits, today, exits)
        await seen_values.add(connection, seen)


def _columns_of(moves: Sequence[Move]) -> list[list[Any]]:
    ordered = sorted(moves)  # two processes that move the same positions take their locks in one order
    return [
        [move.partition.topic for move in ordered],
        [move.partition.partition for move in ordered],
        [move.stored for move in ordered],
        [move.next_offset for move in ordered],
        [move.first_at for move in ordered],
    ]


async def _copy(
    connection: connections.Connection, table: sa.Table, day: date, rows: Sequence[tuple[Any, ...]]
) -> None:
    if rows:
        # PostgreSQL refuses COPY into the parent, which has row-level security.
        records, columns = ((*row, day) for row in rows), [column.name for column in table.c]
        await connection.copy_records_to_table(f"{table.name}_{day:%Y%m%d}", records=records, columns=columns)


# --- positions ---

_POSITIONS: Final = """
SELECT p.topic, p.partition, p.next_offset, p.topic_id
FROM unnest($1::text[], $2::int[]) AS wanted (topic, partition) JOIN history_positions AS p USING (topic, partition)
"""

# A partition that is new, or whose log is another one or has lost records: history begins now. Behind a gap it stays
# there, since the first record that is left may be dated before the gap: no offset is -1. Where another process was
# first, nothing changes. A partition of exits bounds nothing.
_BEGIN: Final = """
INSERT INTO history_positions AS p (topic, partition, topic_id, first_offset, next_offset, history_from, history_until)
VALUES ($1, $2, $3, $4, $4, CASE WHEN $6 THEN '-infinity' ELSE clock_timestamp() END,
    CASE WHEN $6 THEN 'infinity'::timestamptz END)
ON CONFLICT (topic, partition) DO UPDATE SET
    topic_id = excluded.topic_id,
    first_offset = -1,
    next_offset = excluded.next_offset,
    history_from = excluded.history_from
WHERE p.next_offset = $5
"""


async def positions(pool: AsyncEngine, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position]:
    """Return the stored positions of partitions."""
    wanted = sorted(partitions)
    async with connections.transaction(pool, tables.WORKER_ROLE, "history") as connection:
        rows = await connection.fetch(
            _POSITIONS, [partition.topic for partition in wanted], [partition.partition for partition in wanted]
        )
    return {TopicPartition(row[0], row[1]): Position(row[2], row[3]) for row in rows}


async def begin(
    pool: AsyncEngine,
    begun: Mapping[TopicPartition, Position],
    stored: Mapping[TopicPartition, Position],
    exit_topic: str,
) -> None:
    """Begin the history of partitions at these positions, where the stored ones are still the same."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "history") as connection:
        for partition, position in sorted(begun.items()):
            before = stored[partition].next_offset if partition in stored else None
            is_of_exits = partition.topic == exit_topic
            await connection.execute(_BEGIN, *partition, position.topic_id, position.next_offset, before, is_of_exits)


# A time only grows: what a process says late, frozen meanwhile, is true and changes nothing.
_COVER: Final = """
UPDATE history_positions AS p SET history_until = greatest(p.history_until, n.until)
FROM unnest($1::text[], $2::int[], $3::timestamptz[]) AS n (topic, partition, until)
WHERE p.topic = n.topic AND p.partition = n.partition
"""


async def cover_until(pool: AsyncEngine, kept_until: Mapping[TopicPartition, datetime]) -> datetime:
    """Write up to which times partitions are kept, and return the time by the database's clock."""
    ordered = sorted(kept_until)
    async with connections.transaction(pool, tables.WORKER_ROLE, "history") as connection:
        if ordered:
            topics, numbers = [one.topic for one in ordered], [one.partition for one in ordered]
            await connection.execute(_COVER, topics, numbers, [kept_until[one] for one in ordered])
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now


# --- days and coverage ---

_SET_COVERAGE: Final = """
WITH before AS (SELECT retention_seconds FROM history_coverage)
INSERT INTO history_coverage AS c (id, keep, all_since, retention_seconds)
VALUES (1, $1, CASE WHEN $1 = 'all' THEN 'epoch'::timestamptz END, $2)
ON CONFLICT (id) DO UPDATE SET
    keep = excluded.keep,
    all_since = CASE WHEN excluded.keep = 'all' THEN coalesce(c.all_since, clock_timestamp()) END,
    retention_seconds = excluded.retention_seconds
RETURNING (SELECT retention_seconds FROM before) AS retention_before
"""
_BEGIN_AGAIN: Final = "UPDATE history_positions SET history_from = clock_timestamp() WHERE isfinite(history_from)"


async def set_coverage(pool: AsyncEngine, keep: Literal["enrolled", "all"], retention: timedelta) -> None:
    """Store whose events are kept and for how long; after a time without any, history begins now."""
    seconds = int(retention.total_seconds())
    async with connections.transaction(pool, tables.WORKER_ROLE, "history") as connection:
        before = await connection.fetchval(_SET_COVERAGE, keep, seconds)
        if before == 0 and seconds > 0:
            await connection.execute(_BEGIN_AGAIN)


_NOTE_DROPPED: Final = """
UPDATE history_coverage SET dropped_before = greatest(dropped_before, least($1::date, current_date))
"""


async def last_day(pool: AsyncEngine) -> date | None:
    """Return the last day that has a partition, None without one."""
    return await day_partitions.last(pool, insight_tables.history_events.name)


async def keep_days(pool: AsyncEngine, retention: timedelta) -> list[date]:
    """Make the next days' partitions, drop those that are older than the retention, and return the dropped days."""
    return await day_partitions.keep(pool, _DAYS, connections.HISTORY_LOCK, retention or None, _note_dropped)


async def _note_dropped(connection: connections.Connection, first_kept: date) -> None:
    await connection.execute(_NOTE_DROPPED, first_kept)
