"""The worker's loop: fetch, decode, admit, and begin the next batch (design, The flow)."""

import asyncio
import time
from functools import partial
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config, metrics
from goalworker.decoding.decoder import Decoder
from goalworker.errors import UndecodableError
from goalworker.goal_index import index
from goalworker.kafka.consumer import Consumer
from goalworker.kafka.sender import Sender
from goalworker.pipeline import record_tenants
from goalworker.pipeline.admission import Admission
from goalworker.pipeline.batches import SLICE_RECORDS, Batch, FetchedRecords, decoding
from goalworker.pipeline.in_flight import IN_FLIGHT_MAX, InFlightBatches
from goalworker.pipeline.paused_topics import PausedTopics
from goalworker.pipeline.phases import Phases
from goalworker.pipeline.waiting import retry_transient

# Batches without effects are merged and committed together after this many seconds, records or bytes, whichever comes
# first, or along with the next batch that has effects: each commit is a round trip (design, Batching).
DEFER_SECONDS: Final = 0.2
DEFER_RECORDS_MAX: Final = 20_000
DEFER_BYTES_MAX: Final = 16 * 1024 * 1024
# Seconds between two fetches while a batch with effects waits for the one before it to be judged.
FETCH_SECONDS: Final = 0.004
# Seconds between two commits of positions that moved without a record: each may be a round trip.
IDLE_COMMIT_SECONDS: Final = 1.0


class Worker:
    """The loop that takes batches from the consumer through the phases; it fetches while others are in flight."""

    def __init__(
        self,
        settings: config.Settings,
        pool: AsyncEngine,
        sender: Sender,
        consumer: Consumer,
        goal_index: index.Index,
        decoder: Decoder,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._index = goal_index
        self._decoder = decoder
        limits = settings.dead_letters
        tenant_of = partial(record_tenants.tenant_of, decoder)
        self.paused_topics = PausedTopics(pool, limits.max_ratio, limits.window, tenant_of)
        self._admission = Admission(consumer, self.paused_topics, goal_index)
        phases = Phases(settings, pool, sender, goal_index, decoder)
        self.claim_unpublished = phases.claim
        self._in_flight = InFlightBatches(
            phases,
            consumer,
            self._admission.count_late_letters,
            batches_max=min(IN_FLIGHT_MAX, max(settings.database.pool_size - 1, 1)),
            tracking=settings.enrollments.tracking,
        )
        consumer.before_revoke = self._in_flight.finish
        self._deferred: Batch | None = None
        self._deferred_since = 0.0
        self._idle_since = 0.0
        self._is_stopping = False

    def stop(self) -> None:
        """Let run() finish what is in flight and return."""
        self._is_stopping = True

    async def run(self) -> None:
        """Work until stop(); records that were fetched and not committed by then are read again.

        Raises UndecodableError after all records before that batch are committed.
        """
        try:
            undecodable = await self._work()
            await self._in_flight.until_recorded()
            if self._deferred is not None:
                self._in_flight.begin(self._deferred, backlog=False)
            await self._in_flight.until_committed()
            if undecodable is not None:
                raise undecodable
        finally:
            await self._in_flight.cancel()
            await self._consumer.close()

    async def _work(self) -> UndecodableError | None:
        """Begin batches until stop(), or until records cannot be read; return that error, to be raised at the end."""
        while not self._is_stopping:
            await self._commit_idle(time.monotonic())
            room = self._room()
            try:
                fetched = await self._fetch(room)
            except UndecodableError as error:
                return error
            # Recorded in order: of two contradicting messages the first stands, and breakers count in order.
            await self._in_flight.until_recorded()
            await self._admit(fetched)
            await self._begin_or_wait(has_backlog=fetched.records >= room)
        return None

    def _room(self) -> int:
        """Return how many records to fetch: as many as the batch that waits has room for, or a whole batch."""
        waiting = self._waiting
        return self._settings.batch.max_records - (0 if waiting is None else waiting.records)

    @property
    def _waiting(self) -> Batch | None:
        """The batch with effects that waits for the one before it to be judged; it has room for more records."""
        return None if self._deferred is None or self._deferred.has_no_effects else self._deferred

    async def _begin_or_wait(self, *, has_backlog: bool) -> None:
        """Begin the deferred batch if it is due; without a backlog, only once the batch before it is judged.

        Until then the client is emptied time and again, since it requests no records while it holds any: records that
        arrive meanwhile belong to this batch instead of the next.
        """
        deferred = self._deferred
        if deferred is None or not self._is_due(deferred):
            return
        has_room = deferred.records < self._settings.batch.max_records and not self._has_waited(deferred)
        if has_room and not has_backlog and not self._in_flight.is_judged:
            await self._in_flight.judged_within(FETCH_SECONDS)
            return
        if not has_backlog:
            await self._in_flight.until_judged()
        self._deferred = None
        self._in_flight.begin(deferred, backlog=has_backlog)

    async def _fetch(self, room: int) -> Batch:
        self._admission.hold_back_paused()
        wait_ms = self._settings.batch.max_wait_ms if self._waiting is None else 0
        fetched = await retry_transient(lambda: self._consumer.fetch(room, wait_ms))
        batch = await self._decode(self._admission.without_paused(fetched), self._consumer.epoch)
        batch.size_bytes = self._consumer.fetched_bytes
        return batch

    async def _decode(self, fetched: FetchedRecords, epoch: int) -> Batch:
        """Decode step by step; in between, the batches in flight take their next step."""
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

    async def _admit(self, fetched: Batch) -> None:
        """Add the records that may pass to the deferred batch."""
        batch = await self._admission.admit(fetched) if self._is_current(fetched) and fetched.records else None
        if self._deferred is not None and not self._is_current(self._deferred):
            self._deferred = None  # its partitions were reassigned: their new owner reads them again
        if batch is None:
            return
        if self._deferred is None:
            self._deferred, self._deferred_since = batch, time.monotonic()
        else:
            self._deferred.add(batch)

    def _is_due(self, deferred: Batch) -> bool:
        return not deferred.has_no_effects or self._has_waited(deferred)

    def _is_current(self, batch: Batch) -> bool:
        return batch.epoch == self._consumer.epoch

    def _has_waited(self, deferred: Batch) -> bool:
        is_full = deferred.records >= DEFER_RECORDS_MAX or deferred.size_bytes >= DEFER_BYTES_MAX
        return is_full or time.monotonic() - self._deferred_since >= DEFER_SECONDS

    async def _commit_idle(self, now: float) -> None:
        """Commit positions that moved without a record, also while batches of other partitions are in flight."""
        if now - self._idle_since >= IDLE_COMMIT_SECONDS:
            self._idle_since = now
            await self._consumer.commit_idle()
