"""Kafka clients of the demo itself: one sends the events, one reads the worker's messages, one asks the broker."""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from goalworker.demo import records

LINGER_MS: Final = 1
"""Milliseconds that the producer waits to fill a request; more would count as latency of the worker."""


class Clients(NamedTuple):
    """The connected clients."""

    producer: AIOKafkaProducer
    consumer: AIOKafkaConsumer
    admin: AIOKafkaAdminClient


@contextlib.asynccontextmanager
async def connect(bootstrap_servers: str) -> AsyncIterator[Clients]:
    """Connect the clients; the consumer reads the topics that the worker writes to, from their present end."""
    async with contextlib.AsyncExitStack() as stack:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True, linger_ms=LINGER_MS
        )
        consumer = AIOKafkaConsumer(**consumer_options(bootstrap_servers))
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        for client, close in ((producer, producer.stop), (consumer, consumer.stop), (admin, admin.close)):
            stack.push_async_callback(close)
            await client.start()
        partitions = await partitions_of(admin, (*records.TOPICS.outputs[:3], records.TOPICS.dead_letters))
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        yield Clients(producer, consumer, admin)


async def partitions_of(admin: AIOKafkaAdminClient, topics: Iterable[str]) -> list[TopicPartition]:
    """Return every partition of these topics."""
    return [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in await admin.describe_topics(list(topics))
        for partition in topic["partitions"]
    ]


def consumer_options(bootstrap_servers: str) -> dict[str, Any]:
    """Return the options of a consumer that belongs to no group and sees committed records only."""
    return {
        "bootstrap_servers": bootstrap_servers,
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "auto_offset_reset": "none",
    }
