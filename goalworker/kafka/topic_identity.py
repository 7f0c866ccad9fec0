"""Notices that a topic was deleted and made anew: offsets of the one before mean nothing in it (hazard B2)."""

import uuid
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import TopicPartition

from goalworker.errors import GoalworkerError
from goalworker.kafka import broker_requests


class TopicIdentity:
    """Knows the ids of the topics that this worker reads; it writes them beside the offsets that it commits."""

    def __init__(self) -> None:
        self._ids: dict[str, uuid.UUID] = {}

    async def check(self, consumer: Any, partitions: Collection[TopicPartition]) -> None:
        """Ask the broker for the ids; GoalworkerError where one is another than before or than was committed."""
        ids = await broker_requests.topic_ids(consumer, {partition.topic for partition in partitions})
        made_anew = [topic for topic, known in self._ids.items() if ids.get(topic, known) != known]
        committed = await broker_requests.committed(consumer, partitions)
        made_anew += {partition.topic for partition in foreign(committed, ids)}
        if made_anew:
            raise _made_anew(made_anew)
        self._ids |= ids

    def with_metadata(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Any]:
        """Return offsets as they are to be committed, with the id of the topic where it is known."""
        return {
            partition: (offset, str(self._ids[partition.topic])) if partition.topic in self._ids else offset
            for partition, offset in offsets.items()
        }


def foreign(committed: Mapping[TopicPartition, tuple[int, str]], ids: Mapping[str, uuid.UUID]) -> set[TopicPartition]:
    """Return the partitions whose offset was committed beside another id than their topic has now.

    Releases that wrote nothing beside their offsets are believed.
    """
    return {
        partition
        for partition, (_, metadata) in committed.items()
        if _is_id(metadata) and partition.topic in ids and metadata != str(ids[partition.topic])
    }


def _is_id(metadata: str) -> bool:
    try:
        return str(uuid.UUID(metadata)) == metadata
    except ValueError:
        return False


def _made_anew(topics: Collection[str]) -> GoalworkerError:
    return GoalworkerError(
        f"the offsets are of another topic: {', '.join(sorted(set(topics)))} was deleted and made anew since they were "
        "committed. Nothing is skipped silently: stop all workers, then start one with `goalworker run --reset-offsets "
        "earliest` (reads what is there), `latest` (skips it) or a time such as 2026-05-01T12:00:00Z."
    )
