"""Check that committed offsets belong to the logs that are read; in another log they mean nothing (hazard B2).

A topic may be deleted and recreated under its name. Its id shows that, for brokers from 2.8 on. A log may also lose its
end to a leader that lacked it, or its broker may be too old for ids. Its leader epochs show that, since they never fall
in one log: any epoch from that of the last record read up to the leader's current one ends at or behind the position
(KIP-320). So the highest epoch seen in a partition serves all of its positions, and reading records again does no harm.
"""

import re
import uuid
from collections.abc import Collection, Mapping
from typing import Any, Final

from aiokafka import TopicPartition
from msgspec import Struct

from goalworker import logs
from goalworker.errors import GoalworkerError
from goalworker.kafka import broker_requests
from goalworker.kafka.fast_fetch.fetch_state import LEADER_EPOCHS

log = logs.get("reader")

_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_METADATA: Final = re.compile(rf"({_UUID})?(?::([0-9]{{1,10}}))?(?:/({_UUID}))?")


class Committed(Struct, frozen=True):
    """An offset and its log, as far as the worker that committed it knew the log; and the worker's cell."""

    offset: int
    topic_id: uuid.UUID | None = None
    leader_epoch: int | None = None
    cell_id: uuid.UUID | None = None


class Logs(Struct, frozen=True):
    """State of the logs at the broker: the topics' ids, and where each partition ends its committed leader epoch."""

    ids: Mapping[str, uuid.UUID]
    epoch_ends: Mapping[TopicPartition, int]
    committed: Mapping[TopicPartition, Committed]

    @property
    def unanswered(self) -> set[TopicPartition]:
        """Partitions whose leaders did not answer."""
        return {
            partition
            for partition, committed in self.committed.items()
            if committed.leader_epoch is not None and partition not in self.epoch_ends
        }


async def fetch_logs(
    consumer: Any, partitions: Collection[TopicPartition], last_commits: Mapping[TopicPartition, Committed]
) -> Logs:
    """Fetch the offsets that the consumer's group has committed, and their logs; raises KafkaError.

    last_commits stand in for offsets that the broker has dropped, as it does when a topic is deleted.
    """
    ids = await broker_requests.topic_ids(consumer, {partition.topic for partition in partitions})
    found = await broker_requests.committed(consumer, partitions)
    committed = {partition: at for partition, at in last_commits.items() if partition in partitions}
    committed |= {partition: decode(offset, metadata) for partition, (offset, metadata) in found.items()}
    epochs = {partition: at.leader_epoch for partition, at in committed.items() if at.leader_epoch is not None}
    return Logs(ids, await broker_requests.epoch_ends(consumer, epochs), committed)


class TopicIdentity:
    """Ids of the topics that this worker reads, which it commits as metadata of the offsets."""

    def __init__(self) -> None:
        self.cell_id: uuid.UUID | None = None
        """The cell of this worker, which it commits too: a group of two cells would lose the records of both."""
        self.ids: dict[str, uuid.UUID] = {}
        self._committed: dict[TopicPartition, Committed] = {}

    async def check(self, consumer: Any, partitions: Collection[TopicPartition]) -> set[TopicPartition]:
        """Compare the committed offsets with the logs, and return the partitions whose leaders did not answer.

        Raises GoalworkerError for an offset of another log.
        """
        found = await fetch_logs(consumer, partitions, self._committed)
        recreated = {topic for topic, topic_id in self.ids.items() if found.ids.get(topic, topic_id) != topic_id}
        recreated &= {partition.topic for partition, committed in found.committed.items() if committed.offset > 0}
        recreated |= {partition.topic for partition in of_another_topic(found)}
        if recreated:
            raise _recreated(recreated)
        if diverged := beyond_its_epoch(found):
            raise _diverged({partition: found.committed[partition].offset for partition in diverged})
        self.ids |= found.ids
        if shared := of_another_cell(found.committed, self.cell_id):
            log.error("group_of_another_cell", partitions=len(shared), remedy=GROUP_REMEDY)
        return found.unanswered

    def forget_epochs(self, partitions: Collection[TopicPartition]) -> None:
        """Forget the leader epochs of partitions that are read from their beginning, where the log may be another."""
        for partition in partitions:
            LEADER_EPOCHS.pop(partition, None)

    def with_metadata(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Any]:
        """Return offsets as aiokafka commits them, with the topic's id and the leader epoch if these are known."""
        committed = {
            partition: Committed(offset, self.ids.get(partition.topic), LEADER_EPOCHS.get(partition), self.cell_id)
            for partition, offset in offsets.items()
        }
        self._committed |= committed
        return {partition: encode(at) for partition, at in committed.items()}


