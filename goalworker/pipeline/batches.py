"""Batches: one fetch each, decoded and matched, with the offsets that are committed after its phases."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Final, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from goalworker.decoding.decoder import Decoder, Malformed, Outcome
from goalworker.decoding.fast import ANY_WANTED, Wanted
from goalworker.decoding.record import FetchedRecord, OversizedRecord
from goalworker.decoding.skipping import FOREIGN_TENANT, Skipped
from goalworker.domain import events, facts
from goalworker.domain.cells import Cell
from goalworker.goal_index import index, matching
from goalworker.kafka.delivery import Delivery
from goalworker.pipeline import dead_letters

Item = tuple[TopicPartition, FetchedRecord, events.Event]
FetchedRecords = Mapping[TopicPartition, Sequence[FetchedRecord]]
RecordPosition = tuple[str, int, int]
"""(topic, partition, offset) of a record."""
SkippedRecord = tuple[TopicPartition, int, Skipped]
"""The partition and the offset of a record that is skipped, and why."""
WithoutTime = tuple[str, TopicPartition, list[int]]
"""The topic of the events, the partition that they were read from, and the offsets of those without a time."""

# Records that are decoded at a time: after each slice, other batches take their next step.
SLICE_RECORDS: Final = 250


@dataclass(slots=True)
class Batch:
    """Records on their way from fetch to commit; their offsets are committed only if the consumer's epoch is the same.

    Items are the events that a goal may match, reversals, and those of lifecycles. Other events are decoded again if
    goals change.
    """

    epoch: int
    revision: int
    decoder: Decoder
    fetched: FetchedRecords = field(default_factory=dict)
    size_bytes: int = 0
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    matched: list[Item] = field(default_factory=list)
    hits: list[facts.Hit] = field(default_factory=list)
    has_lifecycle: bool = False
    has_reversals: bool = False
    letters: list[dead_letters.DeadLetter] = field(default_factory=list)
    letters_sent: int = 0
    delivery: Delivery | None = None
    tombstones: Counter[str] = field(default_factory=Counter)
    skipped: list[SkippedRecord] = field(default_factory=list)
    timestamps: dict[str, Counter[int]] = field(default_factory=dict)
    without_time: list[WithoutTime] = field(default_factory=list)
    cell: Cell = field(init=False)
    """The cell whose records it has; once a tenant is moved, it is decoded again."""

    def __post_init__(self) -> None:
        self.cell = self.decoder.cell

    @property
    def records(self) -> int:
        """The number of records that were decoded."""
        return sum(counts.total() for counts in self.timestamps.values())

    @property
    def has_no_effects(self) -> bool:
        """True if there is neither a fact to record nor a dead letter to send, by the goals of the revision."""
        return not (self.hits or self.letters or self.has_lifecycle or self.has_reversals)

    def add(self, other: "Batch") -> None:
        """Append the next batch of the same epoch, so that both go through the phases together."""
        fetched = dict(self.fetched)
        for partition, records in other.fetched.items():
            fetched[partition] = [*fetched.get(partition, ()), *records]
        self.fetched = fetched
        self.size_bytes += other.size_bytes
        self.offsets |= other.offsets
        self.items += other.items
        self.matched += other.matched
        self.hits += other.hits
        self.has_lifecycle |= other.has_lifecycle
        self.has_reversals |= other.has_reversals
        self.letters += other.letters
        self.tombstones += other.tombstones
        self.skipped += other.skipped
        self.without_time += other.without_time
        for topic, counts in other.timestamps.items():
            self.timestamps.setdefault(topic, Counter()).update(counts)
        if self.revision != other.revision:
            self.revision = -1  # of two revisions: matched again when recorded
        if self.cell is not other.cell:
            self.cell = Cell()  # as of no cell: decoded again when recorded

    def match(self, goal_index: index.Index) -> None:
        """Find the hits by the goals as they are, also among events that no goal could match before."""
        if self.revision != goal_index.revision:
            _decode_unmatched(self, goal_index)
        self.revision = goal_index.revision
        if self.cell.handovers:
            _skip_handed_over(self)
        self._find_hits(goal_index)

    def decode_again(self, goal_index: index.Index, redrive_topic: str) -> None:
        """Decode the records for the cell as it is now: a tenant was moved after they were decoded."""
        fresh = Batch(self.epoch, goal_index.revision, self.decoder, self.fetched, self.size_bytes)
        for _ in decoding(fresh, goal_index, redrive_topic):
            pass
        fresh.letters_sent = self.letters_sent
        sent = self.letters[: self.letters_sent]
        are_sent = {position_of(letter.record) for letter in sent}
        fresh.letters = sent + [letter for letter in fresh.letters if position_of(letter.record) not in are_sent]
        for name in (each.name for each in fields(self)):
            setattr(self, name, getattr(fresh, name))

    def _find_hits(self, goal_index: index.Index) -> None:
        self.hits, self.matched = [], []
        for item in self.items:
            if found := matching.hits(item[2], goal_index):
                self.hits += found
                self.matched.append(item)

    def withhold(self, topic: str, position: int, goal_index: index.Index) -> dict[TopicPartition, int]:
        """Remove a topic's records from a position on, without decoding the others again.

        Return the offset at which each partition resumes that lost records.
        """
        self.fetched, resume_at = _split(self.fetched, topic, position)
        passing = [
            record for partition, records in self.fetched.items() if partition.topic == topic for record in records
        ]
        self.offsets = {partition: records[-1].offset + 1 for partition, records in self.fetched.items()}
        self.items = [item for item in self.items if _passes(resume_at, item[0], item[1].offset)]
        self.letters = [
            letter
            for letter in self.letters
            if _passes(resume_at, TopicPartition(letter.record.topic, letter.record.partition), letter.record.offset)
        ]
        self.skipped = [skipped for skipped in self.skipped if _passes(resume_at, *skipped[:2])]
        self.without_time = [
            (events_of, partition, [offset for offset in offsets if _passes(resume_at, partition, offset)])
            for events_of, partition, offsets in self.without_time
        ]
        self.tombstones[topic] = sum(record.value is None for record in passing)
        self.timestamps.pop(topic, None)
        if passing:
            self.timestamps[topic] = Counter(record.timestamp for record in passing)
        self.has_lifecycle = any(event.type in events.LIFECYCLE_TYPES for *_, event in self.items)
        self.has_reversals = any(event.type in events.REVERSAL_TYPES for *_, event in self.items)
        self._find_hits(goal_index)
        return resume_at

    def timestamps_of_hits(self, redrive_topic: str) -> dict[facts.EventKey, int]:
        """Return the timestamps of the records that hit a goal, in milliseconds, those of redriven records left out.

        A redriven record keeps its original timestamp, which says nothing about our latency.
        """
        return {
            facts.event_key(event): record.timestamp
            for partition, record, event in reversed(self.matched)  # the first of several repeats counts
            if partition.topic != redrive_topic
        }

    def forget_records(self) -> None:
        """Release the fetched records: after judgement nothing is matched again."""
        self.fetched = {}

    def refuse(self, refused: Collection[facts.EventKey], reason: str, sentence: str) -> None:
        """Turn events into dead letters, every copy of them."""
        self.letters += [
            dead_letters.letter(partition, record, reason, sentence, event.tenant_id)
            for partition, record, event in self.items
            if facts.event_key(event) in refused
        ]
        self.items = without(refused, self.items)
        self.matched = without(refused, self.matched)
        self.hits = hits_without(refused, self.hits)

    def whole(self) -> "Part":
        """Return all events of the batch as one part."""
        return Part(self.revision, self.items, self.hits)


class Part(NamedTuple):
    """Events of a batch that are recorded in one transaction, with their hits by the goals of a revision."""

    revision: int
    items: list[Item]
    hits: list[facts.Hit]

    def halves(self, goal_index: index.Index) -> tuple["Part", "Part"]:
        """Return the two halves of the part."""
        middle = len(self.items) // 2
        return self._of(self.items[:middle], goal_index), self._of(self.items[middle:], goal_index)

    def _of(self, items: list[Item], goal_index: index.Index) -> "Part":
        return Part(self.revision, items, matching.all_hits((event for *_, event in items), goal_index))

    def without(self, refused: Collection[facts.EventKey]) -> "Part":
        """Return the part without these events."""
        return Part(self.revision, without(refused, self.items), hits_without(refused, self.hits))


def without(refused: Collection[facts.EventKey], items: Iterable[Item]) -> list[Item]:
    """Return the items whose events are not among the refused."""
    return [item for item in items if facts.event_key(item[2]) not in refused]


def hits_without(refused: Collection[facts.EventKey], hits: Iterable[facts.Hit]) -> list[facts.Hit]:
    """Return the hits of events that are not among the refused."""
    return [hit for hit in hits if (hit.tenant_id, hit.trigger.source, hit.trigger.id) not in refused]


def decoding(batch: Batch, goal_index: index.Index, redrive_topic: str) -> Iterator[None]:
    """Decode the fetched records and match them, in steps of SLICE_RECORDS.

    Goals that change between two steps are noticed by their revision when the batch is recorded.
    """
    for partition, records in batch.fetched.items():
        for start in range(0, len(records), SLICE_RECORDS):
            _take_slice(batch, partition, records[start : start + SLICE_RECORDS], goal_index, redrive_topic)
            yield
        batch.offsets[partition] = records[-1].offset + 1
    batch.match(goal_index)


def _take_slice(
    batch: Batch,
    partition: TopicPartition,
    records: Sequence[FetchedRecord],
    goal_index: index.Index,
    redrive_topic: str,
) -> None:
    now = datetime.now(UTC) + batch.decoder.ahead
    if partition.topic == redrive_topic:
        for record in records:
            _take_redriven(batch, partition, record, now)
    else:
        _take_all(batch, partition, records, now, _wanted(goal_index))
    batch.without_time += [(topic, partition, offsets) for topic, offsets in batch.decoder.without_time.items()]
    batch.decoder.without_time.clear()
    batch.timestamps.setdefault(partition.topic, Counter()).update([record.timestamp for record in records])


def _wanted(goal_index: index.Index) -> Wanted:
    return {**ANY_WANTED, **{kind: goal_index.finder(kind) for kind in events.GOAL_EVENT_TYPES}}


# The latest permitted time of records that were decoded before: the clock was asked then.
ANY_TIME: Final = datetime(9000, 1, 1, tzinfo=UTC)


def _decode_unmatched(batch: Batch, goal_index: index.Index) -> None:
    """Add the events that were left out before and may match a goal now; skipped ones stay skipped."""
    taken = {_position(partition, record) for partition, record, _ in batch.items}
    taken |= {(*partition, offset) for partition, offset, _ in batch.skipped}
    taken |= {position_of(letter.record) for letter in batch.letters}
    wanted = _wanted(goal_index)
    for partition, records in batch.fetched.items():
        left_out = [r for r in records if r.value is not None and _position(partition, r) not in taken]
        if left_out and batch.decoder.knows(partition.topic):  # of redriven records, nothing is ever left out
            _take_all(batch, partition, left_out, ANY_TIME, wanted)
    batch.decoder.without_time.clear()  # these were counted the first time


def _skip_handed_over(batch: Batch) -> None:
    """Skip the records of tenants on the move that are the other cell's."""
    items, letters = batch.items, batch.letters
    batch.items, batch.letters = [], []
    for item in items:
        partition, record, event = item
        if _is_of_cell(batch, event.tenant_id, partition, record.offset):
            batch.items.append(item)
        else:
            batch.skipped.append((partition, record.offset, Skipped(FOREIGN_TENANT, event.type, event.tenant_id)))
    for letter in letters:
        partition = TopicPartition(letter.record.topic, letter.record.partition)
        tenant_id = letter.tenant_id or batch.decoder.tenant_of_key(letter.record.key)
        if tenant_id is None or _is_of_cell(batch, tenant_id, partition, letter.record.offset):
            batch.letters.append(letter)
        else:
            batch.skipped.append((partition, letter.record.offset, Skipped(FOREIGN_TENANT, "", tenant_id)))


