"""Requests that aiokafka has no call for: high watermarks, topic ids, ends of leader epochs, open transactions."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.protocol.offset import OffsetRequest
from msgspec import Struct

from goalworker.kafka.aiokafka_internals import client_of, committed_offsets
from goalworker.kafka.request_types import EpochEnds, Producers, TopicIds, Transactions

READ_UNCOMMITTED: Final = 0
LATEST: Final = -1
NO_TRANSACTION: Final = -1
# Beyond any offset: where a leader epoch ends that the broker cannot tell.
NO_END: Final = 2**63 - 1
# Requests about a partition that changes its leader, and the seconds between them; then the error is raised.
ATTEMPTS: Final = 10
PAUSE_SECONDS: Final = 0.1
_NO_ID: Final = uuid.UUID(int=0)
_NO_LEADER: Final = (None, -1)
# The library has no version of the request in common with the broker, or the broker does not know the request.
_TOO_OLD: Final = (NotImplementedError, kafka_errors.IncompatibleBrokerVersion)

_T = TypeVar("_T")


class OpenTransaction(Struct, frozen=True):
    """A producer's transaction that is neither committed nor aborted; last_write_ms is in epoch milliseconds."""

    producer_id: int
    start_offset: int
    last_write_ms: int
    transactional_id: str | None = None


class DescribedTopic(Struct, frozen=True):
    """A topic that exists: its id, where the broker has ids, and the numbers of its partitions."""

    topic_id: uuid.UUID | None
    partitions: frozenset[int]


async def high_watermarks(consumer: Any, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the end of each partition, records of open transactions included; raises KafkaError."""
    return await _retry_on_new_leader(consumer, lambda: _high_watermarks(consumer, partitions))


async def _retry_on_new_leader(consumer: Any, request: Callable[[], Awaitable[_T]]) -> _T:
    """Send a request again while partitions change their leaders, as aiokafka's own calls do."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await request()
        except kafka_errors.KafkaError as error:
            if not error.retriable:
                raise
        await client_of(consumer).force_metadata_update()
        await asyncio.sleep(PAUSE_SECONDS)
    return await request()


async def _high_watermarks(consumer: Any, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    by_leader: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for partition, leader in (await _leaders(consumer, partitions)).items():
        by_leader[leader][partition.topic].append((partition.partition, LATEST))
    responses = await asyncio.gather(
        *(
            client_of(consumer).send(leader, OffsetRequest(-1, READ_UNCOMMITTED, list(topics.items())))
            for leader, topics in by_leader.items()
        )
    )
    found = {}
    for response in responses:
        for topic, ends in response.topics:
            for number, code, _, end in ends:
                _raise_for(code)
                found[TopicPartition(topic, number)] = end
    return found


async def _leaders(consumer: Any, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    leader_of = client_of(consumer).cluster.leader_for_partition
    if any(leader_of(partition) in _NO_LEADER for partition in partitions):
        await consumer.beginning_offsets(partitions)  # waits until every leader is known
    return {partition: leader_of(partition) for partition in partitions}


async def topic_ids(connected: Any, topics: Collection[str]) -> dict[str, uuid.UUID]:
    """Return the ids of the topics that exist; empty where the broker is too old (before 2.8) to have ids."""
    try:
        described = await _describe(connected, topics)
    except _TOO_OLD:
        return {}
    return {name: topic.topic_id for name, topic in described.items() if topic.topic_id is not None}


async def describe_topics(connected: Any, topics: Collection[str]) -> dict[str, DescribedTopic]:
    """Return the topics that exist, as a broker knows them now; without ids where it is too old (before 2.8)."""
    try:
        return await _describe(connected, topics)
    except _TOO_OLD:
        cluster = await client_of(connected).fetch_all_metadata()
    found = {topic: cluster.partitions_for_topic(topic) for topic in topics}
    return {topic: DescribedTopic(None, frozenset(partitions)) for topic, partitions in found.items() if partitions}


async def _describe(connected: Any, topics: Collection[str]) -> dict[str, DescribedTopic]:
    client = client_of(connected)
    response = await client.send(client.get_random_node(), TopicIds(topics))
    return {
        name: DescribedTopic(
            None if topic_id == _NO_ID else topic_id, frozenset(partition for _, partition, *_ in partitions)
        )
        for code, name, topic_id, _, partitions, *_ in response.topics
        if not code
    }


async def committed(consumer: Any, partitions: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
    """Return the offset that the consumer's group has committed in each partition, with its metadata."""
    found = await committed_offsets(consumer, partitions)
    return {partition: (at.offset, at.metadata or "") for partition, at in found.items() if at.offset >= 0}


async def epoch_ends(consumer: Any, epochs: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return the offset at which each log ends a leader epoch, 0 where the log never got to that epoch (KIP-320).

    The result lacks partitions whose leader does not answer now. A broker before 2.3 cannot tell: the end is NO_END.
    """
    by_leader: dict[int, dict[TopicPartition, int]] = defaultdict(dict)
    for partition, epoch in epochs.items():
        leader = client_of(consumer).cluster.leader_for_partition(partition)
        if leader not in _NO_LEADER:
            by_leader[leader][partition] = epoch
    ends = await asyncio.gather(*(_epoch_ends(consumer, leader, epochs) for leader, epochs in by_leader.items()))
    return {partition: end for of_leader in ends for partition, end in of_leader.items()}


async def _epoch_ends(consumer: Any, leader: int, epochs: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    found = dict.fromkeys(epochs, NO_END)
    try:
        response = await client_of(consumer).send(leader, EpochEnds(epochs))
    except _TOO_OLD:
        return found
    except kafka_errors.KafkaError as error:
        if not error.retriable:
            raise
        return {}
    for topic, partitions in response.topics:
        for code, number, epoch, end in partitions:
            if not code:
                found[TopicPartition(topic, number)] = end if epoch >= 0 else 0
            elif kafka_errors.for_code(code).retriable:
                del found[TopicPartition(topic, number)]
    return found


async def open_transactions(consumer: Any, partition: TopicPartition) -> list[OpenTransaction]:
    """Return the open transactions of a partition; empty where the broker is too old (before 2.8) to tell."""
    return await _retry_on_new_leader(consumer, lambda: _open_transactions(consumer, partition))


async def _open_transactions(consumer: Any, partition: TopicPartition) -> list[OpenTransaction]:
    leaders = await _leaders(consumer, [partition])
    try:
        response = await client_of(consumer).send(leaders[partition], Producers(partition))
    except _TOO_OLD:
        return []
    ((_, ((_, code, _, producers, _),), _),) = response.topics
    _raise_for(code)
    names = await _transactional_ids(consumer)
    return [
        OpenTransaction(producer_id, start_offset, last_write_ms, names.get(producer_id))
        for producer_id, _, _, last_write_ms, _, start_offset, _ in producers
        if start_offset != NO_TRANSACTION
    ]


async def _transactional_ids(consumer: Any) -> Mapping[int, str]:
    """Return the transactional id by producer id, as far as this user may see it."""
    client, found = client_of(consumer), dict[int, str]()
    for broker in client.cluster.brokers():
        try:
            response = await client.send(broker.nodeId, Transactions())
        except _TOO_OLD:
            return {}
        found |= {producer_id: name for name, producer_id, _, _ in response.transactions}
    return found


def _raise_for(code: int) -> None:
    if code:
        raise kafka_errors.for_code(code)()
