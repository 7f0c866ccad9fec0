"""Clients of Kafka: the worker's consumer, which never commits by itself, an observer and an admin client."""

from typing import Any, Final

import aiokafka
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from goalworker import config
from goalworker.kafka import broker_connections
from goalworker.kafka.broker_errors import NotAcknowledgedError

HEARTBEAT_SECONDS_MAX: Final = 3.0


REBALANCE_TIMEOUT_MS: Final = 60_000


SEND_TIMEOUT_SECONDS: Final = 15


COMMIT_TIMEOUT_SECONDS: Final = 10


ASK_TIMEOUT_SECONDS: Final = 10


def is_of_broker(error: BaseException) -> bool:
    """Say whether an error comes from the client, whatever it means."""
    return isinstance(error, NotAcknowledgedError | kafka_errors.KafkaError)


def client_options(settings: config.Settings) -> dict[str, Any]:
    """Return the options of every client; from here on their connections are noted, to explain errors."""
    broker_connections.install()
    return config.kafka_client_options(settings)


def consumer(settings: config.Settings) -> aiokafka.AIOKafkaConsumer:
    """Return a consumer of the group that the worker subscribes: committed records only, offsets committed by us.

    There is no automatic offset reset: an offset out of range must stop the worker, not skip records (hazard 9).
    """
    session_seconds = settings.kafka.session_timeout_seconds
    return aiokafka.AIOKafkaConsumer(
        **client_options(settings),
        group_id=settings.kafka.group_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        session_timeout_ms=session_seconds * 1_000,
        rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
        # A member may miss two heartbeats in a row, however short the session.
        heartbeat_interval_ms=int(min(HEARTBEAT_SECONDS_MAX, session_seconds / 3) * 1_000),
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
    )


def observer(settings: config.Settings) -> aiokafka.AIOKafkaConsumer:
    """Return a consumer outside any group that reads metadata and last stable offsets."""
    return aiokafka.AIOKafkaConsumer(
        **client_options(settings), isolation_level="read_committed", enable_auto_commit=False
    )


def admin(settings: config.Settings) -> AIOKafkaAdminClient:
    """Return a client that asks about topics and groups, and gives up in time."""
    return AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=ASK_TIMEOUT_SECONDS * 1000)
