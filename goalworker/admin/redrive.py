"""Redrive: send each dead letter again once, whatever earlier selections sent (contract section 6).

A letter was redriven if the redrive topic holds it, byte for byte. The offset that the group commits is only a floor:
every letter before it was redriven and is not read again; a letter outside a selection holds the floor back.
"""

import asyncio
import hashlib
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import aiokafka
import msgspec
from aiokafka import errors as kafka_errors

from goalworker import config, errors, logs
from goalworker.admin import dead_letter_reading, findings, kafka_connection, kafka_topics
from goalworker.kafka import broker_errors, clients
from goalworker.kafka.records import Record
from goalworker.kafka.sender import Sender
from goalworker.pipeline import dead_letters

log = logs.get(__name__)

# Records per send, at most. A lower rate is divided into this many sends per second.
SEND_RECORDS_MAX: Final = 500
SENDS_PER_SECOND: Final = 10

Counts = Counter[tuple[str | None, ...]]


@dataclass(slots=True)
class _Pass:
    """One pass over the letters: fingerprints of sent ones, copies to send, and the floor of each partition."""

    topic: str
    selection: dead_letter_reading.Selection
    sent: set[bytes]
    expired_ms: float
    is_dry: bool
    tenant_of: dead_letter_reading.TenantOf
    due: dict[str, Record] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counter)
    expiring: int = 0
    floors: dead_letter_reading.Offsets = field(default_factory=dict)
    blocked: set[aiokafka.TopicPartition] = field(default_factory=set)

    def take(self, record: aiokafka.ConsumerRecord) -> None:
        """Add a letter that is selected and was not sent yet; the floor rises to the first unselected letter."""
        partition = aiokafka.TopicPartition(record.topic, record.partition)
        copy = dead_letters.redriven(record, self.topic)
        if copy is not None and (fingerprint := fingerprint_of(copy)) not in self.sent:
            if not self.selection.has(record, self.tenant_of):
                self.blocked.add(partition)
                return
            self.sent.add(fingerprint)
            self._add(record, copy)
        if partition not in self.blocked:
            self.floors[partition] = record.offset + 1

    def _add(self, record: aiokafka.ConsumerRecord, copy: Record) -> None:
        if not self.is_dry:
            self.due[f"{record.partition}:{record.offset}"] = copy
        self.counts[kind_of(record)] += 1
        self.expiring += copy.timestamp_ms is not None and copy.timestamp_ms < self.expired_ms


# The cluster refuses an idempotent producer that may not write to any topic.
_DENIED: Final = (kafka_errors.TopicAuthorizationFailedError, kafka_errors.ClusterAuthorizationFailedError)


async def run(
    settings: config.Settings, selection: dead_letter_reading.Selection, rate_per_second: int, *, dry_run: bool
) -> Counts:
    """Send the selected letters that were not sent yet; return how many by original topic and reason."""
    topic, group_id = settings.topics.redrive, f"{settings.kafka.group_id}.redrive"
    expired_ms = await _expired_ms(settings)
    tenant_of = dead_letter_reading.tenants_of(settings)
    ongoing = _Pass(topic, selection, await already_sent(settings), expired_ms, dry_run, tenant_of)
    sender = Sender(settings)
    try:
        async with kafka_connection.consumer(settings, group_id) as consumer:
            pace = _Pace(rate_per_second)
            starts, ends = await _bounds(settings, consumer, group_id)
            async for record in dead_letter_reading.between(consumer, starts, ends):
                ongoing.take(record)
                if len(ongoing.due) >= pace.records_at_once:
                    await _send(ongoing, sender, consumer, pace)
                if ongoing.counts.total() == selection.max_records:
                    break
            if not dry_run:
                await _send(ongoing, sender, consumer, pace)
    finally:
        await sender.stop()
    if ongoing.expiring:
        log.warning("redriven_records_may_expire", topic=topic, records=ongoing.expiring, remedy="retention.ms=-1")
    return ongoing.counts


async def already_sent(settings: config.Settings) -> set[bytes]:
    """Return the fingerprints of all records in the redrive topic."""
    return {
        fingerprint_of(record) async for record in dead_letter_reading.everything(settings, settings.topics.redrive)
    }


class _Pace:
    """Rate limit for sends, in records per second."""

    def __init__(self, rate_per_second: int) -> None:
        self._rate_per_second = rate_per_second
        self._next_at = 0.0
        self.records_at_once = max(1, min(SEND_RECORDS_MAX, rate_per_second // SENDS_PER_SECOND))

    async def wait(self, records: int) -> None:
        """Wait until this number of records may be sent."""
        await asyncio.sleep(max(0.0, self._next_at - time.monotonic()))
        self._next_at = time.monotonic() + records / self._rate_per_second


async def _send(ongoing: _Pass, sender: Sender, consumer: aiokafka.AIOKafkaConsumer, pace: _Pace) -> None:
    if ongoing.due:
        await pace.wait(len(ongoing.due))
        try:
            await sender.send(ongoing.due.values())
        except (broker_errors.NotAcknowledgedError, kafka_errors.KafkaError) as error:
            is_denied = isinstance(error, _DENIED)
            raise (errors.RefusedError if is_denied else errors.DependencyError)(
                f"the dead letters from {next(iter(ongoing.due))} on were not redriven: "
                f"{'allow WRITE on the topic to this user' if is_denied else findings.first_line(error)}. "
                f"They are still in the DLQ: when {ongoing.topic} takes them, run it again"
            ) from error
        ongoing.due.clear()
    if ongoing.floors:
        # After the acknowledgement: after a crash between them, the letters are only read again.
        async with asyncio.timeout(clients.COMMIT_TIMEOUT_SECONDS):
            await consumer.commit(ongoing.floors)
        ongoing.floors = {}


async def _bounds(
    settings: config.Settings, consumer: aiokafka.AIOKafkaConsumer, group_id: str
) -> tuple[dead_letter_reading.Offsets, dead_letter_reading.Offsets]:
    starts, ends = await dead_letter_reading.bounds(settings, consumer, settings.topics.dead_letters)
    async with kafka_connection.admin(settings) as client:
        floors = await kafka_topics.committed(client, group_id)
    # A floor above the end belongs to a topic that was deleted and created again since.
    floors = {tp: floor for tp, floor in floors.items() if floor <= ends.get(tp, -1)}
    return {tp: max(start, floors.get(tp, start)) for tp, start in starts.items()}, ends


async def _expired_ms(settings: config.Settings) -> float:
    """Return the time before which the redrive topic may delete a record at once.

    DependencyError if the topic replaces the records' timestamps.
    """
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
