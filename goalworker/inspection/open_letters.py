"""Open dead letters: those that no redrive has sent yet, and what a redrive of a selection would send.

A letter was redriven if the redrive topic holds it, byte for byte. The offset that the group commits is only a floor:
every letter before it was redriven and is not read again; a letter outside a selection holds the floor back.
"""

import hashlib
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiokafka
import msgspec

from goalworker import config, errors
from goalworker.inspection import dead_letter_reading, kafka_connection, kafka_topics
from goalworker.kafka.records import Record
from goalworker.pipeline import dead_letters

Counts = Counter[tuple[str | None, ...]]


@dataclass(slots=True)
class OpenLetters:
    """One pass over the letters: fingerprints of sent ones, counts of open ones, and the floor of each partition.

    expired_ms is the time before which the redrive topic may delete a record at once.
    """

    topic: str
    selection: dead_letter_reading.Selection
    sent: set[bytes]
    expired_ms: float
    tenant_of: dead_letter_reading.TenantOf
    counts: Counts = field(default_factory=Counter)
    expiring: int = 0
    floors: dead_letter_reading.Offsets = field(default_factory=dict)
    blocked: set[aiokafka.TopicPartition] = field(default_factory=set)

    def take(self, record: aiokafka.ConsumerRecord) -> Record | None:
        """Return the copy to send if a letter is selected and open; the floor rises to the first unselected letter."""
        partition = aiokafka.TopicPartition(record.topic, record.partition)
        copy = dead_letters.redriven(record, self.topic)
        is_open = copy is not None and (fingerprint := fingerprint_of(copy)) not in self.sent
        if is_open and not self.selection.has(record, self.tenant_of):
            self.blocked.add(partition)
            return None
        if partition not in self.blocked:
            self.floors[partition] = record.offset + 1
        if copy is None or not is_open:
            return None
        self.sent.add(fingerprint)
        self.counts[kind_of(record)] += 1
        self.expiring += copy.timestamp_ms is not None and copy.timestamp_ms < self.expired_ms
        return copy

    @property
    def is_complete(self) -> bool:
        """Say whether as many letters were taken as are selected at most."""
        return self.counts.total() == self.selection.max_records


class Preview(msgspec.Struct, frozen=True):
    """Letters that a redrive would send: counts by original topic and reason, and the first of them.

    expiring of them are older than the redrive topic keeps records. The first are described without their payload, and
    only where they belong to the selected tenant for sure.
    """

    counts: Counts
    expiring: int
    first: list[dict[str, Any]]


async def preview(
    settings: config.Settings,
    selection: dead_letter_reading.Selection,
    first: int = 0,
    describe: dead_letter_reading.Describe = dead_letter_reading.describe,
) -> Preview:
    """Return what a redrive of a selection would send now, with the first letters of it; no group's offsets change."""
    found = await begin(settings, selection)
    letters: list[dict[str, Any]] = []
    owner_of = dead_letter_reading.owners_of(settings)
    async with kafka_connection.consumer(settings) as consumer:
        async for record in dead_letter_reading.between(consumer, *await bounds(settings, consumer)):
            is_taken = found.take(record) is not None
            if is_taken and len(letters) < first and owner_of(record) == selection.tenant_id:
                letters.append(describe(record))
            if found.is_complete:
                break
    return Preview(found.counts, found.expiring, letters)


async def begin(settings: config.Settings, selection: dead_letter_reading.Selection) -> OpenLetters:
    """Begin a pass; DependencyError if the redrive topic replaces the records' timestamps."""
    expired_ms = await _expired_ms(settings)
    tenant_of = dead_letter_reading.tenants_of(settings)
    return OpenLetters(settings.topics.redrive, selection, await already_sent(settings), expired_ms, tenant_of)


async def bounds(
    settings: config.Settings, consumer: aiokafka.AIOKafkaConsumer
) -> tuple[dead_letter_reading.Offsets, dead_letter_reading.Offsets]:
    """Assign every partition of the DLQ, and return its floor, or where it begins, and where it ends now."""
    starts, ends = await dead_letter_reading.bounds(settings, consumer, settings.topics.dead_letters)
    async with kafka_connection.admin(settings) as client:
        floors = await kafka_topics.committed(client, group_id(settings))
    # A floor above the end belongs to a topic that was deleted and created again since.
    floors = {tp: floor for tp, floor in floors.items() if floor <= ends.get(tp, -1)}
    return {tp: max(start, floors.get(tp, start)) for tp, start in starts.items()}, ends


def group_id(settings: config.Settings) -> str:
    """Return the group that commits the floors."""
    return f"{settings.kafka.group_id}.redrive"


async def already_sent(settings: config.Settings) -> set[bytes]:
    """Return the fingerprints of all records in the redrive topic."""
    return {
        fingerprint_of(record) async for record in dead_letter_reading.everything(settings, settings.topics.redrive)
    }


async def _expired_ms(settings: config.Settings) -> float:
    topic = settings.topics.redrive
    async with kafka_connection.admin(settings) as client:
        await kafka_topics.require(client, [topic])
        configured: Mapping[str, str] = (await kafka_topics.configuration(client, [topic]))[topic] or {}
    if configured.get("message.timestamp.type", "CreateTime") != "CreateTime":
        raise errors.DependencyError(
            f"{topic} does not keep the records' timestamps, by which events without a time are judged: set its "
            "message.timestamp.type to CreateTime"
        )
    retention_ms = int(configured.get("retention.ms", -1))
    return time.time() * 1000 - retention_ms if retention_ms >= 0 else -math.inf


def kind_of(record: aiokafka.ConsumerRecord) -> tuple[str | None, str | None]:
    """Return the original topic and the reason of a dead letter."""
    headers = dead_letter_reading.headers_of(record)
    return headers.get(dead_letters.ORIGINAL_TOPIC), headers.get(dead_letters.ERROR_REASON)


def fingerprint_of(record: Record | aiokafka.ConsumerRecord) -> bytes:
    """Return a hash of key, value and headers, which is the same for a letter and its copy in the redrive topic."""
    content = msgspec.msgpack.encode((record.key, record.value, record.headers))
    return hashlib.blake2b(content, digest_size=16).digest()
