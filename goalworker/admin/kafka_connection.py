"""Ways to Kafka that say, where they are closed, what to do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import aiokafka
from aiokafka import admin as kafka_admin

from goalworker import config
from goalworker.kafka import broker_errors, clients

TIMEOUT_SECONDS: Final = clients.ASK_TIMEOUT_SECONDS
# So long a broker waits for records before it says anything, also that they may not be read.
FETCH_WAIT_MS: Final = 100


@contextlib.asynccontextmanager
async def admin(settings: config.Settings) -> AsyncIterator[kafka_admin.AIOKafkaAdminClient]:
    """Yield a connected admin client; where the broker cannot be used, DependencyError says which and why."""
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
    """Yield a connected consumer; without a group, reading disturbs nobody. Errors are as with `admin`."""
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
            await client.stop()
