"""Part of `goalworker doctor`: tenants that send mostly malformed records, for which no topic is paused."""

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import aiokafka

from goalworker import config
from goalworker.admin import findings
from goalworker.decoding.decoder import Malformed
from goalworker.inspection import dead_letter_reading, kafka_connection
from goalworker.pipeline.breaker import TenantShare
from goalworker.pipeline.event_decoder import event_decoder

# Newest records of a topic that are decoded, as many from each of its partitions.
RECORDS: Final = 1_000
# Tenants that are named: those with the most malformed records.
TENANTS_MAX: Final = 10

Counts = Counter[tuple[str, str]]
"""By topic and tenant."""


async def examine(settings: config.Settings, partitions: Sequence[aiokafka.TopicPartition]) -> findings.Findings:
    """Yield the findings about the newest records of these partitions, decoded as the worker would."""
    if not partitions:  # a consumer without an assignment cannot be stopped
        return
    records: Counts = Counter()
    malformed: Counts = Counter()
    decoder, now = event_decoder(settings), datetime.now(UTC)
    async with kafka_connection.consumer(settings) as consumer:
        consumer.assign(partitions)
        async for record in dead_letter_reading.between(consumer, *await _newest(consumer, partitions)):
            found = decoder.decode_record(record.topic, record, now, (record.partition, record.offset))
            if found is not None and found.tenant_id is not None:
                records[record.topic, found.tenant_id] += 1
                malformed[record.topic, found.tenant_id] += isinstance(found, Malformed)
    for finding in senders(records, malformed):
        yield finding


async def _newest(
    consumer: aiokafka.AIOKafkaConsumer, partitions: Sequence[aiokafka.TopicPartition]
) -> tuple[dead_letter_reading.Offsets, dead_letter_reading.Offsets]:
    """Return the offsets between which the newest records of each partition are."""
    beginnings, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    of_topic = Counter(partition.topic for partition in partitions)
    share = {topic: math.ceil(RECORDS / count) for topic, count in of_topic.items()}
    return {tp: max(beginnings[tp], ends[tp] - share[tp.topic]) for tp in partitions}, ends


def senders(records: Counts, malformed: Counts) -> Iterable[findings.Finding]:
    """Yield the findings about tenants, by the number of their records and how many of these are malformed."""
    mostly_dead = [
        (topic, share)
        for (topic, tenant_id), count in malformed.most_common()
        if (share := TenantShare(tenant_id, count, records[topic, tenant_id])).is_mostly_dead
    ]
    if not mostly_dead:
        yield findings.ok("senders", "no tenant's newest records are mostly malformed")
    for topic, share in mostly_dead[:TENANTS_MAX]:
        selection = f"--tenant {shlex.quote(str(share.tenant_id))} --topic {topic}"
        yield findings.warn(
            "senders",
            f"{share.dead_letters} of the newest {share.records} records of {share.tenant_id} in {topic} are "
            f"malformed: `goalworker dlq list {selection}` says what is wrong; have their sender corrected",
        )
    if more := len(mostly_dead[TENANTS_MAX:]):
        yield findings.warn("senders", f"such tenants not named here: {more}; see `goalworker dlq stats --by tenant`")
