"""Beginnings, ends and committed offsets of the topics in, as a tenant's move asks for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiokafka
from aiokafka import TopicPartition
from aiokafka import admin as kafka_admin

from goalworker import config, errors
from goalworker.inspection import kafka_connection, kafka_topics
from goalworker.stores.tenant_moves import Offsets

# Seconds in which the broker has to name the ends: workers wait meanwhile, and give up after two.
ENDS_SECONDS: Final = 1.5


class TopicEnds:
    """The topics that workers read, by a consumer that reads nothing of them."""

    def __init__(
        self, topics: list[str], consumer: aiokafka.AIOKafkaConsumer, admin: kafka_admin.AIOKafkaAdminClient
    ) -> None:
        self._topics = topics
        self._consumer = consumer
        self._admin = admin
        self._partitions: list[TopicPartition] = []

    async def refresh(self) -> None:
        """Find the partitions; DependencyError names a topic that is missing."""
        found = kafka_topics.partitions(await kafka_topics.require(self._admin, self._topics))
        if set(found) != set(self._partitions):
            self._partitions = found
            self._consumer.assign(found)
            self._consumer.pause(*found)

    async def ends(self) -> Offsets:
        """Return the ends of the partitions as consumers see them: nobody can have read a record from there on."""
        try:
            async with asyncio.timeout(ENDS_SECONDS):
                found: Offsets = await self._consumer.end_offsets(self._partitions)
        except TimeoutError:
            raise errors.DependencyError(
                f"The broker did not name the ends of the topics within {ENDS_SECONDS:g} s: run this again"
            ) from None
        return found

    async def left(self, group_id: str, until: Offsets) -> int:
        """Return how many records a consumer group has still to commit before these offsets."""
        committed = await kafka_topics.committed(self._admin, group_id)
        return sum_left(committed, await self._consumer.beginning_offsets(list(until)), until)


def sum_left(reached: Offsets, beginnings: Offsets, until: Offsets) -> int:
    """Return how many offsets lie between those that were reached, or the beginnings of the logs, and the ends."""
    return sum(
        max(end - max(reached.get(partition, 0), beginnings.get(partition, 0)), 0) for partition, end in until.items()
    )


@asynccontextmanager
async def open_ends(settings: config.Settings) -> AsyncIterator[TopicEnds]:
    """Yield the ends of the topics in; GoalworkerError where the broker or a topic cannot be used."""
    topics = [*settings.topics.inputs, settings.topics.redrive]
    async with kafka_connection.admin(settings) as admin, kafka_connection.consumer(settings) as consumer:
        opened = TopicEnds(topics, consumer, admin)
        await opened.refresh()
        yield opened
