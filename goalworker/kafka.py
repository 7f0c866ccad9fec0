"""Connections to Kafka: a consumer that never commits by itself, clients that ask, and what their errors mean."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import aiokafka
from aiokafka import conn
from aiokafka import errors as kafka_errors
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from msgspec import Struct

from goalworker import frames, parsed
from goalworker import settings as settings_

HEARTBEAT_SECONDS_MAX: Final = 3.0
REBALANCE_TIMEOUT_MS: Final = 60_000
SEND_TIMEOUT_SECONDS: Final = 15
COMMIT_TIMEOUT_SECONDS: Final = 10
ASK_TIMEOUT_SECONDS: Final = 10

Headers = Sequence[tuple[str, bytes]]

conn.AIOKafkaProtocol = frames.Protocol


class NotAcknowledgedError(Exception):
    """The broker did not acknowledge everything in time: what was sent may or may not arrive, send it again."""


class Record(Struct, frozen=True, gc=False):
    """One record to be sent; without a timestamp it has that of its sending."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


# Joining the group fails with these for as long as nobody changes our settings, or those of the other members.
JOIN_REFUSED: Final = (
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.InconsistentGroupProtocolError,
    kafka_errors.InvalidGroupIdError,
)
# What no waiting mends: somebody must change a right or a setting.
_REFUSED: Final = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.AuthenticationFailedError,
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.InvalidTopicError,
    *JOIN_REFUSED,
)


def is_later(error: BaseException) -> bool:
    """Say whether an error of the client passes by itself, so that the same work is to be tried again."""
    return isinstance(error, NotAcknowledgedError | kafka_errors.KafkaError | OSError) and not is_refused(error)


def is_refused(error: BaseException) -> bool:
    """Say whether the broker will not have it, however often it is asked."""
    return isinstance(error, _REFUSED)


def consumer(settings: settings_.Settings) -> aiokafka.AIOKafkaConsumer:
    """Return a consumer of the group that the worker subscribes: committed records only, offsets committed by us.

    There is no automatic offset reset: an offset out of range must stop the worker, not skip records (hazard 9).
    """
    session_seconds = settings.kafka.session_timeout_seconds
    return aiokafka.AIOKafkaConsumer(
        **settings_.kafka_client_options(settings),
        group_id=settings.kafka.group_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        session_timeout_ms=session_seconds * 1_000,
        rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
        # A member may miss two heartbeats in a row, however short the session.
        heartbeat_interval_ms=int(min(HEARTBEAT_SECONDS_MAX, session_seconds / 3) * 1_000),
        value_deserializer=parsed.as_parsed,
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
    )


def observer(settings: settings_.Settings) -> aiokafka.AIOKafkaConsumer:
    """Return a consumer outside any group that reads metadata and last stable offsets."""
    return aiokafka.AIOKafkaConsumer(
        **settings_.kafka_client_options(settings), isolation_level="read_committed", enable_auto_commit=False
    )


def admin(settings: settings_.Settings) -> aiokafka.admin.AIOKafkaAdminClient:
    """Return a client that asks about topics and groups, and gives up in time."""
    return aiokafka.admin.AIOKafkaAdminClient(
        **settings_.kafka_client_options(settings), request_timeout_ms=ASK_TIMEOUT_SECONDS * 1000
    )


def missing_topics(settings: settings_.Settings, present: Collection[str]) -> str | None:
    """Return a sentence that names the topics that are not there, None where all are."""
    missing = sorted(set(settings.topics.model_dump().values()) - set(present))
    if not missing:
        return None
    return (
        f"missing topics, or topics that may not be described: {', '.join(missing)}. `goalworker topics create` makes "
        "those that are missing"
    )


async def max_message_bytes(admin: Any, topics: Iterable[str]) -> dict[str, int]:
    """Return the largest message that each topic takes, in bytes, as far as this user may know it."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    return {
        topic: int(entry[1])
        for response in await admin.describe_configs(resources)
        for _, _, _, topic, entries in response.resources
        for entry in entries
        if entry[0] == "max.message.bytes"
    }