def _is_of_cell(batch: Batch, tenant_id: str, partition: TopicPartition, offset: int) -> bool:
    handover = batch.cell.handovers.get(tenant_id)
    return handover is None or handover.has(partition, offset)


def _position(partition: TopicPartition, record: FetchedRecord) -> RecordPosition:
    return (partition.topic, partition.partition, record.offset)


def position_of(record: ConsumerRecord) -> RecordPosition:
    """Return the position of a record."""
    return (record.topic, record.partition, record.offset)


def _passes(resume_at: Mapping[TopicPartition, int], partition: TopicPartition, offset: int) -> bool:
    return partition not in resume_at or offset < resume_at[partition]


def _split(fetched: FetchedRecords, topic: str, position: int) -> tuple[FetchedRecords, dict[TopicPartition, int]]:
    rest: dict[TopicPartition, Sequence[FetchedRecord]] = {}
    resume_at: dict[TopicPartition, int] = {}
    for partition, records in fetched.items():
        if partition.topic != topic:
            rest[partition] = records
            continue
        passing = records[:position]
        position = max(position - len(records), 0)
        if passing:
            rest[partition] = passing
        if len(passing) < len(records):
            resume_at[partition] = records[len(passing)].offset
    return rest, resume_at


def _take_all(
    batch: Batch, partition: TopicPartition, records: Sequence[FetchedRecord], now: datetime, wanted: Wanted
) -> None:
    topic, before = partition.topic, len(batch.items)
    taken, left, skipped = batch.decoder.fast(topic)(records, batch.decoder.latest(now), wanted)
    batch.items += [(partition, record, event) for record, event in taken]
    batch.skipped += [(partition, record.offset, found) for record, found in skipped]
    # A topic carries either goal events with their reversals or lifecycle events.
    batch.has_lifecycle |= bool(taken) and taken[-1][1].type in events.LIFECYCLE_TYPES
    batch.has_reversals |= any(event.type in events.REVERSAL_TYPES for _, event in taken)
    for record in left:
        position = (partition.partition, record.offset)
        _take(batch, partition, record, batch.decoder.decode_left(topic, record, now, position))
    if left:  # back into their order: of two contradicting messages the first stands
        batch.items[before:] = sorted(batch.items[before:], key=lambda item: item[1].offset)


