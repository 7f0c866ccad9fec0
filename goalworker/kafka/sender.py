"""Sending: a record is acknowledged, or its topic refuses it for good, or the attempt fails and can be repeated."""

import asyncio
import contextlib
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka import errors as kafka_errors
from msgspec import Struct

from goalworker import config
from goalworker.kafka import broker_errors, clients, producer, topics
from goalworker.kafka.records import Record

# One window of records is under way at a time, so large that it takes about as long as this. A broker that throttles
# makes it smaller, a fast one doubles it: nobody waits a minute for the first of a thousand records.
WINDOW_SECONDS: Final = 2.0
WINDOW_BYTES: Final = 64 * 1024
WINDOW_BYTES_MIN: Final = 4 * 1024
WINDOW_BYTES_MAX: Final = 4 * 1024 * 1024
# Where each record is a batch of its own, so many are done within the time of one window.
SINGLY_AT_ONCE: Final = 200
# A broker closes the connection on a request above 100 MiB (socket.request.max.bytes) instead of answering it.
RECORD_BYTES_MAX: Final = 90 * 1024 * 1024
# How long it is believed what a topic takes: shorter than the interval at which held messages are tried again.
LIMIT_SECONDS: Final = 10.0
_RECORD_OVERHEAD_BYTES: Final = 100
TOO_LARGE: Final = "larger than max.message.bytes"

_TOO_LARGE: Final = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
# One record is at fault, but the broker refuses the batch that it is in.
_OF_A_RECORD: Final = (
    *_TOO_LARGE,
    producer.InvalidRecordError,
    kafka_errors.InvalidTimestampError,
    kafka_errors.PolicyViolationError,
)
_OF_A_TOPIC: Final = (kafka_errors.TopicAuthorizationFailedError, kafka_errors.UnsupportedForMessageFormatError)


class Refusal(Struct, frozen=True):
    """Why a topic does not take a record, however often it is sent; sizes in bytes, limit None where unknown."""

    error: kafka_errors.KafkaError
    size: int
    limit: int | None = None

    @property
    def reason(self) -> str:
        """What is wrong, in a few words."""
        match self.error:
            case kafka_errors.MessageSizeTooLargeError() | kafka_errors.RecordListTooLargeError():
                return TOO_LARGE
            case kafka_errors.TopicAuthorizationFailedError():
                return "no right to WRITE"
            case _:
                return str(self.error).partition("\n")[0]


