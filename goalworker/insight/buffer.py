"""Events and counts that wait to be written together, and the rows that are made of them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from aiokafka import TopicPartition

from goalworker.domain import events, facts, seen_values
from goalworker.insight.fetched_events import EventsOfPartition
from goalworker.stores import history_writing
from goalworker.stores.seen_values import KEPT, Count

# Values of a field of a tenant that one transaction counts, at most; of more, the most frequent ones.
VALUES_MAX: Final = 5_000

IsKept = Callable[[facts.PersonKey], bool]


class Buffer:
    """Decoded events in the order in which they were read."""

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch
        """The consumer's epoch in which they were read: their offsets are committed in no other."""
        self._parts: list[EventsOfPartition] = []
        self.records = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, part: EventsOfPartition) -> None:
        """Append the next events of a partition."""
        self._parts.append(part)
        self.records += part.records

    def contacts(self) -> set[facts.PersonKey]:
        """Return the contacts of the events."""
        return {(event.tenant_id, event.data.contact_id) for part in self._parts for _, event in part.events}  # type: ignore[union-attr]

    @property
    def oldest(self) -> datetime:
        """The least timestamp of the records."""
        return _moment(min(part.span.first_ms for part in self._parts))

    @property
    def newest(self) -> datetime:
        """The greatest timestamp of the records."""
        return _moment(max(part.span.last_ms for part in self._parts))

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
            for part in self._parts
            for offset, event in part.events
            if is_kept((event.tenant_id, event.data.contact_id))  # type: ignore[union-attr]
        ]

    def outcomes(self, kept: Collection[tuple[Any, ...]]) -> Counter[tuple[str, str]]:
        """Return the number of records by topic and outcome; kept are the rows that were written."""
        found: Counter[tuple[str, str]] = Counter()
        for part in self._parts:
            topic = part.partition.topic
            for outcome, number in part.outcomes.items():
                found[topic, outcome] += number
            found[topic, "left_out"] += len(part.events)
        written = Counter(row[_TOPIC] for row in kept)
        for topic, number in written.items():
            found[topic, "kept"] += number
            found[topic, "left_out"] -= number
        return found

    def counts(self, now: datetime) -> list[Count]:
        """Return the counts of values by day; a record dated after now, or too long before, counts as of that bound."""
        merged: dict[tuple[date, seen_values.SeenKey], list[Any]] = {}
        for part in self._parts:
            first, last = (_within(_moment(ms), now) for ms in part.span)
            day = last.date()
            for key, number in part.counts.items():
                known = merged.get((day, key))
                if known is None:
                    merged[day, key] = [number, part.labels.get(key), first, last]
                else:
                    known[0] += number
                    known[1] = part.labels.get(key, known[1])
                    known[2], known[3] = min(known[2], first), max(known[3], last)
        return [
            Count(tenant_id, event_type, field, value, day, number, label, first, last)
            for (day, (tenant_id, event_type, field, value)), (number, label, first, last) in _frequent(merged)
        ]


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


def _frequent(merged: dict[Any, list[Any]]) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the counts, of a field with too many values only the most frequent ones."""
    sizes: Counter[tuple[Any, ...]] = Counter((day, *key[:3]) for day, key in merged)
    large = {field for field, size in sizes.items() if size > VALUES_MAX}
    if not large:
        yield from merged.items()
        return
    taken: Counter[tuple[Any, ...]] = Counter()
    for (day, key), rest in sorted(merged.items(), key=lambda item: -item[1][0]):
        field = (day, *key[:3])
        taken[field] += 1
        if field not in large or taken[field] <= VALUES_MAX:
            yield (day, key), rest


def _moment(timestamp_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=min(max(timestamp_ms, 0), _LAST_MS))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A producer may set any timestamp; one after the year 9000 counts as this one.
_LAST_MS: Final = 221_845_392_000_000
_KEPT: Final = KEPT - timedelta(days=1)


def _within(moment: datetime, now: datetime) -> datetime:
    return min(max(moment, now - _KEPT), now)
