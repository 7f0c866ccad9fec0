"""What is committed without a record, and never past what a rebalance made us drop."""

import asyncio
from collections.abc import Collection, Mapping
from unittest import mock

import pytest
from aiokafka import TopicPartition

from goalworker import reader, settings

PARTITION = TopicPartition("tag-added", 0)
COMMITTED, POSITION = 10, 15


class Consumer:
    """A client that has read on; while its group is rebalanced it has the partition still, and commits."""

    def __init__(self) -> None:
        self.commits: list[Mapping[TopicPartition, int]] = []
        self.pause = self.resume = mock.Mock()

    def assignment(self) -> Collection[TopicPartition]:
        return {PARTITION}

    async def committed(self, _partition: TopicPartition) -> int:
        return COMMITTED

    async def position(self, _partition: TopicPartition) -> int:
        return POSITION

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.commits.append(offsets)


@pytest.mark.parametrize("is_rebalanced", [False, True])
def test_nothing_is_committed_idly_while_the_group_is_rebalanced(is_rebalanced: bool) -> None:
    async def commits() -> list[Mapping[TopicPartition, int]]:
        reading, consumer = reader.Reader(settings.load({}), mock.AsyncMock()), Consumer()
        reading._consumer = consumer
        await reading.on_partitions_assigned([PARTITION])
        if is_rebalanced:
            await reading.on_partitions_revoked([PARTITION])
        committed = await reading.positions()
        await reading.commit_idle()
        assert committed == ({} if is_rebalanced else {PARTITION: COMMITTED})
        return consumer.commits

    assert asyncio.run(commits()) == ([] if is_rebalanced else [{PARTITION: POSITION}])