class Delivery:
    """Records on their way.

    What was acknowledged stays acknowledged when an attempt fails: the next one sends the others only. After the
    deadline no further window begins. after_window is awaited after each one, with the time at which the next may
    begin; both times are those of the monotonic clock.
    """

    def __init__(
        self,
        records: Iterable[Record],
        *,
        deadline: float = math.inf,
        after_window: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.waiting: dict[int, Record] = dict(enumerate(records))
        self.deadline = deadline
        self.after_window = after_window
        self.acknowledged: list[int] = []
        self.refused: dict[int, Refusal] = {}

    @property
    def total(self) -> int:
        """How many records it has, whatever became of them."""
        return len(self.waiting) + len(self.acknowledged) + len(self.refused)

    def replace(self, number: int, record: Record) -> None:
        """Let another record wait in the place of one that was refused."""
        del self.refused[number]
        self.waiting[number] = record

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """Note that the broker has these records."""
        for number in numbers:
            if self.waiting.pop(number, None) is not None:
                self.acknowledged.append(number)

    def refuse(self, number: int, error: kafka_errors.KafkaError, limit: int | None = None) -> None:
        """Note that the topic does not take this record."""
        record = self.waiting.pop(number)
        self.refused[number] = Refusal(error, producer.batch_size(record), limit)


class _Refused(Struct, frozen=True):
    """A batch that was refused as a whole."""

    numbers: Sequence[int]
    error: kafka_errors.KafkaError


class Sender:
    """Sends records and waits until the broker has acknowledged every one, or has refused it for good.

    A producer that failed is dropped: what it still holds may arrive late, and its sequence may have a gap (hazard 12).
    """

    window_bytes = WINDOW_BYTES
    _producer: producer.Producer | None = None

    def __init__(self, settings: config.Settings) -> None:
        self._settings = settings
        self._starting = asyncio.Lock()
        self._limits: dict[str, tuple[int, float]] = {}

    async def start(self) -> None:
        """Connect; raises what kafka.is_later knows where the broker is away."""
        await self._started()

    async def ready(self) -> None:
        """Wait until no broker holds us back."""
        if self._producer is not None:
            await asyncio.sleep(max(self._producer.throttle.until - time.monotonic(), 0.0))

    async def send(self, records: Iterable[Record]) -> None:
        """Send all, in order within a key, and return when all are acknowledged.

        Raises NotAcknowledgedError, or the first refusal once all others are acknowledged.
        """
        delivery = Delivery(records)
        await self.deliver(delivery)
        for refusal in delivery.refused.values():
            raise refusal.error

    async def deliver(self, delivery: Delivery) -> None:
        """Send what still waits, in order within a key, until all is acknowledged or refused, or the deadline is over.

        Raises NotAcknowledgedError; the delivery can be given again then.
        """
        next_at = time.monotonic()
        while delivery.waiting and next_at < delivery.deadline:
            await self.ready()  # so that a window is not measured by the throttling that the one before it brought
            window, size = self._window(delivery)
            is_full = len(window) < len(delivery.waiting)
            began = time.monotonic()
            try:
                await self._send_window(delivery, window)
            except broker_errors.NotAcknowledgedError:
                self.window_bytes = max(self.window_bytes // 2, WINDOW_BYTES_MIN)
                raise
            throttled_until = self._producer.throttle.until if self._producer is not None else 0.0
            next_at = max(time.monotonic(), throttled_until)
            self._adapt(size, next_at - began, is_full=is_full)
            if delivery.after_window is not None:
                await delivery.after_window(next_at)

    async def stop(self) -> None:
        """Close the connection; nothing is in flight, since deliver() waits."""
        if self._producer is not None:
            stopped, self._producer = self._producer, None
            await stopped.close()

    # --- windows ---

    def _window(self, delivery: Delivery) -> tuple[dict[int, Record], int]:
        """Return the first records that wait, up to the size of a window and at least one, with their size."""
        window: dict[int, Record] = {}
        total = 0
        for number, record in delivery.waiting.items():
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
        limits = self._known_limits()
        is_giant = len(window) == 1 and any(len(record.value or b"") > RECORD_BYTES_MAX for record in window.values())
        fitting = self._fitting(delivery, window, limits) if limits or is_giant else window
        current = await self._started()
        refused: list[_Refused] = []
        try:
            await _attempt(current, delivery, fitting, limits, refused)
        except BaseException:
            self._drop(current)
            raise
        if refused:
            self._drop(current)
            for each in refused:
                await self._settle(delivery, each, limits)

    # --- refusals ---

    def _known_limits(self) -> dict[str, int]:
        now = time.monotonic()
        self._limits = {topic: known for topic, known in self._limits.items() if known[1] > now}
        return {topic: limit for topic, (limit, _) in self._limits.items()}

    def _fitting(
        self, delivery: Delivery, window: Mapping[int, Record], limits: Mapping[str, int]
    ) -> dict[int, Record]:
        """Refuse what is known to be too large, without asking again, and return the rest."""
        fitting = dict(window)
        for number, record in window.items():
            limit = min(limits.get(record.topic, RECORD_BYTES_MAX), RECORD_BYTES_MAX)
            if producer.batch_size(record) > limit:
                delivery.refuse(number, kafka_errors.MessageSizeTooLargeError(), limit)
                del fitting[number]
        return fitting

    async def _settle(self, delivery: Delivery, refused: _Refused, limits: Mapping[str, int]) -> None:
        """Find out which records of a refused batch are at fault; the others wait again, or are sent."""
        topic = delivery.waiting[refused.numbers[0]].topic
        limit = await self._limit(topic) if isinstance(refused.error, _TOO_LARGE) else None
        if isinstance(refused.error, _OF_A_TOPIC) or len(refused.numbers) == 1:
            for number in refused.numbers:
                delivery.refuse(number, refused.error, limit)
        elif limit is None or topic in limits:
            await self._send_singly(delivery, refused.numbers, limit)
        # Otherwise the next window makes batches that fit.

    async def _limit(self, topic: str) -> int | None:
        """Return the largest batch that a topic takes, None where we may not know it."""
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
        # Not idempotent: after a refusal, an idempotent producer gets nothing more into that partition.
        single = await self._connected(idempotent=False)
        refused: list[_Refused] = []
        try:
            for start in range(0, len(numbers), SINGLY_AT_ONCE):
                some = {number: delivery.waiting[number] for number in numbers[start : start + SINGLY_AT_ONCE]}
                each_alone = {record.topic: 1 for record in some.values()}
                await _attempt(single, delivery, some, each_alone, refused)
        finally:
            await single.close()
        for each in refused:
            for number in each.numbers:
                delivery.refuse(number, each.error, limit)

    # --- connections ---

    async def _started(self) -> producer.Producer:
        async with self._starting:
            if self._producer is None:
                self._producer = await self._connected(idempotent=True)
            return self._producer

    async def _connected(self, *, idempotent: bool) -> producer.Producer:
        connected = producer.Producer(
            self._settings, idempotent=idempotent, timeout_seconds=clients.SEND_TIMEOUT_SECONDS
        )
        try:
            await connected.start()
        except BaseException:
            self._drop(connected)
            raise
        return connected

    def _drop(self, dropped: producer.Producer) -> None:
        if self._producer is dropped:
            self._producer = None
        task = asyncio.create_task(dropped.close())
        _CLOSING.add(task)
        task.add_done_callback(_CLOSING.discard)


_CLOSING: Final[set[asyncio.Task[None]]] = set()


async def _attempt(
    current: producer.Producer,
    delivery: Delivery,
    records: Mapping[int, Record],
    limits: Mapping[str, int],
    refused: list[_Refused],
) -> None:
    """Send records once; add the batches that are refused, and raise what goes wrong otherwise."""
    try:
        places = await _places(current, records, refused)
        sending = {
            asyncio.create_task(
                _send_in_order(current, delivery, place, {number: records[number] for number in numbers}, limits)
            )
            for place, numbers in places.items()
        }
        refused += await _all_done(sending, current, delivery)
    except (TimeoutError, kafka_errors.KafkaError, OSError) as error:
        if isinstance(error, TimeoutError) or broker_errors.is_transient(error):
            raise broker_errors.NotAcknowledgedError(f"not acknowledged: {error or type(error).__name__}") from error
        raise


async def _places(
    current: producer.Producer, records: Mapping[int, Record], refused: list[_Refused]
) -> dict[producer.PartitionId, list[int]]:
    of_topic: dict[str, dict[int, Record]] = defaultdict(dict)
    for number, record in records.items():
        of_topic[record.topic][number] = record
    places: dict[producer.PartitionId, list[int]] = {}
    for topic, these in of_topic.items():
        try:
            places |= await current.by_partition(topic, these)
        except _OF_A_TOPIC as error:
            refused.append(_Refused(list(these), error))
    return places


async def _send_in_order(
    current: producer.Producer,
    delivery: Delivery,
    place: producer.PartitionId,
    records: dict[int, Record],
    limits: Mapping[str, int],
) -> list[_Refused]:
    """Send records to one partition; after a refusal, an idempotent producer gets nothing more into it."""
    sent: list[tuple[list[int], asyncio.Future[Any]]] = []
    while records:
        count, acknowledged = await current.enqueue(place, records.values(), limits.get(place[0]))
        numbers = list(itertools.islice(records, count))
        sent.append((numbers, acknowledged))
        for number in numbers:
            del records[number]
    refused: list[_Refused] = []
    for numbers, acknowledged in sent:
        if refused and current.idempotent:
            acknowledged.cancel()
            continue
        try:
            await acknowledged
        except (*_OF_A_RECORD, *_OF_A_TOPIC) as error:
            refused.append(_Refused(numbers, error))
        else:
            delivery.acknowledge(numbers)
    return refused


async def _all_done(
    sending: set[asyncio.Task[list[_Refused]]], current: producer.Producer, delivery: Delivery
) -> list[_Refused]:
    """Wait for all; TimeoutError where for the time of a send nothing is acknowledged and no broker asks us to wait."""
    pending, refused = sending, []
    try:
        while pending:
            waiting = len(delivery.waiting)
            patience_seconds = max(current.throttle.until - time.monotonic(), 0.0) + clients.SEND_TIMEOUT_SECONDS
            done, pending = await asyncio.wait(pending, timeout=patience_seconds, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                if task.cancelled():
                    # It was the producer that was dropped, with all it held, by another send that failed.
                    raise broker_errors.NotAcknowledgedError("not acknowledged: another send has dropped the producer")
                refused += task.result()
            is_throttled = current.throttle.until + clients.SEND_TIMEOUT_SECONDS > time.monotonic()
            if not done and len(delivery.waiting) == waiting and not is_throttled:
                raise TimeoutError
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    return refused
