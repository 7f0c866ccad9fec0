"""Reading of dead letters: all, a selection, or one."""

import asyncio
import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import aiokafka
import msgspec

from goalworker import config, errors
from goalworker.decoding import envelope
from goalworker.inspection import kafka_connection, kafka_topics
from goalworker.kafka.topics import offsets_at
from goalworker.pipeline import dead_letters, record_tenants
from goalworker.pipeline.event_decoder import event_decoder

FETCH_RECORDS: Final = 500
FETCH_TIMEOUT_MS: Final = 1_500
# Seconds after which other tasks of the process get their turn: the API serves while it looks at letters.
TURN_SECONDS: Final = 0.005
# Fetches in a row without a record, after which the broker counts as away: half a minute.
IDLE_ROUNDS_MAX: Final = 20

Offsets = dict[aiokafka.TopicPartition, int]
TenantOf = Callable[[aiokafka.ConsumerRecord], str | None]


class Selection(msgspec.Struct, frozen=True):
    """Selection of dead letters; since (inclusive) and until (exclusive) are about the time of dead-lettering."""

    since: datetime | None = None
    until: datetime | None = None
    topic: str | None = None
    reason: str | None = None
    max_records: int | None = None
    tenant_id: str | None = None

    def has(self, record: aiokafka.ConsumerRecord, tenant_of: TenantOf) -> bool:
        """Say whether a dead letter is selected, apart from the limit."""
        time, header = time_of(record), headers_of(record)
        return (
            (self.since is None or time >= self.since)
            and (self.until is None or time < self.until)
            and self.topic in (None, header.get(dead_letters.ORIGINAL_TOPIC))
            and self.reason in (None, header.get(dead_letters.ERROR_REASON))
            and (self.tenant_id is None or self.tenant_id == tenant_of(record))
        )


async def read(settings: config.Settings, selection: Selection) -> AsyncIterator[aiokafka.ConsumerRecord]:
    """Yield the selected dead letters, each partition in order; no group's offsets change."""
    yielded, tenant_of = 0, tenants_of(settings)
    async with kafka_connection.consumer(settings) as consumer:
        starts, ends = await bounds(settings, consumer, settings.topics.dead_letters)
        if selection.since is not None:
            starts = await offsets_at(consumer, selection.since, ends)
        async for record in between(consumer, starts, ends):
            if selection.has(record, tenant_of):
                yield record
                yielded += 1
                if yielded == selection.max_records:
                    return


async def everything(settings: config.Settings, topic: str) -> AsyncIterator[aiokafka.ConsumerRecord]:
    """Yield the records that a topic holds now, each partition in order; no group's offsets change."""
    async with kafka_connection.consumer(settings) as consumer:
        async for record in between(consumer, *await bounds(settings, consumer, topic)):
            yield record


async def bounds(settings: config.Settings, consumer: aiokafka.AIOKafkaConsumer, topic: str) -> tuple[Offsets, Offsets]:
    """Assign every partition of a topic, and return where each begins and ends now."""
    async with kafka_connection.admin(settings) as client:
        partitions = kafka_topics.partitions(await kafka_topics.require(client, [topic]))
    consumer.assign(partitions)
    return await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)


def newest(starts: Offsets, ends: Offsets, records: int) -> Offsets:
    """Return from where on each partition holds its share of so many newest records, the partitions of one topic."""
    share = math.ceil(records / max(len(starts), 1))
    return {partition: max(start, ends[partition] - share) for partition, start in starts.items()}


async def between(
    consumer: aiokafka.AIOKafkaConsumer, starts: Offsets, ends: Offsets
) -> AsyncGenerator[aiokafka.ConsumerRecord]:
    """Yield the records of assigned partitions between starts and ends, each partition in order."""
    starts = {partition: start for partition, start in starts.items() if start < ends[partition]}
    # The other partitions are paused: a new assignment could make stop() wait for ever.
    consumer.pause(*(consumer.assignment() - set(starts)))
    for partition, start in starts.items():
        consumer.seek(partition, start)
    left, idle_rounds, turn_began = set(starts), 0, time.monotonic()
    while left:
        batches = await kafka_connection.fetch(consumer, left, FETCH_TIMEOUT_MS, FETCH_RECORDS)
        for partition, records in batches.items():
            for record in records:
                if record.offset < ends[partition]:
                    yield record
                if time.monotonic() - turn_began >= TURN_SECONDS:
                    await asyncio.sleep(0)
                    turn_began = time.monotonic()
        # By the position, not by the last record, which only transaction markers may follow.
        finished = {partition for partition in left if await consumer.position(partition) >= ends[partition]}
        consumer.pause(*finished)
        left -= finished
        idle_rounds = 0 if batches else idle_rounds + 1
        if idle_rounds == IDLE_ROUNDS_MAX:
            raise errors.DependencyError("the broker stopped answering while records were read: try again")


