"""Connections to Kafka: a consumer that never commits by itself, and a sender that knows what was acknowledged."""

import asyncio
import contextlib
import struct
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import aiokafka
from aiokafka import conn
from aiokafka import errors as kafka_errors
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from msgspec import Struct

from goalworker import frames, parsed
from goalworker import settings as settings_

HEARTBEAT_SECONDS_MAX: Final = 3.0
REBALANCE_TIMEOUT_MS: Final = 60_000
SEND_TIMEOUT_SECONDS: Final = 15
COMMIT_TIMEOUT_SECONDS: Final = 10
ASK_TIMEOUT_SECONDS: Final = 10
CLOSE_SECONDS: Final = 1
# What one batch to a partition may hold; a topic takes 1 MiB unless it is told otherwise.
BATCH_BYTES: Final = 256 * 1024
# Where each record is a request of its own, so many are done within the time of one send.
SINGLY_AT_ONCE: Final = 200
# A dead letter carries its record and more headers: as much as `topics create` lets the topic take.
REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024

Headers = Sequence[tuple[str, bytes]]

conn.AIOKafkaProtocol = frames.Protocol


class NotAcknowledgedError(Exception):
    """The broker did not acknowledge everything in time: what was sent may or may not arrive, send it again."""


class Record(Struct, frozen=True, gc=False):
    """One record to be sent; without a timestamp it has that of its sending."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


# Joining the group fails with these for as long as nobody changes our settings, or those of the other members.
JOIN_REFUSED: Final = (
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.InconsistentGroupProtocolError,
    kafka_errors.InvalidGroupIdError,
)
# What no waiting mends: somebody must change a right or a setting.
_REFUSED: Final = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.AuthenticationFailedError,
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.InvalidTopicError,
    *JOIN_REFUSED,
)


def is_later(error: BaseException) -> bool:
    """Say whether an error of the client passes by itself, so that the same work is to be tried again."""
    return isinstance(error, NotAcknowledgedError | kafka_errors.KafkaError | OSError) and not is_refused(error)


def is_refused(error: BaseException) -> bool:
    """Say whether the broker will not have it, however often it is asked."""
    return isinstance(error, _REFUSED)


def consumer(settings: settings_.Settings) -> aiokafka.AIOKafkaConsumer:
    """Return a consumer of the group that the worker subscribes: committed records only, offsets committed by us.

    There is no automatic offset reset: an offset out of range must stop the worker, not skip records (hazard 9).
    """
    session_seconds = settings.kafka.session_timeout_seconds
    return aiokafka.AIOKafkaConsumer(
        **settings_.kafka_client_options(settings),
        group_id=settings.kafka.group_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        session_timeout_ms=session_seconds * 1_000,
        rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
        # A member may miss two heartbeats in a row, however short the session.
        heartbeat_interval_ms=int(min(HEARTBEAT_SECONDS_MAX, session_seconds / 3) * 1_000),
        value_deserializer=parsed.as_parsed,
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
    )


def observer(settings: settings_.Settings) -> aiokafka.AIOKafkaConsumer:
    """Return a consumer outside any group that reads metadata and last stable offsets."""
    return aiokafka.AIOKafkaConsumer(
        **settings_.kafka_client_options(settings), isolation_level="read_committed", enable_auto_commit=False
    )


def admin(settings: settings_.Settings) -> aiokafka.admin.AIOKafkaAdminClient:
    """Return a client that asks about topics and groups, and gives up in time."""
    return aiokafka.admin.AIOKafkaAdminClient(
        **settings_.kafka_client_options(settings), request_timeout_ms=ASK_TIMEOUT_SECONDS * 1000
    )


def missing_topics(settings: settings_.Settings, present: Collection[str]) -> str | None:
    """Return a sentence that names the topics that are not there, None where all are."""
    missing = sorted(set(settings.topics.model_dump().values()) - set(present))
    if not missing:
        return None
    return (
        f"missing topics, or topics that may not be described: {', '.join(missing)}. `goalworker topics create` makes "
        "those that are missing"
    )


async def max_message_bytes(admin: Any, topics: Iterable[str]) -> dict[str, int]:
    """Return the largest message that each topic takes, in bytes, as far as this user may know it."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    return {
        topic: int(entry[1])
        for response in await admin.describe_configs(resources)
        for _, _, _, topic, entries in response.resources
        for entry in entries
        if entry[0] == "max.message.bytes"
    }


