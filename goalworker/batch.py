"""One fetch, decoded and matched: what travels through the phases together, with the offsets to commit after it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiokafka import ConsumerRecord, TopicPartition

from goalworker import dead_letters, decode, events, index, match

Item = tuple[ConsumerRecord, events.Event]
Fetched = Mapping[TopicPartition, Sequence[ConsumerRecord]]
Identity = tuple[str, str, str]
Place = tuple[str, int, int]
"""(topic, partition, offset) of a record."""


@dataclass(slots=True)
class Batch:
    """Records on their way from fetch to commit; epoch tells whether their partitions are still ours."""

    epoch: int
    revision: int
    fetched: Fetched = field(default_factory=dict)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    hits: list[events.Hit] = field(default_factory=list)
    has_lifecycle: bool = False
    letters: list[dead_letters.DeadLetter] = field(default_factory=list)
    letters_sent: int = 0
    tombstones: Counter[str] = field(default_factory=Counter)
    timestamps: dict[str, Counter[int]] = field(default_factory=dict)
    new_facts: set[Identity] = field(default_factory=set)
    new_enrollments: set[tuple[str, str]] = field(default_factory=set)

    @property
    def records(self) -> int:
        """How many records were fetched."""
        return len(self.items) + len(self.letters) + self.tombstones.total()

    @property
    def is_quiet(self) -> bool:
        """Nothing to record and nothing to dead-letter, as far as the goals known are concerned."""
        return not (self.hits or self.letters or self.has_lifecycle)

    def add(self, other: "Batch") -> None:
        """Take in the next batch of the same epoch, to go through the phases together."""
        self.fetched = {}
        self.offsets |= other.offsets
        self.items += other.items
        self.hits += other.hits
        self.has_lifecycle |= other.has_lifecycle
        self.letters += other.letters
        self.tombstones += other.tombstones
        for topic, counts in other.timestamps.items():
            self.timestamps.setdefault(topic, Counter()).update(counts)
        if self.revision != other.revision:
            self.revision = -1  # of no one revision: matched again under the lock

    def rematch(self, known: index.Index) -> None:
        """Match again, because the goals have changed."""
        self.hits = hits_of(self.items, known)
        self.revision = known.revision

    def drop(self, identity: Identity) -> None:
        """Leave an event out: it is a dead letter now."""
        self.items = [
            (record, event) for record, event in self.items if (event.tenant_id, event.source, event.id) != identity
        ]
        self.hits = [hit for hit in self.hits if (hit.tenant_id, hit.trigger.source, hit.trigger.id) != identity]


def of_records(fetched: Fetched, decoder: decode.Decoder, known: index.Index, redrive_topic: str, epoch: int) -> Batch:
    """Decode the records of a fetch and match them against the goals known."""
    batch = Batch(epoch, known.revision, fetched)
    now = datetime.now(UTC)
    for partition, records in fetched.items():
        for record in records:
            _take(batch, record, decoder, redrive_topic, now)
        batch.offsets[partition] = records[-1].offset + 1
        batch.timestamps.setdefault(partition.topic, Counter()).update([record.timestamp for record in records])
    batch.hits = hits_of(batch.items, known)
    return batch


def hits_of(items: Iterable[Item], known: index.Index) -> list[events.Hit]:
    """Return the hits of a batch's events."""
    return match.all_hits((event for _, event in items), known)


def dead_in_order(batch: Batch, topic: str) -> list[bool]:
    """Say of each record of a topic, in the order fetched, whether it is a dead letter."""
    dead = {(letter.record.partition, letter.record.offset) for letter in batch.letters if letter.record.topic == topic}
    if not dead:
        return [False] * batch.timestamps[topic].total()
    return [(record.partition, record.offset) in dead for record in _records_of(batch, topic)]


def places(batch: Batch, topic: str) -> list[Place]:
    """Return where each record of a topic is, in the order fetched."""
    return [place_of(record) for record in _records_of(batch, topic)]


def place_of(record: ConsumerRecord) -> Place:
    """Return where a record is."""
    return (record.topic, record.partition, record.offset)


def last_letter(batch: Batch, topic: str, position: int) -> dead_letters.DeadLetter | None:
    """Return the last dead letter among a topic's records up to a position, None where there is none."""
    letters = {
        (letter.record.partition, letter.record.offset): letter
        for letter in batch.letters
        if letter.record.topic == topic
    }
    places = [(record.partition, record.offset) for record in _records_of(batch, topic)[: position + 1]]
    return next((letters[place] for place in reversed(places) if place in letters), None)


def withhold(fetched: Fetched, topic: str, position: int) -> tuple[Fetched, dict[TopicPartition, int]]:
    """Take a topic's records from a position on out of a fetch; return the rest, and where to read on later."""
    rest: dict[TopicPartition, Sequence[ConsumerRecord]] = {}
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


def _records_of(batch: Batch, topic: str) -> list[ConsumerRecord]:
    return [record for partition, records in batch.fetched.items() if partition.topic == topic for record in records]


def _take(batch: Batch, record: ConsumerRecord, decoder: decode.Decoder, redrive_topic: str, now: datetime) -> None:
    if record.value is None:
        batch.tombstones[record.topic] += 1
        return
    topic = record.topic if record.topic != redrive_topic else dead_letters.original_topic(record)
    if topic is None or not decoder.knows(topic):
        sentence = f"has no header {dead_letters.ORIGINAL_TOPIC} that names a topic of ours"
        batch.letters.append(dead_letters.DeadLetter(record, "invalid_envelope", sentence))
        return
    outcome = decoder.decode(topic, record.value, record.headers, record.timestamp, now)
    if isinstance(outcome, events.Event):
        batch.items.append((record, outcome))
        batch.has_lifecycle |= outcome.type in events.LIFECYCLE_TYPES
    elif outcome is not None:
        sentence = f"{outcome.pointer}: {outcome.detail}" if outcome.pointer else outcome.detail
        batch.letters.append(dead_letters.DeadLetter(record, outcome.reason, sentence))