class LetterNotFoundError(errors.GoalworkerError):
    """The DLQ has no dead letter at a position."""


async def one(settings: config.Settings, partition: int, offset: int) -> aiokafka.ConsumerRecord:
    """Return the dead letter at an offset; LetterNotFoundError."""
    async with kafka_connection.consumer(settings) as consumer:
        starts, ends = await bounds(settings, consumer, settings.topics.dead_letters)
        at = aiokafka.TopicPartition(settings.topics.dead_letters, partition)
        if starts.get(at, offset + 1) <= offset < ends.get(at, 0):
            async for record in between(consumer, {at: offset}, {at: offset + 1}):
                return record
    raise LetterNotFoundError(
        f"{settings.topics.dead_letters} has no dead letter at {partition}:{offset}; `goalworker dlq list` shows the "
        "positions"
    )


def time_of(record: aiokafka.ConsumerRecord) -> datetime:
    """Return the time at which a record was dead-lettered."""
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)


Describe = Callable[[aiokafka.ConsumerRecord], dict[str, Any]]
"""Returns a dead letter without its payload."""


def describe(record: aiokafka.ConsumerRecord) -> dict[str, Any]:
    """Return a dead letter without its payload: position, time, origin, and why it is one."""
    headers = headers_of(record)
    return {
        "partition": record.partition,
        "offset": record.offset,
        "time": time_of(record),
        "original_topic": headers.get(dead_letters.ORIGINAL_TOPIC),
        "original_partition": _number(headers.get(dead_letters.ORIGINAL_PARTITION)),
        "original_offset": _number(headers.get(dead_letters.ORIGINAL_OFFSET)),
        "reason": headers.get(dead_letters.ERROR_REASON),
        "message": headers.get(dead_letters.ERROR_MESSAGE),
        "redrive_count": _number(headers.get(dead_letters.REDRIVE_COUNT)),
    }


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None


class _Envelope(msgspec.Struct):
    tenantid: str | None = None


def tenants_of(settings: config.Settings) -> TenantOf:
    """Return a function that finds the tenant of a dead letter as the worker would.

    Where the envelope is too malformed for that, it takes what the letter names in its headers, value or key.
    """
    decoder = event_decoder(settings)

    def tenant_of(letter: aiokafka.ConsumerRecord) -> str | None:
        return record_tenants.tenant_of(decoder, letter.topic, letter) or next(iter(_named_tenants(letter)), None)

    return tenant_of


def owners_of(settings: config.Settings) -> TenantOf:
    """Return a function that finds the tenant that may see the payload of a dead letter.

    It is that of tenants_of(), unless the worker could not tell it and the letter names several: then nobody may.
    """
    decoder = event_decoder(settings)

    def owner_of(letter: aiokafka.ConsumerRecord) -> str | None:
        if (told := record_tenants.tenant_of(decoder, letter.topic, letter)) is not None:
            return told
        named = set(_named_tenants(letter))
        return named.pop() if len(named) == 1 else None

    return owner_of


def _named_tenants(record: aiokafka.ConsumerRecord) -> list[str]:
    """Return the tenants that a letter names: in its headers, in its value, and in its key."""
    try:
        in_value = msgspec.json.decode(record.value or b"", type=_Envelope).tenantid
    except (ValueError, RecursionError):
        in_value = None
    named = (headers_of(record).get("ce_tenantid"), in_value, envelope.tenant_of_key(record.key))
    return [tenant for tenant in named if tenant]


def headers_of(record: aiokafka.ConsumerRecord) -> Mapping[str, str]:
    """Return a record's headers as text."""
    return {name: str(value or b"", "utf-8", "replace") for name, value in record.headers}
