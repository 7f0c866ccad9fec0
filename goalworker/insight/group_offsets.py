"""Offsets of consumer groups: how far the worker lags, and whether history has everything that is there now."""

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Final

import aiokafka
from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config
from goalworker.kafka import broker_requests, clients
from goalworker.kafka.observer import Observer
from goalworker.stores import history_writing

# Seconds for which a lag is taken to be the same: a backfill asks before each of its slices.
LAG_SECONDS: Final = 1.0
# Seconds between two looks at history that is still behind.
HISTORY_SECONDS: Final = 0.5

Offsets = dict[TopicPartition, int]


class GroupOffsets:
    """Offsets of the worker's group and of the insight process's own, asked outside both groups."""

    def __init__(self, settings: config.Settings, pool: AsyncEngine, worker_group: str) -> None:
        self._settings, self._pool = settings, pool
        self._worker_group, self._own_group = worker_group, settings.kafka.group_id
        self._topics = [*settings.topics.inputs, settings.topics.redrive]
        self._history_topics = [*settings.topics.goal_inputs, settings.topics.redrive]
        self._observer = Observer(settings)
        self._lag, self._asked_at = 0, -LAG_SECONDS

    async def lag(self) -> int:
        """Return the number of records that the worker has not committed yet."""
        if time.monotonic() - self._asked_at >= LAG_SECONDS:
            ends = await self._ends(self._topics)
            committed = await self._committed(self._worker_group)
            # Without a commit, the worker will begin at the first record.
            begins = await self._begins([partition for partition in ends if partition not in committed])
            self._lag = sum(max(0, end - (committed | begins)[partition]) for partition, end in ends.items())
            self._asked_at = time.monotonic()
        return self._lag

    async def await_history(self) -> None:
        """Return once history has every record that was there when this was called."""
        ends = await self._ends(self._history_topics)
        while not await self._is_kept_until(ends):  # noqa: ASYNC110 - neither the broker nor the database tells
            await asyncio.sleep(HISTORY_SECONDS)

    async def _is_kept_until(self, ends: Mapping[TopicPartition, int]) -> bool:
        # The positions in the database are behind the records, the commits behind markers of transactions too.
        stored = await history_writing.positions(self._pool, ends)
        kept = {partition: position.next_offset for partition, position in stored.items()}
        committed = await self._committed(self._own_group)
        return all(max(kept.get(one, 0), committed.get(one, 0)) >= end for one, end in ends.items())

    async def drop(self) -> None:
        """Drop the connection."""
        await self._observer.drop()

    async def _ends(self, topics: Collection[str]) -> Offsets:
        async def ends(observer: aiokafka.AIOKafkaConsumer) -> Offsets:
            described = await broker_requests.describe_topics(observer, topics)
            partitions = [TopicPartition(name, one) for name, topic in described.items() for one in topic.partitions]
            found: Offsets = await observer.end_offsets(partitions)
            return found

        return await self._observer.ask(ends, clients.ASK_TIMEOUT_SECONDS)

    async def _begins(self, partitions: Collection[TopicPartition]) -> Offsets:
        async def begins(observer: aiokafka.AIOKafkaConsumer) -> Offsets:
            found: Offsets = await observer.beginning_offsets(partitions)
            return found

        return await self._observer.ask(begins, clients.ASK_TIMEOUT_SECONDS) if partitions else {}

    async def _committed(self, group_id: str) -> Offsets:
        client = clients.admin(self._settings)
        try:
            await client.start()
            found = await client.list_consumer_group_offsets(group_id)
        finally:
            await client.close()
        return {partition: at.offset for partition, at in found.items() if at.offset >= 0}
