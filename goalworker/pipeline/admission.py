"""Admission of records, topic by topic: circuit breakers decide what may pass (contract section 4)."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from aiokafka import TopicPartition

from goalworker import log_repeats, logs
from goalworker.decoding.record import FetchedRecord
from goalworker.goal_index import index
from goalworker.kafka.consumer import Consumer
from goalworker.pipeline import dead_letters, phases, waiting
from goalworker.pipeline.batches import Batch, FetchedRecords, RecordPosition, position_of
from goalworker.pipeline.breaker import Tenant
from goalworker.pipeline.fetched_order import covered, foreign_places, letters_in_order, positions, records_by_topic
from goalworker.pipeline.paused_topics import PausedTopics, PauseTrigger

log = logs.get("worker")

# Seconds between two looks for the tenants most of whose records in a topic are dead letters: each may have to decode a
# window of good records again.
LOOK_SECONDS: Final = 60.0
# Seconds after which a tenant may be named again, and the most tenants that are named meanwhile.
NAMED_SECONDS: Final = 3_600.0
NAMED_MAX: Final = 1_000


class Admission:
    """Withholds the records of paused topics, and pauses a topic when too many of its records are dead letters.

    Withheld records stay uncommitted, and are read again when their topic resumes.
    """

    def __init__(self, consumer: Consumer, paused_topics: PausedTopics, goal_index: index.Index) -> None:
        self._consumer = consumer
        self._paused_topics = paused_topics
        self._index = goal_index
        self._last_letters: dict[str, dead_letters.DeadLetter] = {}
        self._accepted: set[RecordPosition] = set()
        self._looked_at: dict[str, float] = {}
        self._named = log_repeats.RepeatLimiter(window_seconds=NAMED_SECONDS, shapes_max=NAMED_MAX)

    def hold_back_paused(self) -> None:
        """Stop fetching from the topics that are paused now, and fetch again from those that are not."""
        self._consumer.pause_topics(self._paused_topics.topics)

    def without_paused(self, fetched: FetchedRecords) -> FetchedRecords:
        """Leave out, before they are decoded, the records of topics that were paused during the fetch."""
        paused = self._paused_topics.topics
        resume_at = {
            partition: records[0].offset for partition, records in fetched.items() if partition.topic in paused
        }
        if not resume_at:
            return fetched
        self._withhold(resume_at)
        return {partition: records for partition, records in fetched.items() if partition not in resume_at}

    async def admit(self, batch: Batch) -> Batch | None:
        """Withhold what may not pass, and return the rest.

        Return None if the partitions were reassigned meanwhile: their new owner reads the records again.
        """
        for topic, records in records_by_topic(batch).items():
            position = await self._first_withheld(batch, topic, records)
            if batch.epoch != self._consumer.epoch:
                return None
            if position is not None:
                self._withhold(batch.withhold(topic, position, self._index))
        return batch

    async def count_late_letters(self, batch: Batch) -> None:
        """Count for the breakers the records that only the database refused; a topic pauses at its next records.

        Records that an operator accepted do not count.
        """
        late: dict[str, list[dead_letters.DeadLetter]] = {}
        for letter in batch.letters:
            if letter.reason in phases.FOUND_LATE and position_of(letter.record) not in self._accepted:
                late.setdefault(letter.record.topic, []).append(letter)
        self._accepted -= covered(batch, self._accepted)
        for topic, letters in late.items():
            self._last_letters[topic] = letters[-1]
            if self._paused_topics.condemn(topic, [letter.tenant_id for letter in letters]):
                await self._pause(topic, letters[-1])
            self._name_tenants(topic)

    def _withhold(self, resume_at: Mapping[TopicPartition, int]) -> None:
        self.hold_back_paused()
        self._consumer.rewind(resume_at)

    async def _first_withheld(self, batch: Batch, topic: str, records: Sequence[FetchedRecord]) -> int | None:
        """Return the position of a topic's first record that may not pass, and pause the topic there; None: all may."""
        if topic in self._paused_topics.topics:
            return 0  # paused after the fetch
        letters = letters_in_order(batch, topic)
        accepted = await self._accept(batch, topic, len(records))
        dead = {at - accepted: letter.tenant_id for at, letter in letters.items() if at >= accepted}
        counted = records[accepted:] if accepted else records
        if foreign := foreign_places(batch, topic):
            found = self._admit_own(batch, topic, counted, dead, {at - accepted for at in foreign})
        else:
            found = self._paused_topics.admit(topic, counted, dead, batch.size_bytes)
        position = None if found is None else accepted + found
        if passed := [letter for at, letter in letters.items() if position is None or at <= position]:
            self._last_letters[topic] = passed[-1]
            self._name_tenants(topic)
        if position is not None:
            # The record that fills the window may be a good one: the letter before it says why the topic pauses.
            await waiting.await_polling(self._pause(topic, self._last_letters[topic]), self._consumer)
        return position

    def _admit_own(
        self,
        batch: Batch,
        topic: str,
        records: Sequence[FetchedRecord],
        dead: Mapping[int, Tenant],
        foreign: Collection[int],
    ) -> int | None:
        """Admit records among which those at foreign places are other cells'.

        They do not count: of all records, ours may be few, and their share small if all of them were dead.
        """
        places = [place for place in range(len(records)) if place not in foreign]
        own = {number: dead[place] for number, place in enumerate(places) if place in dead}
        found = self._paused_topics.admit(topic, [records[place] for place in places], own, batch.size_bytes)
        return None if found is None else places[found]

    async def _accept(self, batch: Batch, topic: str, records: int) -> int:
        """Return how many of the next records pass whatever they are, as an operator asked."""
        if not self._paused_topics.is_accepting(topic):
            return 0
        accepted = await waiting.await_polling(self._paused_topics.accept(topic, records), self._consumer)
        self._accepted.update(positions(batch, topic)[:accepted])
        return accepted

    def _name_tenants(self, topic: str) -> None:
        """Log the tenants most of whose records in a topic are dead letters, each once an hour."""
        now = time.monotonic()
        if now - self._looked_at.get(topic, -LOOK_SECONDS) < LOOK_SECONDS:
            return
        for share in self._paused_topics.shares(topic):
            self._looked_at[topic] = now
            if share.tenant_id is not None and share.is_mostly_dead and self._is_named_now(share.tenant_id):
                log.warning(
                    "tenant_mostly_dead_letters",
                    topic=topic,
                    tenant_id=share.tenant_id,
                    dead_letters=share.dead_letters,
                    records=share.records,
                    remedy="have its sender corrected; goalworker dlq list --tenant TENANT says what is wrong",
                )

    def _is_named_now(self, tenant_id: str) -> bool:
        return self._named.admit("tenant", tenant_id) is not None

    async def _pause(self, topic: str, letter: dead_letters.DeadLetter) -> None:
        trigger = PauseTrigger(letter.reason, letter.record.partition, letter.record.offset)
        await self._paused_topics.pause(topic, trigger)
        log.error(
            "topic_paused",
            topic=topic,
            partition=trigger.partition,
            offset=trigger.offset,
            reason=trigger.reason,
            remedy=f"fix its senders, then: goalworker topics resume {topic}",
        )
