"""Requests to the broker beyond aiokafka's public API: these tests fail first when the library changes."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors

from goalworker.kafka import broker_requests
from tests.kit import shells, support


@pytest.fixture
async def observer(bootstrap_servers: str) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
    async with aiokafka.AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
    ) as consumer:
        yield consumer


async def test_an_open_transaction_is_reported_with_its_producer_and_hidden_records(
    bootstrap_servers: str, topics: dict[str, str], observer: Any
) -> None:
    partition, other = (TopicPartition(topics["tag_added"], number) for number in (0, 1))
    observer.assign([partition, other])
    name = f"crm-{topics['tag_added']}"
    async with (
        shells.producing(bootstrap_servers) as plain,
        shells.producing(bootstrap_servers, transactional_id=name) as theirs,
    ):
        await plain.send_and_wait(partition.topic, b"{}", partition=0)
        await theirs.begin_transaction()
        await theirs.send_and_wait(partition.topic, b"{}", partition=0)
        await plain.send_and_wait(partition.topic, b"{}", partition=0)
        ends = await observer.end_offsets([partition, other])
        assert ends == {partition: 1, other: 0}
        assert await broker_requests.high_watermarks(observer, ends) == {partition: 3, other: 0}
        (found,) = await broker_requests.open_transactions(observer, partition)
        assert (found.start_offset, found.transactional_id) == (1, name)
        assert found.producer_id >= 0
        assert 0 <= time.time() * 1000 - found.last_write_ms < 60_000
        assert await broker_requests.open_transactions(observer, other) == []
        await theirs.abort_transaction()

    async def has_ended() -> bool:
        return await broker_requests.open_transactions(observer, partition) == []

    await support.until(has_ended)  # the coordinator replies before it writes the marker


async def test_a_recreated_topic_has_another_id(bootstrap_servers: str, absent_topics: dict[str, str]) -> None:
    name = absent_topics["tag_added"]
    async with support.admin_client(bootstrap_servers) as admin:
        found = []
        for _ in range(2):
            await shells.create_topic(bootstrap_servers, name)
            while not (known := await broker_requests.topic_ids(admin, [name, absent_topics["redrive"]])):  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # until the broker knows the new topic
            found.append(known)
            described = await broker_requests.describe_topics(admin, [name, absent_topics["redrive"]])
            assert {topic: state.topic_id for topic, state in described.items()} == known
            assert described[name].partitions == {0}
            await admin.delete_topics([name])
    first, second = found
    assert set(first) == set(second) == {name}
    assert first[name] != second[name]
    assert all(isinstance(known[name], uuid.UUID) for known in found)


async def test_a_log_knows_the_ends_of_its_own_leader_epochs_only(
    bootstrap_servers: str, topics: dict[str, str], observer: Any
) -> None:
    partition, other = (TopicPartition(topics["tag_added"], number) for number in (0, 1))
    observer.assign([partition, other])
    async with shells.producing(bootstrap_servers) as producer:
        for _ in range(3):
            await producer.send_and_wait(partition.topic, b"{}", partition=0)
    await observer.end_offsets([partition, other])
    assert await broker_requests.epoch_ends(observer, {partition: 0, other: 0}) == {partition: 3, other: 0}
    assert await broker_requests.epoch_ends(observer, {partition: 1}) == {partition: 0}


async def test_a_partition_whose_leader_does_not_reply_has_no_end_of_an_epoch(
    bootstrap_servers: str, topics: dict[str, str], observer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition, gone = TopicPartition(topics["tag_added"], 0), TopicPartition(topics["tag_added"], 99)
    observer.assign([partition])
    observer.pause(partition)  # a fetch that fails while the client stops would be raised as a cancellation
    await observer.end_offsets([partition])
    assert await broker_requests.epoch_ends(observer, {partition: 0, gone: 0}) == {partition: 0}
    leader = observer._client.cluster.leader_for_partition(partition)
    monkeypatch.setattr(observer._client.cluster, "leader_for_partition", lambda _: leader)
    assert await broker_requests.epoch_ends(observer, {partition: 0, gone: 0}) == {partition: 0}
    monkeypatch.setattr(observer._client, "send", mock.AsyncMock(side_effect=kafka_errors.NodeNotReadyError))
    assert await broker_requests.epoch_ends(observer, {partition: 0}) == {}


async def test_a_broker_that_is_too_old_gets_no_request(
    bootstrap_servers: str, topics: dict[str, str], observer: Any
) -> None:
    partition = TopicPartition(topics["tag_added"], 0)
    observer.assign([partition])
    await observer.end_offsets([partition])
    for connection in observer._client._conns.values():
        connection._versions = connection._versions | {3: (0, 9), 23: (0, 2)}
        del connection._versions[61], connection._versions[66]
    assert await broker_requests.topic_ids(observer, [partition.topic]) == {}
    described = await broker_requests.describe_topics(observer, [partition.topic, "absent"])
    assert described == {partition.topic: broker_requests.DescribedTopic(None, frozenset(range(support.PARTITIONS)))}
    assert await broker_requests.epoch_ends(observer, {partition: 1}) == {partition: broker_requests.NO_END}
    assert await broker_requests.open_transactions(observer, partition) == []


async def test_the_request_is_repeated_when_a_partition_has_a_new_leader(
    bootstrap_servers: str, topics: dict[str, str], observer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = [6, 6]

    def once_not_leader(code: int) -> None:
        if code or codes:
            raise kafka_errors.for_code(code or codes.pop())()

    monkeypatch.setattr(broker_requests, "_raise_for", once_not_leader)
    partition = TopicPartition(topics["tag_added"], 0)
    observer.assign([partition])
    assert await broker_requests.high_watermarks(observer, [partition]) == {partition: 0}
    assert codes == []
