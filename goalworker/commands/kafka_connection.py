"""Ways to Kafka that say, where they are closed, what to do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

import aiokafka
from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors

from goalworker import kafka
from goalworker import settings as all_settings
from goalworker.commands import common

TIMEOUT_SECONDS: Final = 10


@contextlib.asynccontextmanager
async def admin(settings: all_settings.Settings) -> AsyncIterator[kafka_admin.AIOKafkaAdminClient]:
    """Yield a connected admin client; where the broker cannot be used, DependencyError says which and why."""
    client = kafka_admin.AIOKafkaAdminClient(
        **all_settings.kafka_client_options(settings), request_timeout_ms=TIMEOUT_SECONDS * 1000
    )
    with explained(settings):
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await client.start()
            yield client
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def consumer(settings: all_settings.Settings) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
    """Yield a connected consumer that is in no group, so that reading disturbs nobody; errors as with `admin`."""
    client = aiokafka.AIOKafkaConsumer(
        **all_settings.kafka_client_options(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        request_timeout_ms=TIMEOUT_SECONDS * 1000,
    )
    with explained(settings):
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await client.start()
            yield client
        finally:
            await client.stop()


@contextlib.contextmanager
def explained(settings: all_settings.Settings) -> Iterator[None]:
    """Turn the broker's errors into a DependencyError that names it."""
    try:
        yield
    except (kafka_errors.KafkaError, OSError) as error:
        raise kafka.explained(settings, RuntimeError(_reason(error))) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, kafka_errors.KafkaConnectionError) and common.OVERHEARD.words:
        return common.OVERHEARD.words
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS} s"
    return common.first_line(error)
