"""The flow: fetch → decode → match → facts → judge → publish → commit (design, The flow)."""

import asyncio
import time
from collections.abc import AsyncIterable
from typing import Final

import stamina
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import batch as batch_
from goalworker import breaker, database, dead_letters, decode, index, kafka, logs, metrics, phases, reader, tally
from goalworker import settings as settings_

log = logs.get("worker")

# Offsets of batches that recorded nothing are committed this often: each commit is a round trip (design, Batching).
QUIET_COMMIT_SECONDS: Final = 0.2
QUIET_RECORDS_MAX: Final = 20_000
IDLE_COMMIT_SECONDS: Final = 1.0
# Well within the group's patience, so that waiting for a database loses no partition (hazard 3).
POLL_SECONDS: Final = 2.0
# Less than rebalance_timeout_ms allows: then the partitions go, and their new owner replays (hazard 5).
FINISH_SECONDS: Final = 10.0


def is_later(error: Exception) -> bool:
    """Say whether the same batch is to be tried again: database or broker are away, or a race was lost."""
    return database.is_later(error) or kafka.is_later(error)


class Worker:
    """Takes batches through the phases, one after the other; with a backlog, the next is fetched meanwhile."""

    def __init__(
        self,
        settings: settings_.Settings,
        pool: AsyncEngine,
        sender: kafka.Sender,
        known: index.Index,
        decoder: decode.Decoder,
    ) -> None:
        self._settings = settings
        self._index = known
        self._decoder = decoder
        self._phases = phases.Phases(settings, pool, sender, known)
        self._work: asyncio.Task[None] | None = None
        self._held: batch_.Batch | None = None
        self._held_since = 0.0
        self._idle_since = 0.0
        self._last_letters: dict[str, dead_letters.DeadLetter] = {}
        self._accepted: set[batch_.Place] = set()
        self._stopping = False
        self.reader = reader.Reader(settings, self._finish_work)
        self.pauses = breaker.Pauses(pool, settings.dead_letters.max_ratio, settings.dead_letters.window)

    def stop(self) -> None:
        """Let run() finish the batch that is under way and return."""
        self._stopping = True

    async def run(self) -> None:
        """Work until stop(); what was fetched and not committed by then is read again."""
        ahead: batch_.Batch | None = None
        try:
            while not self._stopping:
                fetched = ahead or await self._fetch()
                ahead = None
                batch = await self._due(fetched)
                if batch is None:
                    continue
                self._work = asyncio.create_task(self._through_phases(batch))
                if fetched.records >= self._settings.batch.max_records:
                    ahead = await self._fetch()
                await self._wait()
            if self._held is not None:
                await self._through_phases(self._held)
        finally:
            if self._work is not None:
                self._work.cancel()
            await self.reader.close()

    # --- fetch, decode, match ---

    async def _fetch(self) -> batch_.Batch:
        self.reader.wait_for(self.pauses.topics)
        limits = self._settings.batch
        async for attempt in _until_it_works():
            with attempt:
                fetched = await self.reader.fetch(limits.max_records, limits.max_wait_ms)
        return self._decode(fetched)

    def _decode(self, fetched: batch_.Fetched) -> batch_.Batch:
        redrive = self._settings.topics.redrive
        with metrics.batch_duration_seconds.labels(stage="decode").time():
            batch = batch_.of_records(fetched, self._decoder, self._index, redrive, self.reader.epoch)
        for topic, count in self._decoder.without_time.items():
            metrics.events_without_time_total.labels(topic=topic).inc(count)
        self._decoder.without_time.clear()
        return batch

    async def _due(self, fetched: batch_.Batch) -> batch_.Batch | None:
        """Return what is to go through the phases now; batches that record nothing wait a little for each other."""
        now = time.monotonic()
        if self._held is not None and self._held.epoch != self.reader.epoch:
            self._held = None  # given away in the meantime: their new owner reads them again
        batch = await self._admitted(fetched) if fetched.epoch == self.reader.epoch and fetched.records else None
        quiet = batch is None or batch.is_quiet
        if batch is not None and self._held is not None:
            self._held.add(batch)
        elif batch is not None:
            self._held, self._held_since = batch, now
        if self._held is None:
            await self._idle(now)
            return None
        waited = now - self._held_since >= QUIET_COMMIT_SECONDS or self._held.records >= QUIET_RECORDS_MAX
        if quiet and not waited:
            return None
        due, self._held = self._held, None
        return due

    async def _idle(self, now: float) -> None:
        if now - self._idle_since >= IDLE_COMMIT_SECONDS:
            self._idle_since = now
            await self.reader.commit_idle()

    async def _admitted(self, batch: batch_.Batch) -> batch_.Batch:
        """Let the breakers look at each topic; what they withhold stays uncommitted (contract section 4)."""
        for topic in list(batch.timestamps):
            position = await self._first_withheld(batch, topic)
            if position is None:
                continue
            rest, resume_at = batch_.withhold(batch.fetched, topic, position)
            self.reader.wait_for(self.pauses.topics)
            self.reader.rewind(resume_at)
            batch = self._decode(rest)
        return batch

    async def _first_withheld(self, batch: batch_.Batch, topic: str) -> int | None:
        """Return the position of a topic's first record that may not pass: its topic is paused then."""
        if topic in self.pauses.topics:
            return 0  # since it was fetched
        is_dead = batch_.dead_in_order(batch, topic)
        accepted = await self.pauses.accept(topic, len(is_dead))
        if accepted:
            self._accepted.update(batch_.places(batch, topic)[:accepted])
        found = self.pauses.admit(topic, is_dead[accepted:])
        position = None if found is None else accepted + found
        last = len(is_dead) - 1 if position is None else position
        if any(is_dead) and (letter := batch_.last_letter(batch, topic, last)):
            self._last_letters[topic] = letter
        if position is not None:
            # A good record may pause its topic too: the one that fills the window.
            await self._pause(topic, self._last_letters[topic])
        return position

    async def _count_late(self, batch: batch_.Batch) -> None:
        """Count for the breakers what only the database refused: a topic is paused from its next records on then."""
        late: dict[str, list[dead_letters.DeadLetter]] = {}
        for letter in batch.letters:
            if letter.reason in phases.FOUND_LATE and batch_.place_of(letter.record) not in self._accepted:
                late.setdefault(letter.record.topic, []).append(letter)
        self._accepted.clear()
        for topic, letters in late.items():
            self._last_letters[topic] = letters[-1]
            if self.pauses.condemn(topic, len(letters)):
                await self._pause(topic, letters[-1])

    async def _pause(self, topic: str, letter: dead_letters.DeadLetter) -> None:
        sample = breaker.Sample(letter.reason, letter.record.partition, letter.record.offset)
        await self.pauses.pause(topic, sample)
        log.error(
            "topic_paused",
            topic=topic,
            partition=sample.partition,
            offset=sample.offset,
            reason=sample.reason,
            remedy=f"fix what sends to it, then: goalworker topics resume {topic}",
        )

    # --- facts, judge, publish; commit ---

    async def _through_phases(self, batch: batch_.Batch) -> None:
        async for attempt in _until_it_works():
            with attempt:
                await self._phases.run(batch)
        await self._count_late(batch)
        # Commit after all else: a crash in between replays, and a replay is harmless.
        async for attempt in _until_it_works():
            with attempt, metrics.batch_duration_seconds.labels(stage="commit").time():
                await self.reader.commit(batch.epoch, batch.offsets)
        tally.count(batch, tracking=self._settings.enrollments.tracking)
        log.debug("batch", records=batch.records, hits=len(batch.hits), dead_letters=len(batch.letters))

    async def _wait(self) -> None:
        """Wait for the batch under way, and show the group meanwhile that we live."""
        while self._work is not None:
            await asyncio.wait({self._work}, timeout=POLL_SECONDS)
            if self._work.done():
                work, self._work = self._work, None
                return await work
            await self.reader.keep_polling()
        return None

    async def _finish_work(self) -> None:
        if self._work is not None:
            await asyncio.wait({self._work}, timeout=FINISH_SECONDS)


def _until_it_works() -> AsyncIterable[stamina.Attempt]:
    return stamina.retry_context(on=is_later, attempts=None, timeout=None, wait_initial=0.1, wait_max=15.0)
