"""Connections of a command to Kafka; their errors say what to do."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Final

import aiokafka
from aiokafka import admin as kafka_admin

from goalworker import config
from goalworker.kafka import broker_errors, clients, fast_fetch
from goalworker.kafka.fast_fetch.fetch_state import ALLOWANCE

TIMEOUT_SECONDS: Final = clients.ASK_TIMEOUT_SECONDS
# Milliseconds that a broker waits for records before it answers a fetch, also to refuse it.
FETCH_WAIT_MS: Final = 100


@contextlib.asynccontextmanager
async def admin(settings: config.Settings) -> AsyncIterator[kafka_admin.AIOKafkaAdminClient]:
    """Yield a connected admin client; GoalworkerError says which broker cannot be used, and why."""
    client = clients.admin(settings)
    with broker_errors.explain_errors(settings):
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await client.start()
            yield client
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def consumer(settings: config.Settings, group_id: str | None = None) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
    """Yield a connected consumer, to be read by fetch(); without a group, it commits no offsets.

    Errors are as with `admin`.
    """
    bound_decompression()
    client = aiokafka.AIOKafkaConsumer(
        **clients.client_options(settings),
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=FETCH_WAIT_MS,
        request_timeout_ms=TIMEOUT_SECONDS * 1000,
    )
    with broker_errors.explain_errors(settings):
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await client.start()
            yield client
        finally:
            await clients.stop(client)


async def fetch(
    consumer: aiokafka.AIOKafkaConsumer,
    partitions: Iterable[aiokafka.TopicPartition],
    timeout_ms: int,
    max_records: int | None = None,
) -> Mapping[aiokafka.TopicPartition, Sequence[aiokafka.ConsumerRecord]]:
    """Return the next records of these partitions; raises UndecodableError for a batch that cannot be read."""
    ALLOWANCE.begin()  # the event loop may not have turned since the last fetch
    fetched: Mapping[aiokafka.TopicPartition, Sequence[aiokafka.ConsumerRecord]] = await consumer.getmany(
        *partitions, timeout_ms=timeout_ms, max_records=max_records
    )
    return fetched


@functools.cache
def bound_decompression() -> None:
    """Decompress batches in pieces: a command must not run out of memory where the worker does not."""
    fast_fetch.install(for_commands=True)
