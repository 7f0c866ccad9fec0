"""Send records until each is acknowledged, or refused by its topic for good; a failed attempt can be repeated."""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from aiokafka import errors as kafka_errors

from goalworker import config
from goalworker.kafka import clients, topics
from goalworker.kafka.attempts import RECORD_TOO_LARGE, TOPIC_REFUSED, send_once
from goalworker.kafka.broker_errors import NotAcknowledgedError
from goalworker.kafka.delivery import Delivery, RefusedBatch
from goalworker.kafka.producer import Producer, batch_size
from goalworker.kafka.records import Record

# One window of records is in flight at a time. It shrinks if it takes longer than this many seconds, as when a broker
# throttles, and doubles if a full one takes less, so that the first of many records is acknowledged soon.
WINDOW_SECONDS: Final = 2.0
WINDOW_BYTES: Final = 64 * 1024
WINDOW_BYTES_MIN: Final = 4 * 1024
WINDOW_BYTES_MAX: Final = 4 * 1024 * 1024
# Records in flight while each is a batch of its own; they take about as long as a window.
SINGLY_AT_ONCE: Final = 200
# Bytes. A broker closes the connection on a request above 100 MiB (socket.request.max.bytes) instead of answering it,
# so a larger record is refused here.
RECORD_BYTES_MAX: Final = 90 * 1024 * 1024
# Seconds for which a topic's limit is cached; shorter than the interval at which refused messages are retried.
LIMIT_SECONDS: Final = 10.0
_RECORD_OVERHEAD_BYTES: Final = 100


