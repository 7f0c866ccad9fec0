"""Writer of history: what a buffer holds becomes rows, counts and positions in one transaction."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config, logs, metrics
from goalworker.domain import facts
from goalworker.insight.buffer import Buffer, IsKept
from goalworker.pipeline import waiting
from goalworker.postgres import connections, tables
from goalworker.stores import enrolled_contacts, history_writing

log = logs.get("history")

# Seconds between two looks at the workers' progress while enrollments may be unknown, and between two lines about it.
LOOK_SECONDS: Final = 0.5
LOG_SECONDS: Final = 60.0


class HistoryWriter:
    """Writer of buffers, one after the other, from the positions that are stored."""

    def __init__(self, settings: config.Settings, pool: AsyncEngine) -> None:
        self._pool = pool
        self._lifecycle_topic = settings.topics.workflow_lifecycle
        self._lateness = settings.events.lateness
        # An enrollment may arrive this long after its event. The other half is for the workers' progress, which is one
        # to three seconds old while they keep up: then no buffer waits.
        self._apart = timedelta(seconds=settings.history.delay_seconds / 2)
        self._keeps_any = settings.history.retention > timedelta(0)
        self._keeps_all = settings.history.keep == "all"
        self.stored: dict[TopicPartition, int] = {}
        """The stored next offsets of the assigned partitions."""
        self.is_waiting = False
        """True while a buffer waits until workers have judged the enrollments of its time."""

    async def write(self, buffer: Buffer) -> Mapping[TopicPartition, int]:
        """Write a buffer and return the offsets behind it; FencedError."""
        is_kept = await self._choose(buffer)
        rows, seen, moves = buffer.rows(is_kept), list(buffer.counts()), buffer.moves(self.stored)
        exits = buffer.exits() if self._keeps_any else []
        await waiting.retry_transient(lambda: history_writing.write(self._pool, moves, rows, seen, exits))
        offsets = {move.partition: move.next_offset for move in moves}
        self.stored |= offsets
        for (topic, outcome), number in buffer.outcomes(rows, keeps_exits=self._keeps_any).items():
            metrics.history_records_total.labels(topic=topic, outcome=outcome).inc(number)
        return offsets

    async def _choose(self, buffer: Buffer) -> IsKept:
        """Return whose events are kept."""
        if not self._keeps_any:
            return _nobody
        if self._keeps_all:
            return _everybody
        contacts = buffer.contacts()
        try:
            return (await self._enrolled(buffer, contacts)).__contains__
        finally:
            self.is_waiting = False
            metrics.history_waiting.set(0)

    async def _enrolled(self, buffer: Buffer, contacts: set[facts.PersonKey]) -> set[facts.PersonKey]:
        logged_at = time.monotonic()
        while True:
            found = await waiting.retry_transient(lambda: self._ask(buffer, contacts))
            if found is not None:
                return found
            self.is_waiting = True
            metrics.history_waiting.set(1)
            if time.monotonic() - logged_at >= LOG_SECONDS:
                logged_at = time.monotonic()
                log.info("history_waits", problem="workers have not judged the enrollments of these events yet")
            await asyncio.sleep(LOOK_SECONDS)

    async def _ask(self, buffer: Buffer, contacts: set[facts.PersonKey]) -> set[facts.PersonKey] | None:
        """Return the contacts with an enrollment, None while some of their enrollments may not be known yet."""
        if not contacts:
            return set()
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "history") as connection:
            if not await enrolled_contacts.are_known(
                connection, self._lifecycle_topic, buffer.arrived_by + self._apart
            ):
                return None
            # Whose enrollment ended this long before the event itself is left out, however late it is read.
            ended_after = min(buffer.oldest, datetime.now(UTC)) - self._lateness
            return await enrolled_contacts.enrolled(connection, contacts, ended_after)


def _everybody(_: facts.PersonKey) -> bool:
    return True


def _nobody(_: facts.PersonKey) -> bool:
    return False
