"""Requests that aiokafka has no call for: high watermarks, topic ids, ends of leader epochs, open transactions.

aiokafka's protocol types encode them; its `_client` sends them. No other module uses either.
tests/integration/test_broker_requests.py fails first when the library changes.
"""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from io import BytesIO
from typing import Any, Final, TypeVar

from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.protocol import abstract, api, offset, types
from msgspec import Struct

READ_UNCOMMITTED: Final = 0
LATEST: Final = -1
NO_TRANSACTION: Final = -1
NO_END: Final = 2**63 - 1
ATTEMPTS: Final = 10
PAUSE_SECONDS: Final = 0.1
_NO_LEADER: Final = (None, -1)
_CONSUMER, _NO_EPOCH = -1, -1  # as a replica's id; as the leader epoch of a client that follows none
# The library has no version of the request in common with the broker, or the broker does not know the request.
_TOO_OLD: Final = (NotImplementedError, kafka_errors.IncompatibleBrokerVersion)

_T = TypeVar("_T")


class OpenTransaction(Struct, frozen=True):
    """A producer's transaction that is neither committed nor aborted; last_write_ms is in epoch milliseconds."""

    producer_id: int
    start_offset: int
    last_write_ms: int
    transactional_id: str | None = None


async def high_watermarks(consumer: Any, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the end of each partition, records of open transactions included; raises KafkaError."""
    return await _with_leaders(consumer, lambda: _high_watermarks(consumer, partitions))


async def _with_leaders(consumer: Any, ask: Callable[[], Awaitable[_T]]) -> _T:
    """Ask again where a partition has just got another leader, as the client's own calls do."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await ask()
        except kafka_errors.KafkaError as error:
            if not error.retriable:
                raise
        await consumer._client.force_metadata_update()
        await asyncio.sleep(PAUSE_SECONDS)
    return await ask()


async def _high_watermarks(consumer: Any, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    by_node: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for partition, leader in (await _leaders(consumer, partitions)).items():
        by_node[leader][partition.topic].append((partition.partition, LATEST))
    responses = await asyncio.gather(
        *(
            consumer._client.send(node, offset.OffsetRequest(-1, READ_UNCOMMITTED, list(topics.items())))
            for node, topics in by_node.items()
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
    leader_of = consumer._client.cluster.leader_for_partition
    if any(leader_of(partition) in _NO_LEADER for partition in partitions):
        await consumer.beginning_offsets(partitions)  # which waits until each is known
    return {partition: leader_of(partition) for partition in partitions}


async def topic_ids(client: Any, topics: Collection[str]) -> dict[str, uuid.UUID]:
    """Return the ids of topics that are there; empty where the broker is too old (before 2.8) to have ids."""
    try:
        response = await client._client.send(client._client.get_random_node(), _TopicIds(topics))
    except _TOO_OLD:
        return {}
    return {name: topic_id for code, name, topic_id, *_ in response.topics if not code and topic_id != uuid.UUID(int=0)}


async def committed(consumer: Any, partitions: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
    """Return the offset that the consumer's group has committed in each partition, and the text beside it."""
    found = await consumer._coordinator.fetch_committed_offsets(list(partitions))
    return {partition: (at.offset, at.metadata or "") for partition, at in found.items() if at.offset >= 0}


async def epoch_ends(consumer: Any, epochs: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return the offset at which each log ends a leader epoch, 0 where the log never got to that epoch (KIP-320).

    Partitions whose leader does not answer now are left out. Where the broker cannot say (before 2.3), there is no end.
    """
    by_leader: dict[int, dict[TopicPartition, int]] = defaultdict(dict)
    for partition, epoch in epochs.items():
        leader = consumer._client.cluster.leader_for_partition(partition)
        if leader not in _NO_LEADER:
            by_leader[leader][partition] = epoch
    answers = await asyncio.gather(*(_epoch_ends(consumer, leader, asked) for leader, asked in by_leader.items()))
    return {partition: end for answer in answers for partition, end in answer.items()}


async def _epoch_ends(consumer: Any, leader: int, epochs: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    found = dict.fromkeys(epochs, NO_END)
    try:
        response = await consumer._client.send(leader, _EpochEnds(epochs))
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
    """Return the transactions that are open in a partition; none where the broker is too old (before 2.8) to say."""
    return await _with_leaders(consumer, lambda: _open_transactions(consumer, partition))


async def _open_transactions(consumer: Any, partition: TopicPartition) -> list[OpenTransaction]:
    leaders = await _leaders(consumer, [partition])
    try:
        response = await consumer._client.send(leaders[partition], _Producers(partition))
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
    """Return the transactional id by producer id, as far as this user may know it."""
    found: dict[int, str] = {}
    for broker in consumer._client.cluster.brokers():
        try:
            response = await consumer._client.send(broker.nodeId, _Transactions())
        except _TOO_OLD:
            return {}
        found |= {producer_id: name for name, producer_id, _, _ in response.transactions}
    return found


def _raise_for(code: int) -> None:
    if code:
        raise kafka_errors.for_code(code)()


# --- the wire ---


class _Uuid(abstract.AbstractType[uuid.UUID]):  # type: ignore[misc]  # aiokafka has no types
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


_TEXT: Final = types.CompactString("utf-8")
_TAGS: Final = ("tags", types.TaggedFields)
_NUMBERS: Final = types.CompactArray(types.Int32)


class _TopicIdsResponse(api.Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 3, 10
    SCHEMA = types.Schema(
        ("throttle_time_ms", types.Int32),
        (
            "brokers",
            types.CompactArray(("node", types.Int32), ("host", _TEXT), ("port", types.Int32), ("rack", _TEXT), _TAGS),
        ),
        ("cluster_id", _TEXT),
        ("controller", types.Int32),
        (
            "topics",
            types.CompactArray(
                ("error_code", types.Int16),
                ("name", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", types.Boolean),
                (
                    "partitions",
                    types.CompactArray(
                        ("error_code", types.Int16),
                        ("partition", types.Int32),
                        ("leader", types.Int32),
                        ("leader_epoch", types.Int32),
                        ("replicas", _NUMBERS),
                        ("in_sync", _NUMBERS),
                        ("offline", _NUMBERS),
                        _TAGS,
                    ),
                ),
                ("operations", types.Int32),
                _TAGS,
            ),
        ),
        ("operations", types.Int32),
        _TAGS,
    )


class _TopicIdsRequest(api.RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, FLEXIBLE_VERSION, RESPONSE_TYPE = 3, 10, True, _TopicIdsResponse
    SCHEMA = types.Schema(
        ("topics", types.CompactArray(("topic_id", _Uuid), ("name", _TEXT), _TAGS)),
        ("create", types.Boolean),
        ("with_cluster_operations", types.Boolean),
        ("with_topic_operations", types.Boolean),
        _TAGS,
    )


class _TopicIds(api.Request[_TopicIdsRequest]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics: list[tuple[object, ...]] = [(uuid.UUID(int=0), topic, {}) for topic in topics]

    def build(self, struct: type[_TopicIdsRequest]) -> _TopicIdsRequest:
        return struct(self._topics, False, False, False, {})


class _EpochEndsResponse(api.Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 23, 3
    SCHEMA = types.Schema(
        ("throttle_time_ms", types.Int32),
        (
            "topics",
            types.Array(
                ("name", types.String("utf-8")),
                (
                    "partitions",
                    types.Array(
                        ("error_code", types.Int16),
                        ("partition", types.Int32),
                        ("leader_epoch", types.Int32),
                        ("end_offset", types.Int64),
                    ),
                ),
            ),
        ),
    )


class _EpochEndsRequest(api.RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE = 23, 3, _EpochEndsResponse  # earlier versions are for brokers only
    SCHEMA = types.Schema(
        ("replica_id", types.Int32),
        (
            "topics",
            types.Array(
                ("name", types.String("utf-8")),
                (
                    "partitions",
                    types.Array(
                        ("partition", types.Int32), ("current_leader_epoch", types.Int32), ("leader_epoch", types.Int32)
                    ),
                ),
            ),
        ),
    )


class _EpochEnds(api.Request[_EpochEndsRequest]):  # type: ignore[misc]
    API_KEY = 23

    def __init__(self, epochs: Mapping[TopicPartition, int]) -> None:
        self._topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for partition, epoch in epochs.items():
            self._topics[partition.topic].append((partition.partition, _NO_EPOCH, epoch))

    def build(self, struct: type[_EpochEndsRequest]) -> _EpochEndsRequest:
        return struct(_CONSUMER, list(self._topics.items()))


class _ProducersResponse(api.Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 61, 0
    SCHEMA = types.Schema(
        ("throttle_time_ms", types.Int32),
        (
            "topics",
            types.CompactArray(
                ("name", _TEXT),
                (
                    "partitions",
                    types.CompactArray(
                        ("partition", types.Int32),
                        ("error_code", types.Int16),
                        ("error_message", _TEXT),
                        (
                            "producers",
                            types.CompactArray(
                                ("producer_id", types.Int64),
                                ("epoch", types.Int32),
                                ("last_sequence", types.Int32),
                                ("last_timestamp", types.Int64),
                                ("coordinator_epoch", types.Int32),
                                ("start_offset", types.Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _ProducersRequest(api.RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, FLEXIBLE_VERSION, RESPONSE_TYPE = 61, 0, True, _ProducersResponse
    SCHEMA = types.Schema(("topics", types.CompactArray(("name", _TEXT), ("partitions", _NUMBERS), _TAGS)), _TAGS)


class _Producers(api.Request[_ProducersRequest]):  # type: ignore[misc]
    API_KEY = 61

    def __init__(self, partition: TopicPartition) -> None:
        self._partition = partition

    def build(self, struct: type[_ProducersRequest]) -> _ProducersRequest:
        return struct([(self._partition.topic, [self._partition.partition], {})], {})


class _TransactionsResponse(api.Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 66, 0
    SCHEMA = types.Schema(
        ("throttle_time_ms", types.Int32),
        ("error_code", types.Int16),
        ("unknown_states", types.CompactArray(_TEXT)),
        (
            "transactions",
            types.CompactArray(("transactional_id", _TEXT), ("producer_id", types.Int64), ("state", _TEXT), _TAGS),
        ),
        _TAGS,
    )


class _TransactionsRequest(api.RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, FLEXIBLE_VERSION, RESPONSE_TYPE = 66, 0, True, _TransactionsResponse
    SCHEMA = types.Schema(
        ("states", types.CompactArray(_TEXT)), ("producer_ids", types.CompactArray(types.Int64)), _TAGS
    )


class _Transactions(api.Request[_TransactionsRequest]):  # type: ignore[misc]
    API_KEY = 66

    def build(self, struct: type[_TransactionsRequest]) -> _TransactionsRequest:
        return struct([], [], {})
