"""aiokafka's producer, made to wait when a broker throttles it, and to close although a broker is away.

tests/unit/test_producer.py fails first when aiokafka changes.
"""

import asyncio
import contextlib
import struct
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import aiokafka
from aiokafka import errors as kafka_errors
from aiokafka.record import default_records, util

from goalworker import config
from goalworker.kafka import aiokafka_internals, clients
from goalworker.kafka.records import Record

# Seconds to deliver the remaining records on close; then they are dropped.
CLOSE_SECONDS: Final = 1
# Bytes in one batch to a partition; a topic takes 1 MiB unless it is configured otherwise.
BATCH_BYTES: Final = 256 * 1024

_BATCH_HEADER_BYTES: Final = 61


class InvalidRecordError(kafka_errors.BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """The topic's rules refuse a record, such as one without a key where the topic is compacted."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker refuses this record: it breaks a rule of its topic"


# aiokafka lacks this code, and would raise an unknown error, which counts as transient.
kafka_errors.kafka_errors[InvalidRecordError.errno] = InvalidRecordError

PartitionId = tuple[str, int]
"""Topic and partition."""


def batch_size(record: Record) -> int:
    """Return the size of a batch of this record alone, which the broker compares with max.message.bytes."""
    size_of = default_records.DefaultRecordBatchBuilder.size_of
    body = 3 + size_of(record.key, record.value, list(record.headers))  # attributes, and two deltas of 0
    return int(_BATCH_HEADER_BYTES + util.size_of_varint(body) + body)


class Throttle:
    """Times until which brokers throttle us; a broker reads nothing from the connection before its time."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._closed = asyncio.Event()

    @property
    def until(self) -> float:
        """The moment of the monotonic clock from which no broker throttles us."""
        return max(self._until.values(), default=0.0)

    def note(self, node_id: int, throttle_ms: int) -> None:
        """Record the throttle time of a broker's response."""
        if throttle_ms > 0:
            self._until[node_id] = time.monotonic() + throttle_ms / 1000

    async def wait(self, node_id: int) -> None:
        """Wait until a broker no longer throttles us; raises ProducerClosed if close() is called meanwhile."""
        while (seconds := self._until.get(node_id, 0.0) - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closed.wait()
                raise kafka_errors.ProducerClosed

    def close(self) -> None:
        """End every wait."""
        self._closed.set()


class Producer:
    """Producer of batches, each for one partition; it waits while a broker throttles it.

    After an error, an idempotent producer must be dropped: its sequence of batches may have a gap (hazard 12).
    """

    def __init__(self, settings: config.Settings, *, idempotent: bool, timeout_seconds: float) -> None:
        self.idempotent = idempotent
        self.throttle = Throttle()
        self._kafka = aiokafka.AIOKafkaProducer(
            **clients.client_options(settings),
            acks="all",
            enable_idempotence=idempotent,
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=int(timeout_seconds * 1000),
        )
        _wait_when_throttled(self._kafka.client, self.throttle)

    async def start(self) -> None:
        """Connect; raises a transient error while the broker is away."""
        await self._kafka.start()

    async def by_partition(self, topic: str, records: Mapping[int, Record]) -> dict[PartitionId, list[int]]:
        """Return the numbers of a topic's records by partition, in order; raises TopicAuthorizationFailedError, ..."""
        partitions = sorted(await self._kafka.partitions_for(topic))
        found: dict[PartitionId, list[int]] = defaultdict(list)
        for number, record in records.items():
            hashed = zlib.crc32(record.value or b"") if record.key is None else murmur2(record.key)
            found[topic, partitions[hashed % len(partitions)]].append(number)
        return found

    async def enqueue(self, partition_id: PartitionId, records: Iterable[Record], limit: int | None) -> tuple[int, Any]:
        """Enqueue a batch of as many of the first records as fit into it, and at least one; limit is in bytes.

        Wait while another batch for the partition is queued. Return the number of records in the batch, and the future
        of its acknowledgement.
        """
        batch, count = self._kafka.create_batch(), 0
        for record in records:
            if count and limit is not None and batch.size() + batch_size(record) > limit:
                break
            if not _append(batch, record):  # a batch accepts its first record whatever its size
                break
            count += 1
        topic, partition = partition_id
        return count, await self._kafka.send_batch(batch, topic, partition=partition)

    async def close(self) -> None:
        """Close the connection; records without an acknowledgement may still arrive."""
        # aiokafka first tries to deliver what it holds, and without a broker never gives up.
        self.throttle.close()
        with contextlib.suppress(TimeoutError, kafka_errors.KafkaError, OSError):
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._kafka.stop()
            except TimeoutError:
                await aiokafka_internals.close_without_delivering(self._kafka, CLOSE_SECONDS)


def _wait_when_throttled(client: Any, throttle: Throttle) -> None:
    # A request that a throttling broker does not read would time out, and be sent again on another connection.
    send = client.send

    async def send_when_read(node_id: int, request: Any, **options: Any) -> Any:
        await throttle.wait(node_id)
        response = await send(node_id, request, **options)
        throttle.note(node_id, getattr(response, "throttle_time_ms", 0))
        return response

    client.send = send_when_read


def _append(batch: Any, record: Record) -> bool:
    return (
        batch.append(timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=list(record.headers))
        is not None
    )


@lru_cache(maxsize=4_096)
def murmur2(key: bytes) -> int:
    """Return the murmur2 hash that Kafka's own clients use, so that all put a key into one partition.

    aiokafka's function is slower.
    """
    hashed = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for word in struct.unpack_from(f"<{whole // 4}I", key):
        word = word * 0x5BD1E995 & 0xFFFFFFFF  # noqa: PLW2901
        hashed = (hashed * 0x5BD1E995 & 0xFFFFFFFF) ^ ((word ^ word >> 24) * 0x5BD1E995 & 0xFFFFFFFF)
    if rest := key[whole:]:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    hashed = (hashed ^ hashed >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return (hashed ^ hashed >> 15) & 0x7FFFFFFF
