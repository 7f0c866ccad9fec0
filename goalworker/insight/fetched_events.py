"""Events of a fetch, decoded as the worker does."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Final, NamedTuple

from aiokafka import TopicPartition

from goalworker.config import groups
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.fast import ANY_WANTED
from goalworker.decoding.record import FetchedRecord, OversizedRecord
from goalworker.decoding.skipping import FOREIGN_TENANT, Skipped
from goalworker.domain import events
from goalworker.insight import published_exits
from goalworker.insight.published_exits import PublishedExit
from goalworker.pipeline import dead_letters

FetchedRecords = Mapping[TopicPartition, Sequence[FetchedRecord]]
_DAY_MS: Final = 86_400_000


class Span(NamedTuple):
    """The least and the greatest timestamp of records, in epoch milliseconds."""

    first_ms: int
    last_ms: int


@dataclass(slots=True)
class EventsOfPartition:
    """Events or published exits of consecutive records of a partition, and the offsets of the events."""

    partition: TopicPartition
    next_offset: int
    span: Span
    arrived_by: datetime
    records: int
    offsets: list[int] = field(default_factory=list)
    decoded: list[events.Event] = field(default_factory=list)
    exits: list[PublishedExit] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, offset: int, event: events.Event) -> None:
        """Append an event."""
        self.offsets.append(offset)
        self.decoded.append(event)

    def sort(self) -> None:
        """Put the events into the order of their records."""
        ordered = sorted(zip(self.offsets, self.decoded, strict=True), key=lambda located: located[0])
        self.offsets, self.decoded = [offset for offset, _ in ordered], [event for _, event in ordered]


def by_day(records: Sequence[FetchedRecord]) -> Iterator[Sequence[FetchedRecord]]:
    """Yield the records in parts of one day each, by their timestamps: nearly always all of them."""
    first, last = records[0].timestamp, records[-1].timestamp
    if first // _DAY_MS == last // _DAY_MS:
        yield records
        return
    for _, part in groupby(records, lambda record: record.timestamp // _DAY_MS):
        yield list(part)


def decode(
    decoder: Decoder,
    partition: TopicPartition,
    records: Sequence[FetchedRecord],
    topics: groups.Topics,
    arrived_by: datetime,
) -> EventsOfPartition:
    """Decode consecutive records of a partition; malformed ones are left out, since the worker dead-letters them."""
    timestamps = [record.timestamp for record in records]
    span = Span(min(timestamps), max(timestamps))
    found = EventsOfPartition(partition, records[-1].offset + 1, span, arrived_by, len(records))
    now = datetime.now(UTC) + decoder.ahead
    if partition.topic == topics.workflow_exit:
        _take_exits(found, decoder, records)
    elif partition.topic == topics.redrive:
        for record in records:
            _take_redriven(found, decoder, record, now)
    else:
        _take_all(found, decoder, records, now)
    decoder.without_time.clear()  # the worker counts them
    return found


def _take_exits(found: EventsOfPartition, decoder: Decoder, records: Sequence[FetchedRecord]) -> None:
    exits, found.outcomes = published_exits.read(records)
    found.exits = [each for each in exits if not decoder.is_foreign(each.tenant_id)]
    if foreign := len(exits) - len(found.exits):
        found.outcomes[FOREIGN_TENANT] += foreign


def _take_all(found: EventsOfPartition, decoder: Decoder, records: Sequence[FetchedRecord], now: datetime) -> None:
    topic, number = found.partition.topic, found.partition.partition
    taken, left, skipped = decoder.fast(topic)(records, decoder.latest(now), ANY_WANTED)
    found.offsets, found.decoded = [record.offset for record, _ in taken], [event for _, event in taken]
    if skipped:
        found.outcomes.update([_skipped_as(outcome) for _, outcome in skipped])
    for record in left:
        _take(found, record, decoder.decode_left(topic, record, now, (number, record.offset)))
    if left:
        found.sort()


def _take_redriven(found: EventsOfPartition, decoder: Decoder, record: FetchedRecord, now: datetime) -> None:
    topic = dead_letters.original_topic(record.headers)
    if topic is None or not decoder.knows(topic):
        found.outcomes["malformed" if record.value is not None else "tombstone"] += 1
        return
    _take(found, record, decoder.decode_record(topic, record, now, dead_letters.original_place(record.headers)))


def _take(found: EventsOfPartition, record: FetchedRecord, outcome: object) -> None:
    if isinstance(outcome, events.Event) and not isinstance(record, OversizedRecord):
        if outcome.type in events.LIFECYCLE_TYPES:  # redriven, and of no interest here
            found.outcomes["skipped"] += 1
        else:
            found.add(record.offset, outcome)
    elif outcome is None:
        found.outcomes["tombstone"] += 1
    else:
        found.outcomes[_skipped_as(outcome) if isinstance(outcome, Skipped) else "malformed"] += 1


def _skipped_as(skipped: Skipped) -> str:
    return FOREIGN_TENANT if skipped.outcome == FOREIGN_TENANT else "skipped"