class Sender:
    """Sends records and waits until the broker has acknowledged every one.

    A producer that failed is dropped: what it still holds may arrive late, and its sequence may have a gap (hazard 12).
    """

    def __init__(self, settings: settings_.Settings) -> None:
        self._settings = settings
        self._producer: aiokafka.AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Connect; raises what is_later knows where the broker is away."""
        await self._started()

    async def send(self, records: Iterable[Record]) -> None:
        """Send all, in order within a key, and return when all are acknowledged; raises NotAcknowledgedError."""
        records = list(records)
        producer = await self._started()
        try:
            await _acknowledged(producer, records)
        except kafka_errors.MessageSizeTooLargeError:
            self._drop(producer)
            await self._send_singly(records)
        except BaseException:
            self._drop(producer)
            raise

    async def stop(self) -> None:
        """Close the connection; nothing is in flight, since send() waits."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await _closed(producer)

    async def _send_singly(self, records: Sequence[Record]) -> None:
        # The topic takes less than we put together; what it does not take alone, it does not take. By a producer of its
        # own, whose batches hold one record each: others send meanwhile.
        producer = await self._connected(batch_bytes=1)
        try:
            for start in range(0, len(records), SINGLY_AT_ONCE):
                await _acknowledged(producer, records[start : start + SINGLY_AT_ONCE])
        finally:
            await _closed(producer)

    async def _started(self) -> aiokafka.AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                self._producer = await self._connected(BATCH_BYTES)
            return self._producer

    async def _connected(self, batch_bytes: int) -> aiokafka.AIOKafkaProducer:
        producer = aiokafka.AIOKafkaProducer(
            **settings_.kafka_client_options(self._settings),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=batch_bytes,
            max_request_size=REQUEST_BYTES_MAX,
            request_timeout_ms=SEND_TIMEOUT_SECONDS * 1000,
        )
        try:
            await producer.start()
        except BaseException:
            self._drop(producer)
            raise
        return producer

    def _drop(self, producer: aiokafka.AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
        task = asyncio.create_task(_closed(producer))
        _CLOSING.add(task)
        task.add_done_callback(_CLOSING.discard)


async def _acknowledged(producer: aiokafka.AIOKafkaProducer, records: Sequence[Record]) -> None:
    try:
        async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
            places = await _by_partition(producer, records)
            await asyncio.gather(*(_send_in_order(producer, *place, these) for place, these in places.items()))
    except (TimeoutError, kafka_errors.KafkaError, OSError) as error:
        if isinstance(error, TimeoutError) or is_later(error):
            raise NotAcknowledgedError(f"not acknowledged: {error or type(error).__name__}") from error
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # It was the producer that was dropped, with all it held, by another send that failed.
        raise NotAcknowledgedError("not acknowledged: another send has dropped the producer") from None


async def _by_partition(
    producer: aiokafka.AIOKafkaProducer, records: Iterable[Record]
) -> Mapping[tuple[str, int], list[Record]]:
    partitions: dict[str, list[int]] = {}
    found: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in records:
        of_topic = partitions.get(record.topic)
        if of_topic is None:
            of_topic = partitions[record.topic] = sorted(await producer.partitions_for(record.topic))
        place = zlib.crc32(record.value or b"") if record.key is None else _hash(record.key)
        found[record.topic, of_topic[place % len(of_topic)]].append(record)
    return found


async def _send_in_order(
    producer: aiokafka.AIOKafkaProducer, topic: str, partition: int, records: Iterable[Record]
) -> None:
    waiting = []
    batch = producer.create_batch()
    for record in records:
        if not _append(batch, record):
            waiting.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            _append(batch, record)  # the first record of a batch is taken whatever its size
    waiting.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*waiting)


def _append(batch: Any, record: Record) -> bool:
    return (
        batch.append(timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=list(record.headers))
        is not None
    )


_CLOSING: Final[set[asyncio.Task[None]]] = set()


async def _closed(producer: aiokafka.AIOKafkaProducer) -> None:
    # It tries to deliver what it holds first, for ever where the broker is away: then it is to go as it is.
    with contextlib.suppress(TimeoutError, kafka_errors.KafkaError, OSError):
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await producer.stop()
        except TimeoutError:
            held = producer._message_accumulator
            for batch in (*(batch for batches in held._batches.values() for batch in batches), *held._pending_batches):
                batch.future.cancel()  # what it still waits for
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(producer._sender.close(), producer.client.close(), return_exceptions=True)


@lru_cache(maxsize=4_096)
def _hash(key: bytes) -> int:
    """Return Kafka's own murmur2 of a key, so that a key has one partition whoever sends it; the client's is slower."""
    hashed = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for word in struct.unpack_from(f"<{whole // 4}I", key):
        word = word * 0x5BD1E995 & 0xFFFFFFFF  # noqa: PLW2901
        hashed = (hashed * 0x5BD1E995 & 0xFFFFFFFF) ^ ((word ^ word >> 24) * 0x5BD1E995 & 0xFFFFFFFF)
    if rest := key[whole:]:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    hashed = (hashed ^ hashed >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return (hashed ^ hashed >> 15) & 0x7FFFFFFF
