"""The records of a batch topic by topic, in the order fetched, as admission looks at them."""

from collections.abc import Iterable

from aiokafka import TopicPartition

from goalworker.decoding.record import FetchedRecord
from goalworker.decoding.skipping import FOREIGN_TENANT
from goalworker.pipeline import dead_letters
from goalworker.pipeline.batches import Batch, RecordPosition, position_of


def records_by_topic(batch: Batch) -> dict[str, list[FetchedRecord]]:
    """Return the records of each topic in the order fetched."""
    by_topic: dict[str, list[FetchedRecord]] = {}
    for (topic, _), records in batch.fetched.items():
        if topic in by_topic:
            by_topic[topic] += records
        else:
            by_topic[topic] = [*records]
    return by_topic


def letters_in_order(batch: Batch, topic: str) -> dict[int, dead_letters.DeadLetter]:
    """Return the dead letters of a topic by their position among its records, in the order fetched."""
    letters = {position_of(letter.record): letter for letter in batch.letters if letter.record.topic == topic}
    if not letters:
        return {}
    return {number: letters[at] for number, at in enumerate(positions(batch, topic)) if at in letters}


def positions(batch: Batch, topic: str) -> list[RecordPosition]:
    """Return the position of each record of a topic, in the order fetched."""
    return [
        (*partition, record.offset)
        for partition, records in batch.fetched.items()
        if partition.topic == topic
        for record in records
    ]


def foreign_places(batch: Batch, topic: str) -> set[int]:
    """Return the places of other cells' records among those of a topic, in the order fetched."""
    if batch.decoder.cell.owns_all:
        return set()
    foreign = {
        (*partition, offset)
        for partition, offset, found in batch.skipped
        if found.outcome == FOREIGN_TENANT and partition.topic == topic
    }
    if not foreign:
        return set()
    return {place for place, position in enumerate(positions(batch, topic)) if position in foreign}


def covered(batch: Batch, among: Iterable[RecordPosition]) -> set[RecordPosition]:
    """Return the positions that are committed with the batch."""
    return {position for position in among if position[2] < batch.offsets.get(TopicPartition(*position[:2]), 0)}
