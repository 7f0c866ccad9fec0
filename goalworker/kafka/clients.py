"""Clients of Kafka: the worker's consumer, an observer of partitions, and an admin client."""

import asyncio
from typing import Any, Final

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from goalworker import config
from goalworker.kafka import broker_connections

# A member sends heartbeats at least this often, in seconds.
HEARTBEAT_SECONDS_MAX: Final = 3.0
# Milliseconds that a member may take for a rebalance; then the group goes on without it.
REBALANCE_TIMEOUT_MS: Final = 60_000
# Seconds without an acknowledgement, or without an answer, after which an attempt fails and is repeated.
SEND_TIMEOUT_SECONDS: Final = 15
COMMIT_TIMEOUT_SECONDS: Final = 10
ASK_TIMEOUT_SECONDS: Final = 10


def client_options(settings: config.Settings) -> dict[str, Any]:
    """Return the options of every client, and record connections from now on, so that errors can be explained."""
    broker_connections.install()
    return config.kafka_client_options(settings)


def consumer(settings: config.Settings) -> aiokafka.AIOKafkaConsumer:
    """Return the worker's consumer: it reads committed records only, and never commits offsets by itself.

    Offsets are never reset automatically: one out of range must stop the worker, not skip records (hazard 9).
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
    """Return a client for questions about topics and groups; each is given up after ASK_TIMEOUT_SECONDS."""
    return AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=ASK_TIMEOUT_SECONDS * 1000)


async def start(consumer: aiokafka.AIOKafkaConsumer) -> None:
    """Connect a consumer, and stop it where that fails."""
    try:
        await consumer.start()
    except BaseException:
        await stop(consumer)
        raise


async def stop(consumer: aiokafka.AIOKafkaConsumer) -> None:
    """Stop a consumer, whatever that raises.

    Without a broker, aiokafka raises the CancelledError of a fetch that it cancels; gather() tells it from our own.
    """
    await asyncio.gather(consumer.stop(), return_exceptions=True)
