"""The flow: fetch → decode → match → facts → judge → publish → commit (design, The flow)."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import stamina
from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config, logs, metrics
from goalworker.decoding.decoder import Decoder
from goalworker.goal_index import index
from goalworker.kafka import broker_errors, consumer
from goalworker.kafka.sender import Sender
from goalworker.pipeline import dead_letters, judgements, outcomes, paused_topics, phases
from goalworker.pipeline.batches import (
    SLICE_RECORDS,
    Batch,
    FetchedRecords,
    RecordPosition,
    covered,
    dead_in_order,
    decoding,
    last_letter,
    position_of,
    positions,
)
from goalworker.postgres import database_errors

log = logs.get("worker")

# Offsets of batches that recorded nothing are committed this often: each commit is a round trip (design, Batching).
DEFER_SECONDS: Final = 0.2
DEFER_RECORDS_MAX: Final = 20_000
DEFER_BYTES_MAX: Final = 16 * 1024 * 1024
IDLE_COMMIT_SECONDS: Final = 1.0
# Well within the group's patience, so that waiting for a database loses no partition (hazard 3).
POLL_SECONDS: Final = 2.0
# One computes while others wait for the database: more would not help, and would take the pool's last connection.
IN_FLIGHT_MAX: Final = 3
# No other batch begins, and none waits to be published with others, while those under way hold so many bytes.
IN_FLIGHT_BYTES: Final = 16 * 1024 * 1024
# What is told at once, at most: so many batches, and no more once there are so many messages.
PUBLISH_BATCHES_MAX: Final = 8
PUBLISH_MESSAGES: Final = 1_000
PUBLISH_WAIT_SECONDS: Final = 0.05
# Less than rebalance_timeout_ms allows: then the partitions go, and their new owner replays (hazard 5).
FINISH_SECONDS: Final = 10.0


def is_transient(error: Exception) -> bool:
    """Say whether the same batch is to be tried again: database or broker are away, or a race was lost."""
    return database_errors.is_unavailable(error) or broker_errors.is_transient(error)


_T = TypeVar("_T")


class Unpublished(NamedTuple):
    """A batch with what is to be told of it."""

    batch: Batch
    written: list[judgements.Written]


class InFlight(NamedTuple):
    """What becomes of a batch, step by step; it is recorded, and told, when those before it are.

    Judgements need no order: they take turns where they are about the same enrollment (design, The flow). Telling
    returns what is left to the next batch to tell.
    """

    size_bytes: int
    recording: asyncio.Task[None]
    judging: asyncio.Task[list[judgements.Written]]
    publishing: asyncio.Task[list[Unpublished]]

    @property
    def tasks(self) -> tuple[asyncio.Task[Any], ...]:
        return (self.recording, self.judging, self.publishing)


class Worker:
    """Takes batches through the phases: with a backlog, one is recorded while others are judged or told."""

    def __init__(
        self,
        settings: config.Settings,
        pool: AsyncEngine,
        sender: Sender,
        goal_index: index.Index,
        decoder: Decoder,
    ) -> None:
        self._settings = settings
        self._index = goal_index
        self._decoder = decoder
        self._phases = phases.Phases(settings, pool, sender, goal_index)
        self.claim_unpublished = self._phases.claim
        self._in_flight: deque[InFlight] = deque()
        self._in_flight_max = min(IN_FLIGHT_MAX, max(settings.database.pool_size - 1, 1))
        self._deferred: Batch | None = None
        self._deferred_since = 0.0
        self._idle_since = 0.0
        self._last_letters: dict[str, dead_letters.DeadLetter] = {}
        self._accepted: set[RecordPosition] = set()
        self._stopping = False
        self._is_finishing = False
        self.consumer = consumer.Consumer(settings, self._finish_work)
        self.paused_topics = paused_topics.PausedTopics(
            pool, settings.dead_letters.max_ratio, settings.dead_letters.window
        )

    def stop(self) -> None:
        """Let run() finish what is under way and return."""
        self._stopping = True

    async def run(self) -> None:
        """Work until stop(); what was fetched and not committed by then is read again."""
        try:
            while not self._stopping:
                fetched = await self._fetch()
                # In order: of two messages that contradict each other the first stands, and breakers know the rest.
                await self._wait(_is_recorded)
                batch = await self._next_batch(fetched)
                if batch is not None:
                    self._begin(batch)
                # Without a backlog, fetching ahead would only make records wait longer.
                if fetched.records < self._settings.batch.max_records:
                    await self._wait(_is_judged)
            await self._wait(_is_recorded)
            if self._deferred is not None:
                self._begin(self._deferred)
            while self._in_flight:
                await self._in_flight[0].publishing
                self._in_flight.popleft()
        finally:
            tasks = [task for each in self._in_flight for task in each.tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.consumer.close()

    # --- fetch, decode, match ---

    async def _fetch(self) -> Batch:
        self.consumer.wait_for(self.paused_topics.topics)
        limits = self._settings.batch
        fetched = await _retry_transient(lambda: self.consumer.fetch(limits.max_records, limits.max_wait_ms))
        batch = await self._decode(fetched, self.consumer.epoch)
        batch.size_bytes = self.consumer.fetched_bytes
        return batch

    async def _decode(self, fetched: FetchedRecords, epoch: int) -> Batch:
        """Decode step by step: in between, what is under way takes its next step."""
        batch, seconds = Batch(epoch, self._index.revision, self._decoder, fetched), 0.0
        is_long = sum(map(len, fetched.values())) > SLICE_RECORDS
        began = time.perf_counter()
        for _ in decoding(batch, self._index, self._settings.topics.redrive):
            seconds += time.perf_counter() - began
            if is_long:
                await asyncio.sleep(0)
            began = time.perf_counter()
        seconds += time.perf_counter() - began
        metrics.batch_duration_seconds.labels(stage="decode").observe(seconds)
        return batch

    async def _next_batch(self, fetched: Batch) -> Batch | None:
        """Return what is to go through the phases now; batches that record nothing wait a little for each other."""
        now = time.monotonic()
        if self._deferred is not None and self._deferred.epoch != self.consumer.epoch:
            self._deferred = None  # given away in the meantime: their new owner reads them again
        batch = await self._admitted(fetched) if fetched.epoch == self.consumer.epoch and fetched.records else None
        if self._deferred is not None and self._deferred.epoch != self.consumer.epoch:
            self._deferred = None  # reassigned while a breaker wrote to the database
        has_no_effects = batch is None or batch.has_no_effects
        if batch is not None and self._deferred is not None:
            self._deferred.add(batch)
        elif batch is not None:
            self._deferred, self._deferred_since = batch, now
        if self._deferred is None:
            if not self._in_flight:  # their positions are not theirs to keep yet
                await self._idle(now)
            return None
        is_full = self._deferred.records >= DEFER_RECORDS_MAX or self._deferred.size_bytes >= DEFER_BYTES_MAX
        waited = is_full or now - self._deferred_since >= DEFER_SECONDS
        if has_no_effects and not waited:
            return None
        batch_due, self._deferred = self._deferred, None
        return batch_due

    async def _idle(self, now: float) -> None:
        if now - self._idle_since >= IDLE_COMMIT_SECONDS:
            self._idle_since = now
            await self.consumer.commit_idle()

    async def _admitted(self, batch: Batch) -> Batch | None:
        """Apply the breakers topic by topic; withheld records stay uncommitted (contract section 4).

        Return None where the partitions were reassigned meanwhile: their new owner reads the records again.
        """
        for topic in list(batch.timestamps):
            position = await self._first_withheld(batch, topic)
            if batch.epoch != self.consumer.epoch:
                return None
            if position is not None:
                self.consumer.wait_for(self.paused_topics.topics)
                self.consumer.rewind(batch.withhold(topic, position, self._index))
        return batch

    async def _first_withheld(self, batch: Batch, topic: str) -> int | None:
        """Return the position of a topic's first record that may not pass: its topic is paused then."""
        if topic in self.paused_topics.topics:
            return 0  # since it was fetched
        is_dead = dead_in_order(batch, topic)
        accepted = 0
        if self.paused_topics.is_accepting(topic):
            accepted = await self._while_polling(self.paused_topics.accept(topic, len(is_dead)))
        if accepted:
            self._accepted.update(positions(batch, topic)[:accepted])
        found = self.paused_topics.admit(topic, is_dead[accepted:])
        position = None if found is None else accepted + found
        last = len(is_dead) - 1 if position is None else position
        if any(is_dead) and (letter := last_letter(batch, topic, last)):
            self._last_letters[topic] = letter
        if position is not None:
            # A good record may pause its topic too: the one that fills the window.
            await self._while_polling(self._pause(topic, self._last_letters[topic]))
        return position

    async def _while_polling(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await work that retries for as long as the database is away, and keep the group membership meanwhile."""
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=POLL_SECONDS))[0]:
                await self.consumer.keep_polling()
            return await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _count_late(self, batch: Batch) -> None:
        """Count for the breakers what only the database refused: a topic is paused from its next records on then."""
        late: dict[str, list[dead_letters.DeadLetter]] = {}
        for letter in batch.letters:
            if letter.reason in phases.FOUND_LATE and position_of(letter.record) not in self._accepted:
                late.setdefault(letter.record.topic, []).append(letter)
        self._accepted -= covered(batch, self._accepted)
        for topic, letters in late.items():
            self._last_letters[topic] = letters[-1]
            if self.paused_topics.condemn(topic, len(letters)):
                await self._pause(topic, letters[-1])

    async def _pause(self, topic: str, letter: dead_letters.DeadLetter) -> None:
        sample = paused_topics.PauseTrigger(letter.reason, letter.record.partition, letter.record.offset)
        await self.paused_topics.pause(topic, sample)
        log.error(
            "topic_paused",
            topic=topic,
            partition=sample.partition,
            offset=sample.offset,
            reason=sample.reason,
            remedy=f"fix what sends to it, then: goalworker topics resume {topic}",
        )

    # --- facts, judge; publish, commit ---

    def _begin(self, batch: Batch) -> None:
        before = self._in_flight[-1] if self._in_flight else None
        recording = asyncio.create_task(self._record(batch))
        judging = asyncio.create_task(self._judge(batch, recording))
        publishing = asyncio.create_task(self._publish(batch, judging, before and before.publishing))
        self._in_flight.append(InFlight(batch.size_bytes, recording, judging, publishing))

    async def _record(self, batch: Batch) -> None:
        await _retry_transient(lambda: self._phases.record(batch))
        await self._count_late(batch)

    async def _judge(self, batch: Batch, recording: asyncio.Task[None]) -> list[judgements.Written]:
        await recording
        written: list[judgements.Written] = []  # of every attempt: what was committed before one failed is told too
        try:
            await self._phases.judge(batch, written)
        except Exception as error:
            if not is_transient(error):
                raise
            await _retry_transient(lambda: self._judge_again(batch, written), error)
        batch.forget_records()
        return written

    async def _judge_again(self, batch: Batch, written: list[judgements.Written]) -> None:
        # A retry begins at facts: whoever took over the database may lack them.
        await self._phases.record(batch)
        await self._phases.judge(batch, written)

    async def _publish(
        self,
        batch: Batch,
        judging: asyncio.Task[list[judgements.Written]],
        before: asyncio.Task[list[Unpublished]] | None,
    ) -> list[Unpublished]:
        written = await judging
        unpublished = [*(await before if before is not None else ()), Unpublished(batch, written)]
        # With a backlog, several are told at once: each publishing takes the broker three requests, whatever is in it.
        may_wait = (
            len(unpublished) < PUBLISH_BATCHES_MAX
            and _messages(unpublished) < PUBLISH_MESSAGES
            and not self._is_finishing
        )
        may_wait = may_wait and _size(each.batch for each in unpublished) < IN_FLIGHT_BYTES
        if may_wait and await self._next_is_judged(judging):
            return unpublished
        await self._publish_all(unpublished)
        return []

    async def _next_is_judged(self, judging: asyncio.Task[list[judgements.Written]]) -> bool:
        of_all = [each.judging for each in self._in_flight]
        following = of_all[of_all.index(judging) + 1 :][:1]
        if not following:
            return False
        done, _ = await asyncio.wait(following, timeout=PUBLISH_WAIT_SECONDS)
        return bool(done)

    async def _publish_all(self, judged: Sequence[Unpublished]) -> None:
        written = [each for _, of_batch in judged for each in of_batch]
        await _retry_transient(lambda: self._phases.publish(written))
        # Commit after all else: a crash in between replays, and a replay is harmless.
        epoch = judged[-1].batch.epoch
        offsets: dict[TopicPartition, int] = {}
        for batch, _ in judged:
            offsets |= batch.offsets if batch.epoch == epoch else {}
        with metrics.batch_duration_seconds.labels(stage="commit").time():
            await _retry_transient(lambda: self.consumer.commit(epoch, offsets))
        for batch, _ in judged:
            outcomes.count(batch, tracking=self._settings.enrollments.tracking)
            log.debug("batch", records=batch.records, hits=len(batch.hits), dead_letters=len(batch.letters))

    async def _wait(self, is_far_enough: Callable[[InFlight], bool]) -> None:
        """Wait until the last batch is far enough, and show the group meanwhile that we live."""
        while True:
            for task in [task for each in self._in_flight for task in each.tasks if task.done()]:
                await task  # raises what went wrong, whatever the batches before it are waiting for
            while self._in_flight and self._in_flight[0].publishing.done():
                self._in_flight.popleft()
            if not self._in_flight:
                return
            has_room = len(self._in_flight) < self._in_flight_max and _size(self._in_flight) < IN_FLIGHT_BYTES
            if is_far_enough(self._in_flight[-1]) and has_room:
                return
            going_on = [task for each in self._in_flight for task in each.tasks if not task.done()]
            done, _ = await asyncio.wait(going_on, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                await self.consumer.keep_polling()

    async def _finish_work(self) -> None:
        self._is_finishing = True
        try:
            if self._in_flight:
                await asyncio.wait({each.publishing for each in self._in_flight}, timeout=FINISH_SECONDS)
        finally:
            self._is_finishing = False


def _size(batches: Iterable[InFlight | Batch]) -> int:
    return sum(each.size_bytes for each in batches)


def _is_recorded(batch: InFlight) -> bool:
    return batch.recording.done()


def _is_judged(batch: InFlight) -> bool:
    return batch.judging.done()


def _messages(judged: Iterable[Unpublished]) -> int:
    return sum(len(each.messages) for _, written in judged for each in written)


async def _retry_transient(work: Callable[[], Awaitable[_T]], failed: Exception | None = None) -> _T:
    """Do it, and again while what goes wrong is for later; the first time may have failed already."""
    if failed is None:
        try:
            return await work()  # nearly always: what counts attempts costs as much as a round trip
        except Exception as error:
            if not is_transient(error):
                raise
            failed = error
    async for attempt in stamina.retry_context(
        on=is_transient, attempts=None, timeout=None, wait_initial=0.1, wait_max=15.0
    ):
        with attempt:
            if attempt.num == 1:
                raise failed
            return await work()
    raise failed
