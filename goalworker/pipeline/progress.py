"""Progress: up to which time the records of each partition are judged (`fresh_as_of`, contract section 5).

The timestamps of records say nothing about it: a producer sets them, in any order. Instead, the end of a partition is
asked for after a moment of the database's clock. Once the committed offset reaches that end, all records that reached
the partition before that moment are judged, since offsets are committed last. A record has reached Kafka once consumers
may read it; one behind an open transaction has reached Kafka too, so the end is the high watermark.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker.postgres import connections, tables

# Marks of a partition. Beyond them every second one is dropped: a partition that lags moves on in larger steps.
MARKS_MAX: Final = 60

Offsets = Mapping[TopicPartition, int]


class Mark(NamedTuple):
    """The end of a partition, as the broker gave it after a moment."""

    end: int
    at: datetime


class Marks:
    """Marks that the committed offsets of partitions have not reached yet."""

    def __init__(self) -> None:
        self._marks: dict[TopicPartition, list[Mark]] = {}

    def add(self, at: datetime, ends: Offsets, committed: Offsets) -> None:
        """Add the ends of partitions, and forget partitions without one.

        The ends must be asked for after `at`, and after `committed` was read: one below the committed offset belongs to
        another log.
        """
        self._marks = {
            partition: _with(Mark(end, at), self._marks.get(partition, []))
            for partition, end in ends.items()
            if committed.get(partition, end + 1) <= end
        }

    def take_reached(self, committed: Offsets) -> dict[TopicPartition, datetime]:
        """Return the time of the last mark that each partition has reached, and forget the marks up to it."""
        reached = {}
        for partition, offset in committed.items():
            marks = self._marks.get(partition, [])
            if passed := [mark for mark in marks if mark.end <= offset]:
                reached[partition] = passed[-1].at
                self._marks[partition] = marks[len(passed) :]
        return reached


def _with(mark: Mark, marks: list[Mark]) -> list[Mark]:
    if marks and marks[-1].end > mark.end:
        marks = []  # the log has lost its end: earlier marks may never be reached
    elif marks and marks[-1].end == mark.end:
        marks = marks[:-1]  # nothing has come in between
    elif len(marks) >= MARKS_MAX:
        marks = marks[::2]
    return [*marks, mark]


# Every write inserts the partitions without a row, so that a time never covers a partition that nobody knew. Rows of
# partitions that exist are written once a minute at least. A partition may be missing in the metadata of one worker, so
# its row stays while another worker may still write it.
_WRITE: Final = """
WITH listed AS (
    SELECT l.*, p.topic IS NULL AS is_new, p.written_at
    FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::timestamptz[])
        AS l (topic, partition, judged_until, absent_at)
    LEFT JOIN progress AS p ON p.topic = l.topic AND p.partition = l.partition
), written AS (
    INSERT INTO progress AS p (topic, partition, judged_until, written_at)
    SELECT topic, partition, CASE WHEN is_new THEN greatest(judged_until, absent_at) ELSE judged_until END,
        $5::timestamptz
    FROM listed WHERE is_new OR judged_until IS NOT NULL OR written_at < $5::timestamptz - interval '1 minute'
    ORDER BY topic, partition
    ON CONFLICT (topic, partition) DO UPDATE SET
        judged_until = greatest(p.judged_until, excluded.judged_until),
        written_at = greatest(p.written_at, excluded.written_at)
), gone AS (
    DELETE FROM progress AS p
    WHERE p.written_at < $5::timestamptz - interval '10 minutes'
        AND NOT EXISTS (SELECT FROM listed AS l WHERE l.topic = p.topic AND l.partition = p.partition)
)
SELECT clock_timestamp()
"""


async def write(
    pool: AsyncEngine,
    existing: Collection[TopicPartition],
    judged_until: Mapping[TopicPartition, datetime],
    absent_at: Mapping[TopicPartition, datetime],
    before_listing: datetime,
) -> datetime:
    """Write up to which times partitions are judged, and return the time by the database's clock.

    existing: all partitions of the topics in, listed after the moment before_listing of the same clock.
    absent_at: when a partition did not exist yet, so that it begins with that time unless it has a row.
    A time only grows: what a worker says late, frozen meanwhile, is true and changes nothing.
    """
    partitions = sorted(existing)
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
        now: datetime = await connection.fetchval(
            _WRITE,
            [partition.topic for partition in partitions],
            [partition.partition for partition in partitions],
            [judged_until.get(partition) for partition in partitions],
            [absent_at.get(partition) for partition in partitions],
            before_listing,
        )
    return now


class PartitionProgress(NamedTuple):
    """Time until which a partition is judged, None before it was judged to its end once; and when it was last seen."""

    topic: str
    partition: int
    judged_until: datetime | None
    written_at: datetime


_READ: Final = "SELECT topic, partition, judged_until, written_at FROM progress ORDER BY topic, partition"


async def read(connection: connections.Connection) -> list[PartitionProgress]:
    """Return the progress of all partitions; the role is the worker's or the API's."""
    return [PartitionProgress(*row) for row in await connection.fetch(_READ)]


class Liveness(NamedTuple):
    """The time now, when a worker last saw a partition, and the latest time until which one is judged."""

    now: datetime
    seen_at: datetime | None
    judged_until: datetime | None


_LIVENESS: Final = "SELECT clock_timestamp(), max(written_at), max(judged_until) FROM progress"


async def liveness(connection: connections.Connection) -> Liveness:
    """Return by which times workers were at work; the role is the worker's or the API's."""
    return Liveness(*await connection.fetchrow(_LIVENESS))


async def forget(pool: AsyncEngine) -> None:
    """Forget all progress, before offsets are moved: records that are read again may not be judged."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
        await connection.execute("DELETE FROM progress")
