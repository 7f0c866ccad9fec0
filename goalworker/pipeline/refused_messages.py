"""Messages that their topic refuses: kept aside, so that nothing waits for them, and tried again from time to time."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from goalworker.domain import messages
from goalworker.kafka import sender
from goalworker.postgres import connections

RETRY_SECONDS: Final = 15
_COLUMNS: Final = "id, topic, key, value, traceparent, tracestate, event_timestamp_ms, created_at"

# By id where it is known, else by content within the batches of a judgement: a value has an id of its own in it.
_HOLD: Final = f"""
WITH refused AS (
    SELECT * FROM unnest($2::{{of_type}}[], $3::text[], $4::int[], $5::int[])
        AS refused (wanted, reason, size_bytes, limit_bytes)
), gone AS (
    DELETE FROM outbox USING refused
    WHERE outbox.{{scope}} = ANY ($1) AND outbox.{{column}} = refused.wanted
    RETURNING {_COLUMNS}, reason, size_bytes, limit_bytes
)
INSERT INTO refused_messages ({_COLUMNS}, reason, size_bytes, limit_bytes) SELECT * FROM gone
"""
_HOLD_ROWS: Final = _HOLD.format(of_type="bigint", scope="id", column="id")
_HOLD_OF_BATCHES: Final = _HOLD.format(of_type="bytea", scope="batch_id", column="value")

# Whether a topic takes more now is found out with the smallest of them: where that one is refused, all are.
_SMALLEST: Final = f"""
SELECT smallest.* FROM unnest($1::text[]) AS wanted (topic) CROSS JOIN LATERAL (
    SELECT {_COLUMNS} FROM refused_messages r WHERE r.topic = wanted.topic ORDER BY size_bytes, id LIMIT 1) smallest
"""
_FOLLOWING: Final = f"""
SELECT {_COLUMNS} FROM refused_messages WHERE topic = ANY ($1::text[]) AND id > $2 ORDER BY id LIMIT $3
"""
_DELETE: Final = "DELETE FROM refused_messages WHERE id = ANY ($1::bigint[])"
_REFUSE_AGAIN: Final = """
UPDATE refused_messages m SET tried_at = clock_timestamp(), reason = r.reason, limit_bytes = r.limit_bytes
FROM unnest($1::bigint[], $2::text[], $3::int[], $4::int[]) AS r (id, reason, size_bytes, limit_bytes)
WHERE m.id = r.id
"""

_STATUS: Final = """
SELECT topic, count(*), min(size_bytes), max(size_bytes), (array_agg(limit_bytes ORDER BY tried_at DESC))[1],
    (array_agg(reason ORDER BY tried_at DESC))[1], extract(epoch FROM min(refused_at))::float8
FROM refused_messages GROUP BY topic ORDER BY topic
"""


class HeldMessage(Struct, frozen=True):
    """One message that is kept aside."""

    id: int
    message: messages.Message


class HeldByTopic(Struct, frozen=True):
    """What of a topic is kept aside: sizes in bytes; the limit and the reason are those of the last attempt."""

    topic: str
    records: int
    smallest_bytes: int
    largest_bytes: int
    limit_bytes: int | None
    reason: str
    since_timestamp_seconds: float


async def hold_of_batches(
    connection: connections.Connection, batch_ids: Collection[UUID], refused: Sequence[tuple[bytes, sender.Refusal]]
) -> None:
    """Move messages of judgements out of the outbox; each is named by its value."""
    await connection.execute(_HOLD_OF_BATCHES, list(batch_ids), *_arrays(refused))


async def hold_rows(connection: connections.Connection, refused: Sequence[tuple[int, sender.Refusal]]) -> None:
    """Move messages out of the outbox; each is named by its id there."""
    await connection.execute(_HOLD_ROWS, [row_id for row_id, _ in refused], *_arrays(refused))


async def smallest(connection: connections.Connection, topics: Iterable[str]) -> list[HeldMessage]:
    """Return the smallest message of each topic that has some."""
    return _held(await connection.fetch(_SMALLEST, list(topics)))


async def following(
    connection: connections.Connection, topics: Iterable[str], after: int, limit: int
) -> list[HeldMessage]:
    """Return messages of topics in the order in which they were written, those behind an id."""
    return _held(await connection.fetch(_FOLLOWING, list(topics), after, limit))


async def settle(
    connection: connections.Connection, sent: Sequence[int], refused: Sequence[tuple[int, sender.Refusal]]
) -> None:
    """Delete what the broker has now, and note what it refuses still."""
    if sent:
        await connection.execute(_DELETE, sent)
    if refused:
        await connection.execute(_REFUSE_AGAIN, *_arrays(refused))


async def status(connection: connections.Connection) -> list[HeldByTopic]:
    """Return what is kept aside, by topic."""
    return [HeldByTopic(*row) for row in await connection.fetch(_STATUS)]


def _held(rows: Iterable[Any]) -> list[HeldMessage]:
    return [HeldMessage(row[0], messages.Message(*row[1:7])) for row in rows]


def _arrays(refused: Sequence[tuple[Any, sender.Refusal]]) -> tuple[list[Any], list[str], list[int], list[int | None]]:
    return (
        [name for name, _ in refused],
        [refusal.reason for _, refusal in refused],
        [refusal.size for _, refusal in refused],
        [refusal.limit for _, refusal in refused],
    )
