"""Phase 3, PUBLISH: send committed messages to Kafka, and delete the acknowledged ones (design, Publishing)."""

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import metrics
from goalworker.domain import messages
from goalworker.kafka import broker_errors, clients
from goalworker.kafka.delivery import Delivery, Refusal
from goalworker.kafka.records import Record
from goalworker.kafka.sender import WINDOW_SECONDS, Sender
from goalworker.pipeline import message_rows, refused_messages
from goalworker.postgres import connections, tables

# Seconds after which a sweeper takes messages for orphans, longer than their owner takes while the broker is well. A
# message that is sent twice is harmless.
LEFT_BEHIND_SECONDS: Final = 20
# Seconds between two claims of an owner that takes longer, well before a sweeper takes its messages for orphans.
CLAIM_SECONDS: Final = 5.0
# Messages of one sweep, at most; a sweep is one transaction.
SWEEP_RECORDS: Final = 1_000
# Seconds after which acknowledged messages are deleted window by window, so that a crash does not repeat them all.
DELETE_SECONDS: Final = WINDOW_SECONDS
# Seconds that one retry of held messages takes, at most.
RETRY_SECONDS: Final = 10.0

_DELETE_BATCHES: Final = "DELETE FROM outbox WHERE batch_id IN ({})"
_DELETE_VALUES: Final = "DELETE FROM outbox WHERE batch_id = ANY ($1::uuid[]) AND value = ANY ($2::bytea[])"
_DELETE_ROWS: Final = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"

# Messages that the API wrote have no batch and are sent at once. Those of a worker are its own to send for a while, and
# for longer while it claims them.
_LEFT_BEHIND: Final = f"""
SELECT id, {message_rows.COLUMNS} FROM outbox
WHERE batch_id IS NULL OR (created_at < clock_timestamp() - make_interval(secs => $1)
    AND (claimed_until IS NULL OR claimed_until < clock_timestamp()))
ORDER BY id LIMIT $2
"""
_CLAIM: Final = """
UPDATE outbox SET claimed_until = clock_timestamp() + make_interval(secs => $2) WHERE batch_id = ANY ($1::uuid[])
"""
# The lock is held until all messages are acknowledged, at most two sends; a frozen holder loses it after that.
_OUTLAST_SENDING: Final = f"SET LOCAL idle_in_transaction_session_timeout = '{2 * clients.SEND_TIMEOUT_SECONDS + 5}s'"
_TRY_LOCK: Final = f"SELECT pg_try_advisory_xact_lock({connections.SWEEP_LOCK})"

# The API's role may count what it must not read.
_STATUS: Final = "SELECT topic, records, extract(epoch FROM oldest_at)::float8 FROM goalworker_outbox_status()"


class Pending(Struct, frozen=True):
    """Waiting messages of one topic; the timestamp is in seconds since the epoch."""

    topic: str
    records: int
    oldest_timestamp_seconds: float


async def publish(
    pool: AsyncEngine,
    sender: Sender,
    topics: Mapping[str, str],
    outgoing: Mapping[UUID, Sequence[messages.Message]],
    acknowledged: set[bytes] | None = None,
) -> None:
    """Send the messages of judgements, by the ids of their outbox batches, then delete them; hold the refused ones.

    `topics` maps logical names to real ones. After a transient error the rows stay, and the sweeper or a replay sends
    them again, byte for byte. `acknowledged` are values that the broker has: they are not sent, and on an error the
    newly acknowledged ones are added.
    """
    delivered: set[bytes] = set() if acknowledged is None else acknowledged
    sending_now = [message for batch in outgoing.values() for message in batch if message.value not in delivered]

    async def delete_acknowledged(numbers: Sequence[int]) -> None:
        async with connections.transaction(pool, tables.WORKER_ROLE, "publish") as connection:
            await connection.execute(_DELETE_VALUES, list(outgoing), [sending_now[number].value for number in numbers])

    progress = _Sending(sender, topics, sending_now, delete_acknowledged=delete_acknowledged)
    try:
        await progress.run()
    except BaseException:
        delivered.update(sending_now[number].value for number in progress.acknowledged)
        raise
    batch_ids = ", ".join([f"'{batch_id}'" for batch_id in outgoing])
    delete = _DELETE_BATCHES.format(batch_ids)
    if progress.refused:
        refusals = [(sending_now[number].value, refusal) for number, refusal in progress.refused.items()]
        async with connections.transaction(pool, tables.WORKER_ROLE, "publish") as connection:
            await refused_messages.hold_of_batches(connection, list(outgoing), refusals)
            await connection.execute(delete)
    else:
        await connections.execute_in_one_trip(pool, tables.WORKER_ROLE, "publish", delete)
    delivered.difference_update(
        [message.value for batch in outgoing.values() for message in batch] if delivered else ()
    )


