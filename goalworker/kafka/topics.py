"""Topics at the broker: which are missing, how large their messages may be, and where a moment is in them."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import aiokafka
from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from goalworker import config


def missing_topics(settings: config.Settings, present: Collection[str]) -> str | None:
    """Return a sentence that names the missing topics, None if all exist."""
    missing = sorted(set(settings.topics.model_dump().values()) - set(present))
    if not missing:
        return None
    return (
        f"missing topics, or topics that may not be described: {', '.join(missing)}. `goalworker topics create` makes "
        "those that are missing"
    )


async def max_message_bytes(admin: Any, topics: Iterable[str]) -> dict[str, int]:
    """Return max.message.bytes of each topic, as far as this user may see it."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    return {
        topic: int(entry[1])
        for response in await admin.describe_configs(resources)
        for _, _, _, topic, entries in response.resources
        for entry in entries
        if entry[0] == "max.message.bytes"
    }


async def offsets_at(
    consumer: aiokafka.AIOKafkaConsumer, moment: datetime, ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Return the offset of the first record at or after a moment in each partition, or the partition's end."""
    moment_ms = max(0, int(moment.timestamp() * 1000))
    found = await consumer.offsets_for_times(dict.fromkeys(ends, moment_ms)) if ends else {}
    return {partition: end if (at := found.get(partition)) is None else at.offset for partition, end in ends.items()}
