"""The loop of history: fetch, decode, wait until events are old enough, and write them together (section 7)."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config, logs, metrics
from goalworker.decoding.decoder import Decoder
from goalworker.errors import UndecodableError
from goalworker.insight import fetched_events, positions
from goalworker.insight.arrivals import Arrivals
from goalworker.insight.buffer import Buffer
from goalworker.insight.fetched_events import EventsOfPartition, FetchedRecords
from goalworker.insight.history_writer import HistoryWriter
from goalworker.kafka.positioned_consumer import PositionedConsumer
from goalworker.pipeline.waiting import POLL_SECONDS, await_polling, first_done, retry_transient
from goalworker.stores.history_writing import FencedError

log = logs.get("history")

FETCH_RECORDS: Final = 10_000
FETCH_WAIT_MS: Final = 200
# A buffer is written after this many seconds or records, whichever comes first.
BUFFER_SECONDS: Final = 1.0
BUFFER_RECORDS: Final = 50_000
# Seconds between two looks whether events are old enough.
RIPE_SECONDS: Final = 0.1


class HistoryLoop:
    """Loop that reads the goal topics behind the worker; one buffer is filled while another one is written."""

    def __init__(
        self, settings: config.Settings, pool: AsyncEngine, consumer: PositionedConsumer, decoder: Decoder
    ) -> None:
        self._pool = pool
        self._consumer = consumer
        self._decoder = decoder
        self._topics = settings.topics
        self._delay = timedelta(seconds=settings.history.delay_seconds)
        self._arrivals = Arrivals()
        self._writer = HistoryWriter(settings, pool)
        self._buffer = Buffer()
        self._buffered_since = 0.0
        self._writing: asyncio.Task[None] | None = None
        self._idle_since = 0.0
        self._is_stopping = False

    @property
    def is_waiting(self) -> bool:
        """True while it waits for the progress of workers, and must not be taken for stuck."""
        return self._writer.is_waiting

    def stop(self) -> None:
        """Let run() write what was read and return."""
        self._is_stopping = True

    async def run(self) -> None:
        """Read until stop(); what was not written by then is read again."""
        try:
            while not self._is_stopping:
                await self._step()
            await self._finish()
        finally:
            await self._drop()
            await self._consumer.close()

    async def _step(self) -> None:
        fetched = await self._fetch()
        if self._consumer.needs_positions:
            await self._set_positions()
            return
        self._note_ends()
        parts = await self._decode(fetched)
        if await self._until_old_enough(parts):
            self._add(parts)
        if self._writing is not None and self._writing.done():
            await self._until_written()
        await self._write_if_due()
        await self._commit_idle(time.monotonic())

    async def _fetch(self) -> FetchedRecords:
        try:
            return await retry_transient(lambda: self._consumer.fetch(FETCH_RECORDS, FETCH_WAIT_MS))
        except UndecodableError as error:
            if error.last is None:
                raise
            # The worker stops there until an operator skips the batch.
            log.warning("history_gap", reason="unreadable", error=error.sentence)
            metrics.history_gaps_total.labels(reason="unreadable").inc()
            self._consumer.skip_to(error.topic, error.partition, error.last + 1)
            return {}

    def _note_ends(self) -> None:
        now = self._now()
        for partition in self._consumer.partitions:
            self._arrivals.note(partition, self._consumer.end_of(partition), now)

    async def _set_positions(self) -> None:
        """Continue at the stored positions; what was read and not written is read again, here or elsewhere."""
        epoch = self._consumer.epoch
        await self._drop()
        self._arrivals = Arrivals()  # a topic may have been recreated
        finding = retry_transient(lambda: positions.find(self._pool, self._consumer, self._topics.workflow_exit))
        found = await await_polling(finding, self._consumer)
        self._writer.stored = found
        self._consumer.seek_to(epoch, found)
        await self._commit(epoch, found)

    async def _decode(self, fetched: FetchedRecords) -> list[EventsOfPartition]:
        parts, now = [], self._now()
        for partition, records in fetched.items():
            for of_day in fetched_events.by_day(records):
                arrived_by = self._arrivals.arrived_by(partition, of_day[-1].offset + 1, now)
                parts.append(fetched_events.decode(self._decoder, partition, of_day, self._topics, arrived_by))
                await asyncio.sleep(0)
        return parts

    async def _until_old_enough(self, parts: Sequence[EventsOfPartition]) -> bool:
        """Wait until the events are as old as they have to be; return False where they have to be read again."""
        if not parts:
            return False
        epoch = self._consumer.epoch
        old_enough_at = max(part.arrived_by for part in parts) + self._delay
        polled_at = time.monotonic()
        while self._now() < old_enough_at and epoch == self._consumer.epoch and not self._is_stopping:
            await self._write_if_due()
            await asyncio.sleep(min(RIPE_SECONDS, max((old_enough_at - self._now()).total_seconds(), 0)))
            self._note_ends()  # of what the client fetches meanwhile
            if time.monotonic() - polled_at >= POLL_SECONDS:
                polled_at = time.monotonic()
                await self._consumer.keep_polling()
        return self._now() >= old_enough_at and epoch == self._consumer.epoch

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._decoder.ahead

    def _add(self, parts: Sequence[EventsOfPartition]) -> None:
        if not self._buffer:
            self._buffer, self._buffered_since = Buffer(self._consumer.epoch), time.monotonic()
        now = self._now()
        for part in parts:
            self._buffer.add(part, now)

    async def _write_if_due(self) -> None:
        is_full = self._buffer.records >= BUFFER_RECORDS
        if not is_full and (not self._buffer or time.monotonic() - self._buffered_since < BUFFER_SECONDS):
            return
        if self._writing is not None and (self._writing.done() or is_full):
            await self._until_written()
        if self._writing is None and self._buffer:
            buffer, self._buffer = self._buffer, Buffer()
            self._writing = asyncio.create_task(self._write(buffer))

    async def _until_written(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            try:
                await first_done({writing}, self._consumer)
                await writing
            except FencedError:
                log.info("history_fenced", problem="another process has read on from here")
                self._consumer.needs_positions = True
                self._buffer = Buffer()
            finally:
                writing.cancel()

    async def _write(self, buffer: Buffer) -> None:
        offsets = await self._writer.write(buffer)
        await self._commit(buffer.epoch, offsets)

    async def _commit(self, epoch: int, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets for those who look at the lag; the stored positions decide where reading continues."""
        await retry_transient(lambda: self._consumer.commit(epoch, offsets))

    async def _finish(self) -> None:
        if self.is_waiting:
            return  # for as long as no worker runs; what was read is read again
        await self._until_written()
        if self._buffer and not self._consumer.needs_positions:
            with contextlib.suppress(FencedError):
                await self._write(self._buffer)

    async def _drop(self) -> None:
        writing, self._writing = self._writing, None
        self._buffer = Buffer()
        if writing is not None:
            writing.cancel()
            with contextlib.suppress(FencedError, asyncio.CancelledError):
                await writing

    async def _commit_idle(self, now: float) -> None:
        if now - self._idle_since >= 1.0:
            self._idle_since = now
            await self._consumer.commit_idle()
