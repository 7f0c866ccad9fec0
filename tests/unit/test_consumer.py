"""The consumer commits idle positions, never those that a rebalance has ended, and checks its logs."""

import asyncio
import math
import time
from collections.abc import Collection, Mapping
from unittest import mock

import pytest
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors

from goalworker import config
from goalworker.decoding.record import FetchedRecord, OversizedRecord
from goalworker.kafka.consumer import Consumer
from goalworker.kafka.positioned_consumer import PositionedConsumer

PARTITION, OTHER = TopicPartition("tag-added", 0), TopicPartition("tag-added", 1)
DELETED = TopicPartition("stage-changed", 0)
COMMITTED, POSITION = 10, 15


class Client:
    """A client that has read on; while its group is rebalanced it has the partition still, and commits."""

    def __init__(self) -> None:
        self.commits: list[Mapping[TopicPartition, int]] = []
        self.pause = self.resume = mock.Mock()
        self.fetched: dict[TopicPartition, list[FetchedRecord]] = {}

    def assignment(self) -> Collection[TopicPartition]:
        return {PARTITION, OTHER}

    async def committed(self, _partition: TopicPartition) -> int:
        return COMMITTED

    async def position(self, partition: TopicPartition) -> int:
        return POSITION if partition == PARTITION else COMMITTED

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Stay: the test says what is fetched next."""

    async def getmany(self, **_limits: int) -> Mapping[TopicPartition, list[FetchedRecord]]:
        return self.fetched

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.commits.append(offsets)


async def _assigned(*, is_rebalanced: bool) -> tuple[Consumer, Client]:
    """Return a consumer with partitions, or one whose partitions were just revoked, and its client."""
    reading, consumer = Consumer(config.load({})), Client()
    reading._consumer = consumer
    await reading.on_partitions_assigned([PARTITION])
    if is_rebalanced:
        await reading.on_partitions_revoked([PARTITION])
    return reading, consumer


class NewGroup(Client):
    """A client whose group has committed nothing, and one of whose topics was just deleted."""

    async def committed(self, _partition: TopicPartition) -> None:  # type: ignore[override]
        return None

    def assignment(self) -> Collection[TopicPartition]:
        return [DELETED, PARTITION, OTHER]

    async def getmany(self, **_limits: int) -> Mapping[TopicPartition, list[FetchedRecord]]:
        raise kafka_errors.NoOffsetForPartitionError(PARTITION)

    async def beginning_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        if DELETED in partitions:
            await asyncio.Event().wait()
        return dict.fromkeys(partitions, 7)

    async def stop(self) -> None:
        """Leave the group."""


def test_a_deleted_topic_keeps_no_other_from_being_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    async def commits() -> list[Mapping[TopicPartition, int]]:
        reading, client = Consumer(config.load({})), NewGroup()
        reading._consumer = client
        await reading.on_partitions_assigned(client.assignment())
        assert await reading.fetch(10, 0) == {}
        return client.commits

    monkeypatch.setattr("goalworker.kafka.consumer.BEGIN_TIMEOUT_SECONDS", 0.01)
    assert asyncio.run(commits()) == [{PARTITION: 7, OTHER: 7}]


@pytest.mark.parametrize("is_rebalanced", [False, True])
def test_nothing_is_committed_idly_while_the_group_is_rebalanced(is_rebalanced: bool) -> None:
    async def commits() -> list[Mapping[TopicPartition, int]]:
        reading, consumer = await _assigned(is_rebalanced=is_rebalanced)
        committed = await reading.committed_offsets()
        await reading.commit_idle()
        assert committed == ({} if is_rebalanced else {PARTITION: COMMITTED, OTHER: COMMITTED})
        return consumer.commits

    assert asyncio.run(commits()) == ([] if is_rebalanced else [{PARTITION: POSITION}])


@pytest.mark.parametrize("is_rebalanced", [False, True])
def test_no_offset_is_committed_while_the_group_is_rebalanced(is_rebalanced: bool) -> None:
    """The broker would refuse it, and the client would join once more: two members could do so for ever."""

    async def commits() -> list[Mapping[TopicPartition, int]]:
        reading, consumer = await _assigned(is_rebalanced=is_rebalanced)
        await reading.commit(reading.epoch, {PARTITION: POSITION})
        return consumer.commits

    assert len(asyncio.run(commits())) == (0 if is_rebalanced else 1)


def test_a_position_is_committed_idly_only_once_its_records_are_committed() -> None:
    last = POSITION - 3  # markers of transactions follow it

    async def commits() -> list[Mapping[TopicPartition, int]]:
        reading, consumer = Consumer(config.load({})), Client()
        reading._consumer, reading._identity.check = consumer, mock.AsyncMock()  # type: ignore[method-assign]
        await reading.on_partitions_assigned([PARTITION, OTHER])
        await reading.committed_offsets()
        consumer.fetched = {PARTITION: [OversizedRecord(last, 0, 0, None, 0)]}
        await reading.fetch(1, 0)
        await reading.commit_idle()
        await reading.commit(reading.epoch, {OTHER: COMMITTED + 1})
        await reading.commit_idle()
        await reading.commit(reading.epoch, {PARTITION: last + 1})
        await reading.commit_idle()
        return consumer.commits

    assert asyncio.run(commits()) == [{OTHER: COMMITTED + 1}, {PARTITION: last + 1}, {PARTITION: POSITION}]


def test_records_that_were_withheld_do_not_keep_positions_from_being_committed() -> None:
    async def commits() -> list[Mapping[TopicPartition, int]]:
        reading, consumer = Consumer(config.load({})), Client()
        reading._consumer, reading._identity.check = consumer, mock.AsyncMock()  # type: ignore[method-assign]
        await reading.on_partitions_assigned([PARTITION, OTHER])
        await reading.committed_offsets()
        consumer.fetched = {PARTITION: [OversizedRecord(COMMITTED, 0, 0, None, 0)]}
        await reading.fetch(1, 0)
        reading.rewind({PARTITION: COMMITTED})
        await reading.commit_idle()
        return consumer.commits

    assert asyncio.run(commits()) == [{PARTITION: POSITION}]


def test_the_newest_record_since_the_last_time_is_compared_with_our_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000.0)

    def record(seconds: float) -> OversizedRecord:
        return OversizedRecord(0, int(seconds * 1000), 0, None, 0)

    async def ahead() -> list[float]:
        reading, consumer = Consumer(config.load({})), Client()
        reading._consumer = consumer
        found = [reading.take_records_ahead()]
        for newest in (990.0, 1_600.0, 980.0):
            consumer.fetched = {PARTITION: [record(900.0), record(newest)], TopicPartition("b", 0): [record(5.0)]}
            await reading.fetch(10, 0)
        consumer.fetched = {}
        await reading.fetch(10, 0)
        found.append(reading.take_records_ahead())
        found.append(reading.take_records_ahead())
        return found

    assert asyncio.run(ahead()) == [-math.inf, 600.0, -math.inf]


def test_logs_are_compared_on_assignment_and_after_a_silent_leader_answers() -> None:
    async def compared() -> list[int]:
        reading, found = Consumer(config.load({})), list[int]()
        reading._consumer = consumer = mock.MagicMock(wraps=Client())
        records = [OversizedRecord(0, 0, 0, None, 0)]
        come = (PARTITION, OTHER, PARTITION, PARTITION)
        consumer.getmany = mock.AsyncMock(side_effect=[{partition: records} for partition in come])
        reading._identity.check = check = mock.AsyncMock(side_effect=[{PARTITION}, set()])  # type: ignore[method-assign]
        await reading.on_partitions_assigned([PARTITION, OTHER])
        for _ in range(4):
            await reading.fetch(1, 0)
            found.append(check.await_count)
        return found

    assert asyncio.run(compared()) == [1, 1, 2, 2]


def test_a_skipped_batch_takes_along_no_record_of_another_partition() -> None:
    """The fetch that fails has moved positions past records that it drops."""
    sought: dict[TopicPartition, int] = {}

    async def skip() -> None:
        reading, client = PositionedConsumer(config.load({}), ()), Client()
        client.seek = sought.__setitem__  # type: ignore[method-assign, assignment]
        reading._consumer = client
        await reading.on_partitions_assigned([PARTITION, OTHER])
        reading.seek_to(reading.epoch, {PARTITION: COMMITTED, OTHER: COMMITTED})
        client.fetched = {OTHER: [OversizedRecord(COMMITTED + 1, 0, 0, None, 0)]}
        reading._must_check_logs = False
        await reading.fetch(1, 0)
        reading.skip_to(PARTITION.topic, PARTITION.partition, POSITION)

    asyncio.run(skip())
    assert sought == {PARTITION: POSITION, OTHER: COMMITTED + 2}
