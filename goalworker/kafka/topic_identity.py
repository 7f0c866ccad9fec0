"""Notices that a position is of another log than the one that is read: the offsets mean nothing there (hazard B2).

A topic may be deleted and made anew under its name: its id tells, for brokers from 2.8 on. A log may also lose its end
to a leader that did not have it, or be too old to have an id: its leader epochs tell, since they never fall in one log.
Any epoch from that of the last record read up to the leader's present one ends at or behind the position (KIP-320), so
that the highest one seen in a partition serves all of its positions, and reading again does no harm.
"""

import re
import uuid
from collections.abc import Collection, Mapping
from typing import Any, Final

from aiokafka import TopicPartition
from msgspec import Struct

from goalworker.errors import GoalworkerError
from goalworker.kafka import broker_requests
from goalworker.kafka.fast_fetch.fetch_state import LEADER_EPOCHS

_METADATA: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?(?::([0-9]{1,10}))?")


class Committed(Struct, frozen=True):
    """An offset, and the log that it is of, as far as whoever committed it knew."""

    offset: int
    topic_id: uuid.UUID | None = None
    leader_epoch: int | None = None


class Seen(Struct, frozen=True):
    """The logs as the broker has them now: ids of topics, and where each partition ends the epoch committed."""

    ids: Mapping[str, uuid.UUID]
    epoch_ends: Mapping[TopicPartition, int]
    committed: Mapping[TopicPartition, Committed]

    @property
    def unanswered(self) -> set[TopicPartition]:
        """Partitions whose leader did not answer."""
        return {
            partition
            for partition, committed in self.committed.items()
            if committed.leader_epoch is not None and partition not in self.epoch_ends
        }


async def look(
    consumer: Any, partitions: Collection[TopicPartition], remembered: Mapping[TopicPartition, Committed]
) -> Seen:
    """Ask the broker about the offsets that the consumer's group has committed; raises KafkaError.

    Those remembered stand in for offsets that the broker has forgotten, as it does when a topic is deleted.
    """
    ids = await broker_requests.topic_ids(consumer, {partition.topic for partition in partitions})
    found = await broker_requests.committed(consumer, partitions)
    committed = {partition: at for partition, at in remembered.items() if partition in partitions}
    committed |= {partition: read(offset, metadata) for partition, (offset, metadata) in found.items()}
    epochs = {partition: at.leader_epoch for partition, at in committed.items() if at.leader_epoch is not None}
    return Seen(ids, await broker_requests.epoch_ends(consumer, epochs), committed)


class TopicIdentity:
    """Knows the ids of the topics that this worker reads; it writes them beside the offsets that it commits."""

    def __init__(self) -> None:
        self._ids: dict[str, uuid.UUID] = {}
        self._committed: dict[TopicPartition, Committed] = {}

    async def check(self, consumer: Any, partitions: Collection[TopicPartition]) -> set[TopicPartition]:
        """Compare the offsets committed with the logs, and return the partitions whose leader did not answer.

        Raises GoalworkerError where the log is another.
        """
        seen = await look(consumer, partitions, self._committed)
        made_anew = {topic for topic, known in self._ids.items() if seen.ids.get(topic, known) != known}
        made_anew |= {partition.topic for partition in of_another_topic(seen)}
        if made_anew:
            raise _made_anew(made_anew)
        if diverged := beyond_its_epoch(seen):
            raise _diverged({partition: seen.committed[partition].offset for partition in diverged})
        self._ids |= seen.ids
        return seen.unanswered

    def begin(self, partitions: Collection[TopicPartition]) -> None:
        """Forget the leader epochs of partitions that are read from their beginning: the log may be another."""
        for partition in partitions:
            LEADER_EPOCHS.pop(partition, None)

    def with_metadata(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Any]:
        """Return offsets as they are to be committed, with the topic's id and the leader epoch where they are known."""
        committed = {
            partition: Committed(offset, self._ids.get(partition.topic), LEADER_EPOCHS.get(partition))
            for partition, offset in offsets.items()
        }
        self._committed |= committed
        return {partition: written(at) for partition, at in committed.items()}


# --- the text beside an offset: the topic's id, a colon and the leader epoch ---


def written(committed: Committed) -> int | tuple[int, str]:
    """Return an offset as the client takes it, with a text where there is anything to be said."""
    topic_id = "" if committed.topic_id is None else str(committed.topic_id)
    epoch = "" if committed.leader_epoch is None else f":{committed.leader_epoch}"
    return (committed.offset, topic_id + epoch) if topic_id or epoch else committed.offset


def read(offset: int, metadata: str) -> Committed:
    """Return what an offset and its text say; a text of somebody else says nothing."""
    found = _METADATA.fullmatch(metadata)
    topic_id, epoch = found.groups() if found is not None else (None, None)
    return Committed(offset, uuid.UUID(topic_id) if topic_id else None, int(epoch) if epoch else None)


# --- the decision ---


def foreign(seen: Seen) -> set[TopicPartition]:
    """Return the partitions whose offset is of another log; offsets that say nothing are believed."""
    return of_another_topic(seen) | beyond_its_epoch(seen)


def of_another_topic(seen: Seen) -> set[TopicPartition]:
    """Return the partitions whose offset was committed beside another id than their topic has now."""
    return {
        partition
        for partition, committed in seen.committed.items()
        if committed.topic_id is not None and committed.topic_id != seen.ids.get(partition.topic, committed.topic_id)
    }


def beyond_its_epoch(seen: Seen) -> set[TopicPartition]:
    """Return the partitions whose log ended the leader epoch of their offset before that offset."""
    return {partition for partition, end in seen.epoch_ends.items() if end < seen.committed[partition].offset}


# --- the sentences ---

REMEDY: Final = (
    "Nothing is skipped silently: stop all workers, then start one with `goalworker run --reset-offsets earliest` "
    "(reads what is there), `latest` (skips it) or a time such as 2026-05-01T12:00:00Z."
)


def _made_anew(topics: Collection[str]) -> GoalworkerError:
    return GoalworkerError(
        f"the offsets are of another topic: {', '.join(sorted(topics))} was deleted and made anew since they were "
        f"committed. {REMEDY}"
    )


def _diverged(offsets: Mapping[TopicPartition, int]) -> GoalworkerError:
    where = ", ".join(f"{partition.topic}[{partition.partition}] at {at}" for partition, at in sorted(offsets.items()))
    return GoalworkerError(
        f"the offsets committed are of another log: {where}. The topic was made anew, or a broker without its last "
        f"records became the leader. {REMEDY}"
    )
