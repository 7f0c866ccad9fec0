"""Events and counts that wait to be written together, and the rows that are made of them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import compress
from operator import attrgetter
from typing import Any, Final

from aiokafka import TopicPartition

from goalworker.domain import events, facts
from goalworker.domain.seen_values import TAG_ADDED, TAG_ID, Counts, ValueOfTenant
from goalworker.insight.fetched_events import EventsOfPartition
from goalworker.stores import history_writing
from goalworker.stores.seen_values import KEPT, CountsOfField

# Values of a field of a tenant that one transaction counts, at most; of more, the most frequent ones.
VALUES_MAX: Final = 5_000

IsKept = Callable[[facts.PersonKey], bool]


@dataclass(slots=True)
class _Day:
    """The values of a day's records, and the least and the greatest time of these."""

    first: datetime
    last: datetime
    counts: Counts = field(default_factory=Counts)


class Buffer:
    """Decoded events in the order in which they were read."""

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch
        """The consumer's epoch in which they were read: their offsets are committed in no other."""
        self._parts: list[EventsOfPartition] = []
        self._contacts: list[list[facts.PersonKey]] = []  # of each event of each part
        self._days: dict[date, _Day] = {}
        self.records = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, part: EventsOfPartition, now: datetime) -> None:
        """Append the next events of a partition, and count their values.

        A record dated after now, or too long before, counts as of that bound.
        """
        self._parts.append(part)
        self._contacts.append(list(zip(map(_TENANT, part.decoded), map(_CONTACT, part.decoded), strict=True)))
        self.records += part.records
        first, last = (_within(_moment(ms), now) for ms in part.span)
        day = self._days.setdefault(last.date(), _Day(first, last))
        day.first, day.last = min(day.first, first), max(day.last, last)
        day.counts.add(part.decoded)

    def contacts(self) -> set[facts.PersonKey]:
        """Return the contacts of the events."""
        return set().union(*self._contacts)

    @property
    def oldest(self) -> datetime:
        """The least timestamp of the records of events."""
        return _moment(min(part.span.first_ms for part in self._parts if part.decoded))

    @property
    def arrived_by(self) -> datetime:
        """The time by which all of the records had reached Kafka."""
        return max(part.arrived_by for part in self._parts)

    def moves(self, stored: Mapping[TopicPartition, int]) -> list[history_writing.Move]:
        """Return the steps of the partitions from their stored positions."""
        ends = {part.partition: part.next_offset for part in self._parts}
        first_ms: dict[TopicPartition, int] = {}
        for part in self._parts:
            first_ms[part.partition] = min(part.span.first_ms, first_ms.get(part.partition, part.span.first_ms))
        return [
            history_writing.Move(partition, stored[partition], end, _moment(first_ms[partition]))
            for partition, end in ends.items()
        ]

    def rows(self, is_kept: IsKept) -> list[tuple[Any, ...]]:
        """Return the rows of the events of contacts that are kept, in the order of the partitions' offsets."""
        return [
            _row(event, part.partition, offset)
            for part, contacts in zip(self._parts, self._contacts, strict=True)
            for offset, event in compress(zip(part.offsets, part.decoded, strict=True), map(is_kept, contacts))
        ]

    def exits(self) -> list[tuple[Any, ...]]:
        """Return the columns of history_exits without the day, of every exit."""
        return [(one.tenant_id, one.exit_id, _moment(one.timestamp_ms)) for part in self._parts for one in part.exits]

    def outcomes(self, kept: Collection[tuple[Any, ...]], *, keeps_exits: bool) -> Counter[tuple[str, str]]:
        """Return the number of records by topic and outcome; kept are the rows of events that were written."""
        found: Counter[tuple[str, str]] = Counter()
        for part in self._parts:
            topic = part.partition.topic
            for outcome, number in part.outcomes.items():
                found[topic, outcome] += number
            found[topic, "left_out"] += len(part.decoded)
            found[topic, "kept" if keeps_exits else "left_out"] += len(part.exits)
        written = Counter(row[_TOPIC] for row in kept)
        for topic, number in written.items():
            found[topic, "kept"] += number
            found[topic, "left_out"] -= number
        return found

    def counts(self) -> Iterator[CountsOfField]:
        """Yield the counts of values by day and field."""
        for date_, day in self._days.items():
            for (event_type, name), numbers in day.counts.by_field():
                labels = day.counts.labels if (event_type, name) == _TAG else {}
                yield CountsOfField(event_type, name, date_, day.first, day.last, _frequent(numbers), labels)


_TENANT: Final = attrgetter("tenant_id")
_CONTACT: Final = attrgetter("data.contact_id")
_TAG: Final = (TAG_ADDED, TAG_ID)
_TOPIC: Final = 7


def _row(event: events.Event, partition: TopicPartition, offset: int) -> tuple[Any, ...]:
    """Return the columns of history_events without the day."""
    trigger = facts.trigger_of(event)
    return (
        event.tenant_id,
        event.data.contact_id,  # type: ignore[union-attr]
        event.source,
        event.id,
        event.type,
        event.time,
        trigger.data.decode(),
        partition.topic,
        partition.partition,
        offset,
    )


def _frequent(numbers: Mapping[ValueOfTenant, int]) -> Mapping[ValueOfTenant, int]:
    """Return the counts of a field, of a tenant with too many values only the most frequent ones."""
    sizes = Counter(tenant_id for tenant_id, _ in numbers) if len(numbers) > VALUES_MAX else {}
    if all(size <= VALUES_MAX for size in sizes.values()):
        return numbers
    taken: Counter[str] = Counter()
    found = {}
    for key, number in sorted(numbers.items(), key=lambda item: -item[1]):
        taken[key[0]] += 1
        if taken[key[0]] <= VALUES_MAX:
            found[key] = number
    return found


def _moment(timestamp_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=min(max(timestamp_ms, 0), _LAST_MS))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A producer may set any timestamp; one after the year 9000 counts as this one.
_LAST_MS: Final = 221_845_392_000_000
_KEPT: Final = KEPT - timedelta(days=1)


def _within(moment: datetime, now: datetime) -> datetime:
    return min(max(moment, now - _KEPT), now)
