"""Phase 3, PUBLISH: what a judgement committed goes to Kafka and is deleted when acknowledged (design, Publishing)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import database, kafka, messages, metrics, sending, tables

# Longer than an owner takes between commit and acknowledgement, while the broker is well; repeats are harmless.
LEFT_BEHIND_SECONDS: Final = 20
SWEEP_RECORDS: Final = 1_000

_DELETE_BATCHES: Final = "DELETE FROM outbox WHERE batch_id IN ({})"
_DELETE_ROWS: Final = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"

# What the API wrote has no batch and goes at once; what a worker wrote is its own to send, for a while.
_LEFT_BEHIND: Final = """
SELECT id, topic, key, value, traceparent, tracestate FROM outbox
WHERE batch_id IS NULL OR created_at < clock_timestamp() - make_interval(secs => $1)
ORDER BY id LIMIT $2
"""
# The lock is held until all is acknowledged, which takes two sends at most; a frozen holder loses it after that.
_OUTLAST_SENDING: Final = f"SET LOCAL idle_in_transaction_session_timeout = '{2 * kafka.SEND_TIMEOUT_SECONDS + 5}s'"
_TRY_LOCK: Final = f"SELECT pg_try_advisory_xact_lock({database.SWEEP_LOCK})"

_STATUS: Final = """
SELECT topic, count(*), extract(epoch FROM min(created_at))::float8 FROM outbox GROUP BY topic ORDER BY topic
"""


class Pending(Struct, frozen=True):
    """Messages of one topic that wait; oldest is in seconds since the epoch."""

    topic: str
    records: int
    oldest_timestamp_seconds: float


async def publish(
    pool: AsyncEngine,
    sender: sending.Sender,
    topics: Mapping[str, str],
    outgoing: Mapping[UUID, Sequence[messages.Message]],
) -> None:
    """Send what judgements just committed, each a batch with an id, then delete it.

    The topics are real ones by their logical names. Raises what is_later knows; the rows stay then, and the sweeper or
    a replay sends them again, byte for byte.
    """
    await _send(sender, topics, [message for batch in outgoing.values() for message in batch])
    batch_ids = ", ".join([f"'{batch_id}'" for batch_id in outgoing])
    await database.at_once(pool, tables.WORKER_ROLE, "publish", _DELETE_BATCHES.format(batch_ids))


async def sweep(pool: AsyncEngine, sender: sending.Sender, topics: Mapping[str, str]) -> int:
    """Send what has no owner or was left behind, in id order, and return how many; 0 where another sweeper is at it."""
    async with database.transaction(pool, tables.WORKER_ROLE, "sweep", first=_OUTLAST_SENDING) as connection:
        if not await connection.fetchval(_TRY_LOCK):
            return 0
        rows = await connection.fetch(_LEFT_BEHIND, LEFT_BEHIND_SECONDS, SWEEP_RECORDS)
        if rows:
            await _send(sender, topics, [messages.Message(*row[1:]) for row in rows])
            await connection.execute(_DELETE_ROWS, [row[0] for row in rows])
    return len(rows)


async def status(connection: database.Connection) -> list[Pending]:
    """Return what waits, by topic."""
    return [Pending(*row) for row in await connection.fetch(_STATUS)]


def record_of(message: messages.Message, topic: str) -> kafka.Record:
    """Return a message as a Kafka record, with the trace headers of its triggering event (contract section 4)."""
    headers = [("content-type", messages.CONTENT_TYPE.encode())]
    if message.traceparent is not None:
        headers.append(("traceparent", message.traceparent.encode()))
    if message.tracestate is not None:
        headers.append(("tracestate", message.tracestate.encode()))
    return kafka.Record(topic, message.key, message.value, headers)


async def _send(sender: sending.Sender, topics: Mapping[str, str], outgoing: Sequence[messages.Message]) -> None:
    # Of one judgement, achieved is acknowledged before exit is sent (contract section 4).
    for is_exit in (False, True):
        records = [
            record_of(message, topics[message.topic])
            for message in outgoing
            if (message.topic == messages.WORKFLOW_EXIT) is is_exit
        ]
        await sender.send(records)
        for topic, count in Counter([record.topic for record in records]).items():
            metrics.outbox_published_total.labels(topic=topic).inc(count)