async def claim(pool: AsyncEngine, batch_ids: Sequence[UUID]) -> None:
    """Keep messages that their owner is still publishing from the sweepers for another LEFT_BEHIND_SECONDS."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "publish") as connection:
        await connection.execute(_CLAIM, batch_ids, LEFT_BEHIND_SECONDS)


async def sweep(pool: AsyncEngine, sender: Sender, topics: Mapping[str, str]) -> int:
    """Send messages without an owner, in id order, and return their number; 0 if another sweeper is active."""
    await sender.wait_while_throttled()
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep", first=_OUTLAST_SENDING) as connection:
        if not await connection.fetchval(_TRY_LOCK):
            return 0
        rows = await connection.fetch(_LEFT_BEHIND, LEFT_BEHIND_SECONDS, SWEEP_RECORDS)
        ids = [row_id for row_id, *_ in rows]
        outgoing = [message_rows.message_of(message) for _, *message in rows]
        progress, failure = await _try_to_send(sender, topics, outgoing)
        if progress.refused:
            refused = [(ids[number], refusal) for number, refusal in progress.refused.items()]
            await refused_messages.hold_rows(connection, refused)
        if progress.acknowledged:
            await connection.execute(_DELETE_ROWS, [ids[number] for number in progress.acknowledged])
    if failure is not None:
        raise failure
    return len(progress.acknowledged) + len(progress.refused)


async def retry_refused(pool: AsyncEngine, sender: Sender, topics: Mapping[str, str]) -> int:
    """Send the held messages that their topics take now, and return their number; 0 if another sweeper is active."""
    await sender.wait_while_throttled()
    deadline = time.monotonic() + RETRY_SECONDS
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep", first=_OUTLAST_SENDING) as connection:
        if not await connection.fetchval(_TRY_LOCK):
            return 0
        held = await refused_messages.smallest(connection, topics)
        sent, failure = await _retry(connection, sender, topics, held)
        count, after = len(sent), 0
        taking = {retried.message.topic for retried in sent}
        while taking and failure is None and time.monotonic() < deadline:
            held = await refused_messages.following(connection, taking, after, SWEEP_RECORDS)
            if not held:
                break
            sent, failure = await _retry(connection, sender, topics, held)
            count, after = count + len(sent), held[-1].id
    if failure is not None:
        raise failure
    return count


async def _retry(
    connection: connections.Connection,
    sender: Sender,
    topics: Mapping[str, str],
    held: Sequence[refused_messages.HeldMessage],
) -> tuple[list[refused_messages.HeldMessage], broker_errors.NotAcknowledgedError | None]:
    progress, failure = await _try_to_send(sender, topics, [refused.message for refused in held])
    sent = [held[number] for number in progress.acknowledged]
    still = [(held[number].id, refusal) for number, refusal in progress.refused.items()]
    await refused_messages.settle(connection, [retried.id for retried in sent], still)
    return sent, failure


async def status(connection: connections.Connection) -> list[Pending]:
    """Return the waiting messages, by topic; the role is the worker's or the API's."""
    return [Pending(*row) for row in await connection.fetch(_STATUS)]


def record_of(message: messages.Message, topic: str) -> Record:
    """Return a message as a Kafka record, with the trace headers of its triggering event (contract section 4)."""
    headers = [("content-type", messages.CONTENT_TYPE.encode())]
    if message.traceparent is not None:
        headers.append(("traceparent", message.traceparent.encode()))
    if message.tracestate is not None:
        headers.append(("tracestate", message.tracestate.encode()))
    return Record(topic, message.key, message.value, headers)


async def _try_to_send(
    sender: Sender, topics: Mapping[str, str], outgoing: Sequence[messages.Message]
) -> tuple["_Sending", broker_errors.NotAcknowledgedError | None]:
    """Send until the deadline, and return the progress, with the error that ended it."""
    progress = _Sending(sender, topics, outgoing, deadline=time.monotonic() + DELETE_SECONDS)
    try:
        await progress.run()
    except broker_errors.NotAcknowledgedError as error:
        return progress, error
    return progress, None


class _Sending:
    """Messages that are sent in order, and the numbers of those that were acknowledged or refused.

    After the deadline nothing further is sent. Once sending takes long, delete_acknowledged is awaited after each
    window with the numbers that it got acknowledged, so that a successor finds only the rest.
    """

    def __init__(
        self,
        sender: Sender,
        topics: Mapping[str, str],
        outgoing: Sequence[messages.Message],
        *,
        deadline: float = math.inf,
        delete_acknowledged: Callable[[Sequence[int]], Awaitable[None]] | None = None,
    ) -> None:
        self._sender = sender
        self._topics = topics
        self._outgoing = outgoing
        self._deadline = deadline
        self._delete_acknowledged = delete_acknowledged
        self._next_at = 0.0
        self._began_at = time.monotonic()
        self._deleted = 0
        self.acknowledged: list[int] = []
        self.refused: dict[int, Refusal] = {}

    async def run(self) -> None:
        """Send window by window, so that no exit waits for more messages than it must."""
        start, is_over = 0, False
        while start < len(self._outgoing) and not is_over:
            numbers = _part(self._outgoing, start, self._sender.window_bytes)
            is_over = not await self._send_part(numbers)
            start = numbers.stop

    async def _send_part(self, numbers: Sequence[int]) -> bool:
        """Send a part, and say whether all of it was sent before the deadline."""
        # Of one judgement, achieved is acknowledged before exit is sent (contract section 4). If its topic refuses it,
        # the exit goes nevertheless: stopping the mails matters most, and refused messages are held and sent later.
        for is_exit in (False, True):
            these = [
                number for number in numbers if (self._outgoing[number].topic == messages.WORKFLOW_EXIT) is is_exit
            ]
            if not await self._deliver(these):
                return False
        return True

    async def _deliver(self, numbers: Sequence[int]) -> bool:
        if numbers and self._next_at >= self._deadline:
            return False  # the broker holds us back for longer
        outgoing = [self._outgoing[number] for number in numbers]
        records = [record_of(message, self._topics[message.topic]) for message in outgoing]
        taken = 0

        def take() -> None:
            nonlocal taken
            acknowledged = [numbers[position] for position in delivery.acknowledged[taken:]]
            taken = len(delivery.acknowledged)
            self.acknowledged += acknowledged
            _count([self._outgoing[number] for number in acknowledged], self._topics)

        async def after_window(next_at: float) -> None:
            self._next_at = next_at
            take()
            await self._delete_if_slow()

        # The delivery must not refer to after_window, which refers to it: messages would wait for the collector.
        delivery = Delivery(records)
        try:
            await self._sender.deliver(delivery, deadline=self._deadline, after_window=after_window)
        finally:
            take()
            self.refused |= {numbers[position]: refusal for position, refusal in delivery.refused.items()}
        return not delivery.pending

    async def _delete_if_slow(self) -> None:
        """Delete what was acknowledged once the next window begins long after the first."""
        if self._delete_acknowledged is not None and self._next_at - self._began_at >= DELETE_SECONDS:
            await self._delete_acknowledged(self.acknowledged[self._deleted :])
            self._deleted = len(self.acknowledged)


def _part(outgoing: Sequence[messages.Message], start: int, size_bytes: int) -> range:
    end, total = start, 0
    while end < len(outgoing) and (end == start or total < size_bytes):
        total += len(outgoing[end].value)
        end += 1
    return range(start, end)


def _count(acknowledged: Sequence[messages.Message], topics: Mapping[str, str]) -> None:
    for topic, count in Counter([message.topic for message in acknowledged]).items():
        metrics.outbox_published_total.labels(topic=topics[topic]).inc(count)
    exits = [message for message in acknowledged if message.event_timestamp_ms is not None]
    now = time.time()
    for message in exits:
        age_seconds = max(now - (message.event_timestamp_ms or 0) / 1000, 0.0)
        metrics.exit_age_seconds.labels(logic=messages.logic_of(message)).observe(age_seconds)
