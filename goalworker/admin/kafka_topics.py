"""What the broker knows of our topics and our consumer group."""

import asyncio
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import aiokafka
from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors
from aiokafka.admin import config_resource

from goalworker import config, errors

PAUSE_SECONDS: Final = 0.2
ATTEMPTS: Final = 50  # ten seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Topic:
    """How a topic is laid out; replication is that of its least replicated partition."""

    partitions: int
    replication: int


async def topics(client: kafka_admin.AIOKafkaAdminClient) -> dict[str, Topic]:
    """Return every topic that we may see; asking for all of them never creates one."""
    return {
        each["topic"]: Topic(
            len(each["partitions"]), min(len(partition["replicas"]) for partition in each["partitions"])
        )
        for each in await client.describe_topics()
        if each["partitions"]
    }


async def require(client: kafka_admin.AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, Topic]:
    """Return these topics, or raise DependencyError that names those that are not there."""
    found = await topics(client)
    if absent := [name for name in names if name not in found]:
        raise errors.DependencyError(missing(absent))
    return {name: found[name] for name in names}


def missing(absent: Collection[str]) -> str:
    """Return the sentence about topics that are not there."""
    verb = "is" if len(absent) == 1 else "are"
    return f"{', '.join(absent)} {verb} not there, or may not be described: run `goalworker topics create`"


async def configuration(
    client: kafka_admin.AIOKafkaAdminClient, names: Iterable[str]
) -> dict[str, Mapping[str, str] | None]:
    """Return each topic's effective configuration, None where the broker does not tell us."""
    kind = config_resource.ConfigResourceType.TOPIC
    answers = await client.describe_configs([config_resource.ConfigResource(kind, name) for name in names])
    return {
        name: None if code else {key: value for key, value, *_ in entries}
        for answer in answers
        for code, _, _, name, entries in answer.resources
    }


async def broker_configuration(client: kafka_admin.AIOKafkaAdminClient, node_id: int) -> Mapping[str, str]:
    """Return a broker's effective configuration, nothing where it does not tell us."""
    resource = config_resource.ConfigResource(config_resource.ConfigResourceType.BROKER, str(node_id))
    (answer,) = await client.describe_configs([resource])
    return {key: value for code, *_, entries in answer.resources if not code for key, value, *_ in entries}


async def committed(client: kafka_admin.AIOKafkaAdminClient, group: str) -> dict[aiokafka.TopicPartition, int]:
    """Return the offsets that a consumer group has committed."""
    for attempt in range(ATTEMPTS):
        try:
            found = await client.list_consumer_group_offsets(group)
        except (kafka_errors.GroupCoordinatorNotAvailableError, kafka_errors.GroupLoadInProgressError):
            # A broker that never had a group makes the topic for the offsets now.
            if attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return {partition: at.offset for partition, at in found.items() if at.offset >= 0}
    raise AssertionError


def names(settings: config.Settings) -> dict[str, str]:
    """Return all our topics: name → the setting it comes from, in lower case."""
    return {name: which for which, name in settings.topics}


def partitions(found: Mapping[str, Topic]) -> list[aiokafka.TopicPartition]:
    """Return every partition of some topics."""
    return [
        aiokafka.TopicPartition(name, number) for name, topic in found.items() for number in range(topic.partitions)
    ]


# Dead letters come with headers of ours on top, and go to redrive as they are.
DEAD_LETTER_BYTES: Final = 16 * 1024 * 1024


CONFIGURATION: Final[Mapping[str, Mapping[str, str]]] = {
    "dead_letters": {"max.message.bytes": str(DEAD_LETTER_BYTES)},
    # What is sent again has its original timestamp, which may be older than any retention.
    "redrive": {
        "max.message.bytes": str(DEAD_LETTER_BYTES),
        "message.timestamp.type": "CreateTime",
        "retention.ms": "-1",
    },
    "goal_configured": {"cleanup.policy": "compact"},
}
