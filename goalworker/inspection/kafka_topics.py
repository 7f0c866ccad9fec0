"""Topics and consumer group of this installation, as the broker describes them."""

import asyncio
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import aiokafka
from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors
from aiokafka.admin import config_resource

from goalworker import config, errors

PAUSE_SECONDS: Final = 0.2
# Attempts to read the committed offsets: ten seconds, in which a broker creates its topic of offsets.
ATTEMPTS: Final = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Topic:
    """Layout of a topic; replication is that of its least replicated partition."""

    partitions: int
    replication: int


async def topics(client: kafka_admin.AIOKafkaAdminClient) -> dict[str, Topic]:
    """Return every topic that we may see; a request for all topics never creates one."""
    return {
        each["topic"]: Topic(
            len(each["partitions"]), min(len(partition["replicas"]) for partition in each["partitions"])
        )
        for each in await client.describe_topics()
        if each["partitions"]
    }


async def require(client: kafka_admin.AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, Topic]:
    """Return these topics; DependencyError names those that are missing."""
    found = await topics(client)
    if absent := [name for name in names if name not in found]:
        raise errors.DependencyError(missing(absent))
    return {name: found[name] for name in names}


def missing(absent: Collection[str]) -> str:
    """Return the sentence about missing topics."""
    verb = "is" if len(absent) == 1 else "are"
    return f"{', '.join(absent)} {verb} missing, or may not be described: run `goalworker topics create`"


async def configuration(
    client: kafka_admin.AIOKafkaAdminClient, names: Iterable[str]
) -> dict[str, Mapping[str, str] | None]:
    """Return the effective configuration of each topic, None where the broker does not show it."""
    kind = config_resource.ConfigResourceType.TOPIC
    answers = await client.describe_configs([config_resource.ConfigResource(kind, name) for name in names])
    return {
        name: None if code else {key: value for key, value, *_ in entries}
        for answer in answers
        for code, _, _, name, entries in answer.resources
    }


async def broker_configuration(client: kafka_admin.AIOKafkaAdminClient, node_id: int) -> Mapping[str, str]:
    """Return the effective configuration of a broker, empty where it does not show it."""
    resource = config_resource.ConfigResource(config_resource.ConfigResourceType.BROKER, str(node_id))
    (answer,) = await client.describe_configs([resource])
    return {key: value for code, *_, entries in answer.resources if not code for key, value, *_ in entries}


async def committed(client: kafka_admin.AIOKafkaAdminClient, group: str) -> dict[aiokafka.TopicPartition, int]:
    """Return the offsets that a consumer group has committed."""
    return {partition: at.offset for partition, at in (await committed_with_metadata(client, group)).items()}


async def committed_with_metadata(client: kafka_admin.AIOKafkaAdminClient, group: str) -> Mapping[Any, Any]:
    """Return the offsets that a consumer group has committed, with their metadata, as aiokafka does."""
    for attempt in range(ATTEMPTS):
        try:
            found = await client.list_consumer_group_offsets(group)
        except (kafka_errors.GroupCoordinatorNotAvailableError, kafka_errors.GroupLoadInProgressError):
            # A broker that never had a group is creating its topic of offsets now.
            if attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return {partition: at for partition, at in found.items() if at.offset >= 0}
    raise AssertionError


def names(settings: config.Settings) -> dict[str, str]:
    """Return the setting of each of our topics by its name, in lower case."""
    return {name: which for which, name in settings.topics}


def partitions(found: Mapping[str, Topic]) -> list[aiokafka.TopicPartition]:
    """Return every partition of some topics."""
    return [
        aiokafka.TopicPartition(name, number) for name, topic in found.items() for number in range(topic.partitions)
    ]


# Limit of dead letters and redriven records in bytes: a record of any usual limit, with our headers added.
DEAD_LETTER_BYTES: Final = 16 * 1024 * 1024


CONFIGURATION: Final[Mapping[str, Mapping[str, str]]] = {
    "dead_letters": {"max.message.bytes": str(DEAD_LETTER_BYTES)},
    # A redriven record has its original timestamp, which may be older than any retention.
    "redrive": {
        "max.message.bytes": str(DEAD_LETTER_BYTES),
        "message.timestamp.type": "CreateTime",
        "retention.ms": "-1",
    },
    "goal_configured": {"cleanup.policy": "compact"},
}