def _take_redriven(batch: Batch, partition: TopicPartition, record: FetchedRecord, now: datetime) -> None:
    topic = dead_letters.original_topic(record.headers)
    if record.value is None:
        batch.tombstones[partition.topic] += 1
    elif topic is None or not batch.decoder.knows(topic):
        sentence = f"has no header {dead_letters.ORIGINAL_TOPIC} that names a topic of ours"
        _take(batch, partition, record, batch.decoder.of_no_topic(record, Malformed("invalid_envelope", "", sentence)))
    else:
        position = dead_letters.original_place(record.headers)
        _take(batch, partition, record, batch.decoder.decode_record(topic, record, now, position))


def _take(batch: Batch, partition: TopicPartition, record: FetchedRecord, outcome: Outcome | None) -> None:
    if isinstance(outcome, Skipped):
        batch.skipped.append((partition, record.offset, outcome))
    elif isinstance(record, OversizedRecord):
        batch.letters.append(dead_letters.letter_without_value(partition, record))
    elif isinstance(outcome, events.Event):
        batch.items.append((partition, record, outcome))
        batch.has_lifecycle |= outcome.type in events.LIFECYCLE_TYPES
        batch.has_reversals |= outcome.type in events.REVERSAL_TYPES
    elif outcome is None:
        batch.tombstones[partition.topic] += 1
    else:
        sentence = f"{outcome.pointer}: {outcome.detail}" if outcome.pointer else outcome.detail
        batch.letters.append(dead_letters.letter(partition, record, outcome.reason, sentence, outcome.tenant_id))