class Sender:
    """Sender that waits until the broker has acknowledged every record, or refuses it for good.

    A producer that failed is dropped: its records may arrive late, and its sequence may have a gap (hazard 12).
    """

    window_bytes = WINDOW_BYTES
    _producer: Producer | None = None

    def __init__(self, settings: config.Settings) -> None:
        self._settings = settings
        self._starting = asyncio.Lock()
        self._limits: dict[str, tuple[int, float]] = {}

    async def start(self) -> None:
        """Connect; raises a transient error while the broker is away."""
        await self._started()

    async def wait_while_throttled(self) -> None:
        """Wait until no broker throttles us."""
        if self._producer is not None:
            await asyncio.sleep(max(self._producer.throttle.until - time.monotonic(), 0.0))

    async def send(self, records: Iterable[Record]) -> None:
        """Send records, in order within a key, and return when all are acknowledged.

        Raises NotAcknowledgedError, or the error of the first refusal once all other records are acknowledged.
        """
        delivery = Delivery(records)
        await self.deliver(delivery)
        for refusal in delivery.refused.values():
            raise refusal.error

    async def deliver(
        self,
        delivery: Delivery,
        *,
        deadline: float = math.inf,
        after_window: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """Send the pending records, in order within a key, until each is acknowledged or refused.

        No window begins after the deadline. after_window is awaited after each window, with the time at which the next
        may begin. Both times are those of the monotonic clock. Raises NotAcknowledgedError; a retry passes the same
        delivery.
        """
        next_at = time.monotonic()
        while delivery.pending and next_at < deadline:
            await self.wait_while_throttled()  # else the throttling after one window would count as time of the next
            window, size = self._window(delivery)
            is_full = len(window) < len(delivery.pending)
            began = time.monotonic()
            try:
                await self._send_window(delivery, window)
            except NotAcknowledgedError:
                self.window_bytes = max(self.window_bytes // 2, WINDOW_BYTES_MIN)
                raise
            throttled_until = self._producer.throttle.until if self._producer is not None else 0.0
            next_at = max(time.monotonic(), throttled_until)
            self._adapt(size, next_at - began, is_full=is_full)
            if after_window is not None:
                await after_window(next_at)

    async def stop(self) -> None:
        """Close the connection; deliver() leaves nothing in flight."""
        if self._producer is not None:
            stopped, self._producer = self._producer, None
            await stopped.close()

    # --- windows ---

    def _window(self, delivery: Delivery) -> tuple[dict[int, Record], int]:
        """Return the first pending records, up to the size of a window and at least one, with their size."""
        window: dict[int, Record] = {}
        total = 0
        for number, record in delivery.pending.items():
            size = len(record.value or b"") + len(record.key or b"") + _RECORD_OVERHEAD_BYTES
            if window and total + size > self.window_bytes:
                break
            window[number] = record
            total += size
        return window, total

    def _adapt(self, size: int, seconds: float, *, is_full: bool) -> None:
        if seconds > WINDOW_SECONDS:
            self.window_bytes = max(int(size / seconds * WINDOW_SECONDS), WINDOW_BYTES_MIN)
        elif is_full:
            self.window_bytes = min(self.window_bytes * 2, WINDOW_BYTES_MAX)

    async def _send_window(self, delivery: Delivery, window: Mapping[int, Record]) -> None:
        limits = self._cached_limits()
        is_giant = len(window) == 1 and any(len(record.value or b"") > RECORD_BYTES_MAX for record in window.values())
        fitting = self._fitting(delivery, window, limits) if limits or is_giant else window
        producer = await self._started()
        refused: list[RefusedBatch] = []
        try:
            await send_once(producer, delivery, fitting, limits, refused)
        except BaseException:
            self._drop(producer)
            raise
        if refused:
            self._drop(producer)
            for batch in refused:
                await self._find_refused(delivery, batch, limits)

    # --- refusals ---

    def _cached_limits(self) -> dict[str, int]:
        now = time.monotonic()
        self._limits = {topic: (limit, until) for topic, (limit, until) in self._limits.items() if until > now}
        return {topic: limit for topic, (limit, _) in self._limits.items()}

    def _fitting(
        self, delivery: Delivery, window: Mapping[int, Record], limits: Mapping[str, int]
    ) -> dict[int, Record]:
        """Refuse records above a known limit without sending them, and return the others."""
        fitting = dict(window)
        for number, record in window.items():
            limit = min(limits.get(record.topic, RECORD_BYTES_MAX), RECORD_BYTES_MAX)
            if batch_size(record) > limit:
                delivery.refuse(number, kafka_errors.MessageSizeTooLargeError(), limit)
                del fitting[number]
        return fitting

    async def _find_refused(self, delivery: Delivery, refused: RefusedBatch, limits: Mapping[str, int]) -> None:
        """Find the records of a refused batch that are at fault; the others stay pending, or are sent."""
        topic = delivery.pending[refused.numbers[0]].topic
        limit = await self._fetch_limit(topic) if isinstance(refused.error, RECORD_TOO_LARGE) else None
        if isinstance(refused.error, TOPIC_REFUSED) or len(refused.numbers) == 1:
            for number in refused.numbers:
                delivery.refuse(number, refused.error, limit)
        elif limit is None or topic in limits:
            await self._send_singly(delivery, refused.numbers, limit)
        # Otherwise the next window, which knows the limit, makes batches that fit.

    async def _fetch_limit(self, topic: str) -> int | None:
        """Return the size of the largest batch that a topic accepts, None if this user may not see it."""
        client = clients.admin(self._settings)
        with contextlib.suppress(kafka_errors.KafkaError, OSError, TimeoutError):
            try:
                await client.start()
                limit = (await topics.max_message_bytes(client, [topic])).get(topic)
            finally:
                await client.close()
            if limit is not None:
                self._limits[topic] = (limit, time.monotonic() + LIMIT_SECONDS)
            return limit
        return None

    async def _send_singly(self, delivery: Delivery, numbers: Sequence[int], limit: int | None) -> None:
        # After a refusal, an idempotent producer gets no more records into that partition.
        producer = await self._connected(idempotent=False)
        refused: list[RefusedBatch] = []
        try:
            for start in range(0, len(numbers), SINGLY_AT_ONCE):
                part = {number: delivery.pending[number] for number in numbers[start : start + SINGLY_AT_ONCE]}
                one_record = {record.topic: 1 for record in part.values()}  # no second record fits into one byte
                await send_once(producer, delivery, part, one_record, refused)
        finally:
            await producer.close()
        for batch in refused:
            for number in batch.numbers:
                delivery.refuse(number, batch.error, limit)

    # --- connections ---

    async def _started(self) -> Producer:
        async with self._starting:
            if self._producer is None:
                self._producer = await self._connected(idempotent=True)
            return self._producer

    async def _connected(self, *, idempotent: bool) -> Producer:
        producer = Producer(self._settings, idempotent=idempotent, timeout_seconds=clients.SEND_TIMEOUT_SECONDS)
        try:
            await producer.start()
        except BaseException:
            self._drop(producer)
            raise
        return producer

    def _drop(self, producer: Producer) -> None:
        if self._producer is producer:
            self._producer = None
        task = asyncio.create_task(producer.close())
        _CLOSING.add(task)
        task.add_done_callback(_CLOSING.discard)


# References to tasks, which the event loop itself would let be collected.
_CLOSING: Final[set[asyncio.Task[None]]] = set()
