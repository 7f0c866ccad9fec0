"""Requests of Kafka's protocol that aiokafka does not define, with their responses, built from its protocol types."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping
from io import BytesIO
from typing import Final

from aiokafka import TopicPartition
from aiokafka.protocol import abstract, api, types

# A client's replica id, and the current leader epoch of a client that does not track it.
_CONSUMER, _NO_EPOCH = -1, -1


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


class TopicIds(api.Request[_TopicIdsRequest]):  # type: ignore[misc]
    """Request for the ids of topics: Metadata, version 10."""

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


class EpochEnds(api.Request[_EpochEndsRequest]):  # type: ignore[misc]
    """Request for the offsets at which leader epochs end: OffsetForLeaderEpoch, version 3."""

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


class Producers(api.Request[_ProducersRequest]):  # type: ignore[misc]
    """Request for the producers of a partition, with their open transactions: DescribeProducers, version 0."""

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


class Transactions(api.Request[_TransactionsRequest]):  # type: ignore[misc]
    """Request for the transactions that a broker coordinates: ListTransactions, version 0."""

    API_KEY = 66

    def build(self, struct: type[_TransactionsRequest]) -> _TransactionsRequest:
        return struct([], [], {})
