"""Observer of partitions: a client outside any group, connected when it is needed."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import aiokafka
from aiokafka import errors as kafka_errors

from goalworker import config
from goalworker.kafka import clients

T = TypeVar("T")

# Seconds to stop; then the connections are dropped.
STOP_SECONDS: Final = 1


class Observer:
    """Connection of an observer, which is dropped after an error and made again."""

    def __init__(self, settings: config.Settings) -> None:
        self._settings = settings
        self._consumer: aiokafka.AIOKafkaConsumer | None = None

    async def connected(self) -> aiokafka.AIOKafkaConsumer:
        """Return the connected client."""
        if self._consumer is None:
            consumer = clients.observer(self._settings)
            await clients.start(consumer)
            self._consumer = consumer
        return self._consumer

    async def ask(self, question: Callable[[aiokafka.AIOKafkaConsumer], Awaitable[T]], seconds: float) -> T:
        """Return the answer to a question, which may take this long; after an error the connection is made again."""
        try:
            async with asyncio.timeout(seconds):
                return await question(await self.connected())
        except Exception as error:
            await self.drop()
            if isinstance(error, TimeoutError):
                raise kafka_errors.KafkaTimeoutError from error  # so that it counts as the broker's
            raise

    async def drop(self) -> None:
        """Stop the client, whatever that raises."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(STOP_SECONDS):
                    await clients.stop(consumer)