# --- metadata of an offset: the topic's id, a colon and the leader epoch, a slash and the cell's id ---


def encode(committed: Committed) -> int | tuple[int, str]:
    """Return an offset as aiokafka commits it, with metadata if the log is known."""
    topic_id = "" if committed.topic_id is None else str(committed.topic_id)
    epoch = "" if committed.leader_epoch is None else f":{committed.leader_epoch}"
    metadata = topic_id + epoch + ("" if committed.cell_id is None else f"/{committed.cell_id}")
    return (committed.offset, metadata) if metadata else committed.offset


def decode(offset: int, metadata: str) -> Committed:
    """Return a committed offset with its log; metadata that another program wrote says nothing about the log."""
    found = _METADATA.fullmatch(metadata)
    topic_id, epoch, cell_id = found.groups() if found is not None else (None, None, None)
    return Committed(offset, _uuid(topic_id), int(epoch) if epoch else None, _uuid(cell_id))


def _uuid(text: str | None) -> uuid.UUID | None:
    return None if text is None else uuid.UUID(text)


# --- the decision ---


def foreign(logs: Logs) -> set[TopicPartition]:
    """Return the partitions whose offset belongs to another log; offsets without metadata are trusted."""
    return of_another_topic(logs) | beyond_its_epoch(logs)


def of_another_topic(logs: Logs) -> set[TopicPartition]:
    """Return the partitions whose offset was committed with another id than their topic has now.

    Offset 0 skips no record of any topic.
    """
    return {
        partition
        for partition, committed in logs.committed.items()
        if committed.offset > 0
        and committed.topic_id is not None
        and committed.topic_id != logs.ids.get(partition.topic, committed.topic_id)
    }


def of_another_cell(committed: Mapping[TopicPartition, Committed], cell_id: uuid.UUID | None) -> set[TopicPartition]:
    """Return the partitions whose offset a worker of another cell has committed; without a cell, none."""
    if cell_id is None:
        return set()
    return {partition for partition, at in committed.items() if at.cell_id not in (None, cell_id)}


def beyond_its_epoch(logs: Logs) -> set[TopicPartition]:
    """Return the partitions whose log ends the leader epoch of their offset before that offset."""
    return {partition for partition, end in logs.epoch_ends.items() if end < logs.committed[partition].offset}


# --- the sentences ---

GROUP_REMEDY: Final = (
    "two cells share the consumer group, or the database was made anew: give each cell a GOALWORKER_KAFKA__GROUP_ID of "
    "its own, and read again what it has missed: `goalworker run --reset-offsets` with a time before the mistake"
)

REMEDY: Final = (
    "Nothing is skipped silently: stop all workers, then start one with `goalworker run --reset-offsets earliest` "
    "(reads all records that are left), `latest` (skips them) or a time such as 2026-05-01T12:00:00Z."
)


def _recreated(topics: Collection[str]) -> GoalworkerError:
    return GoalworkerError(
        f"the committed offsets belong to another topic: {', '.join(sorted(topics))} was deleted and recreated since "
        f"they were committed. {REMEDY}"
    )


def _diverged(offsets: Mapping[TopicPartition, int]) -> GoalworkerError:
    where = ", ".join(f"{partition.topic}[{partition.partition}] at {at}" for partition, at in sorted(offsets.items()))
    return GoalworkerError(
        f"the committed offsets belong to another log: {where}. The topic was recreated, or a broker without its last "
        f"records became the leader. {REMEDY}"
    )
