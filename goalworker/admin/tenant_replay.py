"""Replay of a moved tenant's events: those between the fence and the switch, which no worker judges (section 10)."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final

import aiokafka
from aiokafka import TopicPartition
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.decoding.decoder import Decoder
from goalworker.domain.cells import Cell
from goalworker.goal_index import index
from goalworker.inspection import dead_letter_reading, kafka_connection
from goalworker.kafka.sender import Sender
from goalworker.pipeline import batches, phases
from goalworker.pipeline.event_decoder import event_decoder
from goalworker.postgres import connections, tables
from goalworker.stores.tenant_moves import Offsets

# Records and bytes of a batch.
BATCH_RECORDS: Final = 2_000
BATCH_BYTES: Final = 16 * 1024 * 1024

Fetched = Mapping[TopicPartition, list[aiokafka.ConsumerRecord]]
Advance = Callable[[Offsets], Awaitable[None]]
"""Awaited with the offsets up to which everything is judged and published."""


def decoder_of(settings: config.Settings, tenant_id: str) -> Decoder:
    """Return a decoder that skips the records of every other tenant."""
    decoder = event_decoder(settings)
    decoder.cell = Cell(frozenset(), {tenant_id: True})
    return decoder


async def replay(
    settings: config.Settings,
    pool: sa_async.AsyncEngine,
    tenant_id: str,
    since: Offsets,
    until: Offsets,
    advance: Advance,
) -> int:
    """Take a tenant's events between these offsets through a worker's phases; return their number."""
    sender, goal_index, decoder = Sender(settings), index.Index(), decoder_of(settings, tenant_id)
    of_tenant = phases.Phases(settings, pool, sender, goal_index)
    async with connections.transaction(pool, tables.WORKER_ROLE, "goals") as connection:
        await of_tenant.refresh(connection)
    taken, reached = 0, dict(since)
    try:
        async with aclosing(fetched_between(settings, since, until)) as parts:
            async for fetched in parts:
                batch = batches.Batch(0, goal_index.revision, decoder, fetched)
                for _ in batches.decoding(batch, goal_index, settings.topics.redrive):
                    pass
                await _through(of_tenant, batch)
                reached |= batch.offsets
                await advance(reached)
                taken += batch.records - len(batch.skipped)
    finally:
        await sender.stop()
    return taken


async def fetched_between(settings: config.Settings, since: Offsets, until: Offsets) -> AsyncGenerator[Fetched]:
    """Yield the records between these offsets in batches; a partition that `since` lacks begins at its first record."""
    async with kafka_connection.consumer(settings) as consumer:
        consumer.assign(list(until))
        begins = await consumer.beginning_offsets(list(until))
        starts = {partition: max(since.get(partition, 0), begins[partition]) for partition in until}
        waiting: dict[TopicPartition, list[aiokafka.ConsumerRecord]] = {}
        count = size = 0
        async with aclosing(dead_letter_reading.between(consumer, starts, dict(until))) as records:
            async for record in records:
                waiting.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
                count, size = count + 1, size + len(record.value or b"")
                if count >= BATCH_RECORDS or size >= BATCH_BYTES:
                    yield waiting
                    waiting, count, size = {}, 0, 0
        if waiting:
            yield waiting


async def _through(of_tenant: phases.Phases, batch: batches.Batch) -> None:
    await of_tenant.record(batch)
    await of_tenant.send_letters(batch)
    await of_tenant.publish([part async for part in of_tenant.judge(batch)])
    async with aclosing(of_tenant.judge_activated_workflows(batch)) as parts:
        async for part in parts:
            await of_tenant.publish([part])
