"""Messages that their topic refuses: held, so that no other message waits for them, and retried now and then."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from goalworker.domain import messages
from goalworker.kafka.delivery import Refusal
from goalworker.pipeline import message_rows
from goalworker.postgres import arrays, connections

RETRY_SECONDS: Final = 15
_COLUMNS: Final = f"id, {message_rows.COLUMNS}, created_at"

_Refused = tuple[Any, Refusal]
"""A message, by its id or its value, and why its topic refuses it."""


def _refused(name: str, type_: str, first: int) -> arrays.Columns[_Refused]:
    return arrays.Columns(
        arrays.plain(name, type_, lambda refused: [message for message, _ in refused]),
        arrays.plain("reason", "text", lambda refused: [refusal.reason for _, refusal in refused]),
        arrays.plain("size_bytes", "int", lambda refused: [refusal.size for _, refusal in refused]),
        arrays.plain("limit_bytes", "int", lambda refused: [refusal.limit for _, refusal in refused]),
        first=first,
    )


def _hold(scope: str, column: str, refused: arrays.Columns[_Refused]) -> str:
    return f"""
WITH refused AS (
    SELECT * FROM {refused.unnested("refused")}
), gone AS (
    DELETE FROM outbox USING refused
    WHERE outbox.{scope} = ANY ($1) AND outbox.{column} = refused.wanted
    RETURNING {_COLUMNS}, reason, size_bytes, limit_bytes
)
INSERT INTO refused_messages ({_COLUMNS}, reason, size_bytes, limit_bytes) SELECT * FROM gone
"""


_REFUSED_ROWS: Final = _refused("wanted", "bigint", first=2)
_HOLD_ROWS: Final = _hold("id", "id", _REFUSED_ROWS)
# Within the batches of judgements a value identifies its message, since it contains an id of its own.
_REFUSED_VALUES: Final = _refused("wanted", "bytea", first=2)
_HOLD_OF_BATCHES: Final = _hold("batch_id", "value", _REFUSED_VALUES)

# The smallest message shows whether its topic takes larger ones now: if it is refused again, so are the others.
_SMALLEST: Final = f"""
SELECT smallest.* FROM unnest($1::text[]) AS wanted (topic) CROSS JOIN LATERAL (
    SELECT {_COLUMNS} FROM refused_messages r WHERE r.topic = wanted.topic ORDER BY size_bytes, id LIMIT 1) smallest
"""
_FOLLOWING: Final = f"""
SELECT {_COLUMNS} FROM refused_messages WHERE topic = ANY ($1::text[]) AND id > $2 ORDER BY id LIMIT $3
"""
_DELETE: Final = "DELETE FROM refused_messages WHERE id = ANY ($1::bigint[])"
_REFUSED_AGAIN: Final = _refused("id", "bigint", first=1)
_REFUSE_AGAIN: Final = f"""
UPDATE refused_messages m SET tried_at = clock_timestamp(), reason = r.reason, limit_bytes = r.limit_bytes
FROM {_REFUSED_AGAIN.unnested("r")}
WHERE m.id = r.id
"""

_STATUS: Final = """
SELECT topic, records, smallest_bytes, largest_bytes, limit_bytes, reason, extract(epoch FROM since)::float8
FROM goalworker_refused_status()
"""


class HeldMessage(Struct, frozen=True):
    """A message that is held."""

    id: int
    message: messages.Message


class HeldByTopic(Struct, frozen=True):
    """The messages of a topic that are held; limit and reason are those of the last attempt."""

    topic: str
    records: int
    smallest_bytes: int
    largest_bytes: int
    limit_bytes: int | None
    reason: str
    since_timestamp_seconds: float


async def hold_of_batches(
    connection: connections.Connection, batch_ids: Collection[UUID], refused: Sequence[tuple[bytes, Refusal]]
) -> None:
    """Move refused messages of judgements out of the outbox; each is identified by its value."""
    await connection.execute(_HOLD_OF_BATCHES, list(batch_ids), *_REFUSED_VALUES.arguments(refused))


async def hold_rows(connection: connections.Connection, refused: Sequence[tuple[int, Refusal]]) -> None:
    """Move refused messages out of the outbox; each is identified by its id there."""
    await connection.execute(_HOLD_ROWS, [row_id for row_id, _ in refused], *_REFUSED_ROWS.arguments(refused))


async def smallest(connection: connections.Connection, topics: Iterable[str]) -> list[HeldMessage]:
    """Return the smallest held message of each of these topics."""
    return _held(await connection.fetch(_SMALLEST, list(topics)))


async def following(
    connection: connections.Connection, topics: Iterable[str], after: int, limit: int
) -> list[HeldMessage]:
    """Return the held messages of these topics after an id, in the order of their ids."""
    return _held(await connection.fetch(_FOLLOWING, list(topics), after, limit))


async def settle(
    connection: connections.Connection, sent: Sequence[int], refused: Sequence[tuple[int, Refusal]]
) -> None:
    """Delete the messages that the broker has now, and note why it refuses the others again."""
    if sent:
        await connection.execute(_DELETE, sent)
    if refused:
        await connection.execute(_REFUSE_AGAIN, *_REFUSED_AGAIN.arguments(refused))


async def status(connection: connections.Connection) -> list[HeldByTopic]:
    """Return the held messages, by topic; the role is the worker's or the API's."""
    return [HeldByTopic(*row) for row in await connection.fetch(_STATUS)]


def _held(rows: Iterable[Any]) -> list[HeldMessage]:
    return [HeldMessage(row_id, message_rows.message_of(message)) for row_id, *message, _ in rows]
