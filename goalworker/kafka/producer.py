"""A connection that produces: aiokafka's producer, which it neither throttles nor closes as we need it.

Everything that depends on how aiokafka works inside stands in this module. tests/unit/test_producer.py fails first when
the library changes.
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

CLOSE_SECONDS: Final = 1
# What one batch to a partition may hold; a topic takes 1 MiB unless it is configured otherwise.
BATCH_BYTES: Final = 256 * 1024

_BATCH_HEADER_BYTES: Final = 61


class InvalidRecordError(kafka_errors.BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """The topic's rules refuse a record, such as one without a key where the topic is compacted."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker refuses this record: it breaks a rule of its topic"


# aiokafka does not know this code, and would report it as an unknown error, which may pass.
kafka_errors.kafka_errors[InvalidRecordError.errno] = InvalidRecordError

PartitionId = tuple[str, int]
"""Topic and partition."""


def batch_size(record: Record) -> int:
    """Return the size of a batch that holds this record alone: what the broker compares with max.message.bytes."""
    size_of = default_records.DefaultRecordBatchBuilder.size_of
    body = 3 + size_of(record.key, record.value, list(record.headers))  # attributes, and two deltas of 0
    return int(_BATCH_HEADER_BYTES + util.size_of_varint(body) + body)


class Throttle:
    """How long each broker asked us to wait: it reads nothing from the connection before that time is over."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._closed = asyncio.Event()

    @property
    def until(self) -> float:
        """When the last broker can be asked again, by the monotonic clock."""
        return max(self._until.values(), default=0.0)

    def note(self, node_id: int, throttle_ms: int) -> None:
        """Note what an answer of a broker asked for."""
        if throttle_ms > 0:
            self._until[node_id] = time.monotonic() + throttle_ms / 1000

    async def wait(self, node_id: int) -> None:
        """Wait until a broker can be asked again; raises ProducerClosed if the connection is closed meanwhile."""
        while (seconds := self._until.get(node_id, 0.0) - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closed.wait()
                raise kafka_errors.ProducerClosed

    def close(self) -> None:
        """End every wait."""
        self._closed.set()


class Producer:
    """Sends batches of records, each to the end of one partition, and waits as long as a broker asks it to.

    An idempotent one is not to be used any more after an error: its sequence of batches may have a gap (hazard 12).
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
        """Connect; raises what kafka.is_later knows where the broker is away."""
        await self._kafka.start()

    async def by_partition(self, topic: str, records: Mapping[int, Record]) -> dict[PartitionId, list[int]]:
        """Return the numbers of a topic's records by where they go, in order; TopicAuthorizationFailedError, ..."""
        partitions = sorted(await self._kafka.partitions_for(topic))
        found: dict[PartitionId, list[int]] = defaultdict(list)
        for number, record in records.items():
            hashed = zlib.crc32(record.value or b"") if record.key is None else murmur2(record.key)
            found[topic, partitions[hashed % len(partitions)]].append(number)
        return found

    async def enqueue(self, place: PartitionId, records: Iterable[Record], limit: int | None) -> tuple[int, Any]:
        """Enqueue a batch of the first records: as many as fit into it, at least one; limit is in bytes.

        Waits while another batch for the partition is queued. Returns how many records it has and the future of its
        acknowledgement.
        """
        batch, count = self._kafka.create_batch(), 0
        for record in records:
            if count and limit is not None and batch.size() + batch_size(record) > limit:
                break
            if not _append(batch, record):  # the first record of a batch is taken whatever its size
                break
            count += 1
        topic, partition = place
        return count, await self._kafka.send_batch(batch, topic, partition=partition)

    async def close(self) -> None:
        """Close the connection; what is not acknowledged yet may still arrive."""
        # aiokafka tries to deliver what it holds first, for ever where the broker is away.
        self.throttle.close()
        with contextlib.suppress(TimeoutError, kafka_errors.KafkaError, OSError):
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._kafka.stop()
            except TimeoutError:
                await aiokafka_internals.close_without_delivering(self._kafka, CLOSE_SECONDS)


def _wait_when_throttled(client: Any, throttle: Throttle) -> None:
    # A request sent while the broker does not read would time out, and be sent once more on another connection.
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
