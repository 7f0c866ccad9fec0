"""Phase 3, PUBLISH: what a judgement committed goes to Kafka and is deleted when acknowledged (design, Publishing)."""

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
from goalworker.kafka.records import Record
from goalworker.kafka.sender import WINDOW_SECONDS, Delivery, Refusal, Sender
from goalworker.pipeline import message_rows, refused_messages
from goalworker.postgres import connections, tables

# Longer than an owner takes between commit and acknowledgement, while the broker is well; repeats are harmless.
LEFT_BEHIND_SECONDS: Final = 20
# An owner that takes longer claims its judgements, this often: well before a sweeper takes them for orphans.
CLAIM_SECONDS: Final = 5.0
SWEEP_RECORDS: Final = 1_000
# What takes longer deletes what each window got acknowledged: were it killed, all of that would be sent again.
DELETE_SECONDS: Final = WINDOW_SECONDS
# Held messages are tried for so long at a time.
RETRY_SECONDS: Final = 10.0

_DELETE_BATCHES: Final = "DELETE FROM outbox WHERE batch_id IN ({})"
_DELETE_VALUES: Final = "DELETE FROM outbox WHERE batch_id = ANY ($1::uuid[]) AND value = ANY ($2::bytea[])"
_DELETE_ROWS: Final = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"

# What the API wrote has no batch and goes at once; what a worker wrote is its own to send, for a while, and for longer
# as long as it says that it is still at it.
_LEFT_BEHIND: Final = f"""
SELECT id, {message_rows.COLUMNS} FROM outbox
WHERE batch_id IS NULL OR (created_at < clock_timestamp() - make_interval(secs => $1)
    AND (claimed_until IS NULL OR claimed_until < clock_timestamp()))
ORDER BY id LIMIT $2
"""
_CLAIM: Final = """
UPDATE outbox SET claimed_until = clock_timestamp() + make_interval(secs => $2) WHERE batch_id = ANY ($1::uuid[])
"""
# The lock is held until all is acknowledged, which takes two sends at most; a frozen holder loses it after that.
_OUTLAST_SENDING: Final = f"SET LOCAL idle_in_transaction_session_timeout = '{2 * clients.SEND_TIMEOUT_SECONDS + 5}s'"
_TRY_LOCK: Final = f"SELECT pg_try_advisory_xact_lock({connections.SWEEP_LOCK})"

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
    sender: Sender,
    topics: Mapping[str, str],
    outgoing: Mapping[UUID, Sequence[messages.Message]],
    acknowledged: set[bytes] | None = None,
) -> None:
    """Send what judgements just committed, each a batch with an id, then delete it; keep aside what is refused.

    The topics are real ones by their logical names. Raises what is_later knows; the rows stay then, and the sweeper or
    a replay sends them again, byte for byte. `acknowledged` are values that the broker has: they are left out, and
    those that it has got when this fails are added.
    """
    known: set[bytes] = set() if acknowledged is None else acknowledged
    sending_now = [message for batch in outgoing.values() for message in batch if message.value not in known]

    async def delete_acknowledged(numbers: Sequence[int]) -> None:
        async with connections.transaction(pool, tables.WORKER_ROLE, "publish") as connection:
            await connection.execute(_DELETE_VALUES, list(outgoing), [sending_now[number].value for number in numbers])

    progress = _Sending(sender, topics, sending_now, delete_acknowledged=delete_acknowledged)
    try:
        await progress.run()
    except BaseException:
        known.update(sending_now[number].value for number in progress.acknowledged)
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
    known.difference_update([message.value for batch in outgoing.values() for message in batch] if known else ())


async def claim(pool: AsyncEngine, batch_ids: Sequence[UUID]) -> None:
    """Keep judgements that their owner is still publishing from the sweepers, for as long as they wait for an owner."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "publish") as connection:
        await connection.execute(_CLAIM, batch_ids, LEFT_BEHIND_SECONDS)


async def sweep(pool: AsyncEngine, sender: Sender, topics: Mapping[str, str]) -> int:
    """Send what has no owner or was left behind, in id order, and return how many; 0 where another sweeper is at it."""
    await sender.ready()
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
    """Send what its topic takes by now of what it refused, and return how many; 0 where another sweeper is at it."""
    await sender.ready()
    deadline = time.monotonic() + RETRY_SECONDS
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep", first=_OUTLAST_SENDING) as connection:
        if not await connection.fetchval(_TRY_LOCK):
            return 0
        held = await refused_messages.smallest(connection, topics)
        sent, failure = await _retry(connection, sender, topics, held)
        count, after = len(sent), 0
        taking = {each.message.topic for each in sent}
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
    progress, failure = await _try_to_send(sender, topics, [each.message for each in held])
    sent = [held[number] for number in progress.acknowledged]
    still = [(held[number].id, refusal) for number, refusal in progress.refused.items()]
    await refused_messages.settle(connection, [each.id for each in sent], still)
    return sent, failure


async def status(connection: connections.Connection) -> list[Pending]:
    """Return what waits, by topic."""
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
    """Send for a while, and return how far it came, with what ended it."""
    progress = _Sending(sender, topics, outgoing, deadline=time.monotonic() + DELETE_SECONDS)
    try:
        await progress.run()
    except broker_errors.NotAcknowledgedError as error:
        return progress, error
    return progress, None


class _Sending:
    """Sends messages in order, and knows what became of each by its number.

    After the deadline nothing further is sent. Once it takes long, what a window got acknowledged is given to
    delete_acknowledged, so that a successor finds only the rest.
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
        """Send a part as large as a window at a time, so that no exit waits for more than it must."""
        start, is_over = 0, False
        while start < len(self._outgoing) and not is_over:
            numbers = _part(self._outgoing, start, self._sender.window_bytes)
            is_over = not await self._send_part(numbers)
            start = numbers.stop

    async def _send_part(self, numbers: Sequence[int]) -> bool:
        """Send a part, and say whether the deadline left time for all of it."""
        # Of one judgement, achieved is acknowledged before exit is sent (contract section 4). If its topic refuses it,
        # the exit goes nevertheless: to stop the mails matters most, and what is refused is kept and sent later.
        for is_exit in (False, True):
            these = [each for each in numbers if (self._outgoing[each].topic == messages.WORKFLOW_EXIT) is is_exit]
            if not await self._deliver(these):
                return False
        return True

    async def _deliver(self, numbers: Sequence[int]) -> bool:
        if numbers and self._next_at >= self._deadline:
            return False  # the broker holds us back for longer
        records = (record_of(self._outgoing[each], self._topics[self._outgoing[each].topic]) for each in numbers)
        taken = 0

        def take() -> None:
            nonlocal taken
            acknowledged = [numbers[each] for each in delivery.acknowledged[taken:]]
            taken = len(delivery.acknowledged)
            self.acknowledged += acknowledged
            _count([self._outgoing[number] for number in acknowledged], self._topics)

        async def after_window(next_at: float) -> None:
            self._next_at = next_at
            take()
            await self._delete_if_slow()

        delivery = Delivery(records, deadline=self._deadline, after_window=after_window)
        try:
            await self._sender.deliver(delivery)
        finally:
            take()
            self.refused |= {numbers[each]: refusal for each, refusal in delivery.refused.items()}
        return not delivery.waiting

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
