"""Paused topics, shared by all workers and kept across restarts (contract section 4)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import stamina
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import metrics
from goalworker.decoding.record import FetchedRecord, size_of
from goalworker.pipeline.breaker import Breaker, Tenant, TenantShare
from goalworker.postgres import connections, database_errors, tables

_READ: Final = "SELECT topic, is_paused, accept_records FROM paused_topics"


_PAUSE: Final = """
INSERT INTO paused_topics (topic, is_paused, paused_at, reason, partition, "offset", accept_records)
VALUES ($1, true, clock_timestamp(), $2, $3, $4, 0)
ON CONFLICT (topic) DO UPDATE SET is_paused = true, paused_at = excluded.paused_at, reason = excluded.reason,
    partition = excluded.partition, "offset" = excluded."offset", accept_records = 0
"""


_ACCEPT: Final = """
WITH before AS (SELECT accept_records FROM paused_topics WHERE topic = $1 FOR UPDATE)
UPDATE paused_topics SET accept_records = greatest(before.accept_records - $2, 0)
FROM before WHERE topic = $1 RETURNING before.accept_records
"""


_RESUME: Final = """
UPDATE paused_topics SET is_paused = false, accept_records = $2 WHERE topic = $1 AND is_paused RETURNING topic
"""


class PauseTrigger(Struct, frozen=True):
    """The record at which a topic was paused."""

    reason: str
    partition: int
    offset: int


class PausedTopics:
    """The topics that are paused: by any worker, in the database, until `topics resume`.

    tenant_of tells the tenant of a good record of a topic.
    """

    def __init__(
        self, pool: AsyncEngine, max_ratio: float, window: int, tenant_of: Callable[[str, FetchedRecord], Tenant]
    ) -> None:
        self._pool = pool
        self._limits = (max_ratio, window)
        self._tenant_of = tenant_of
        self._breakers: dict[str, Breaker[FetchedRecord]] = {}
        self._accepting: set[str] = set()
        self._decided = 0
        self.topics: set[str] = set()

    async def read(self) -> None:
        """Read the topics that other workers paused, and those that were resumed."""
        decided = self._decided
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "sweep") as connection:
            rows = await connection.fetch(_READ)
        if decided != self._decided:  # this worker paused a topic meanwhile: the rows are older than that
            return
        paused = {topic for topic, is_paused, _ in rows if is_paused}
        self._accepting = {topic for topic, _, accept_records in rows if accept_records > 0}
        for topic in self.topics - paused:
            self._breakers.pop(topic, None)
            metrics.topic_paused.labels(topic=topic).set(0)
        for topic in paused:
            metrics.topic_paused.labels(topic=topic).set(1)
        self.topics = paused

    def is_accepting(self, topic: str) -> bool:
        """Say whether an operator accepts the next records of a topic whatever they are; accept() says how many."""
        return topic in self._accepting

    def admit(
        self, topic: str, records: Sequence[FetchedRecord], dead: Mapping[int, Tenant], size_bytes: int = 0
    ) -> int | None:
        """Return the position of the first record of a topic that may not pass, None if all may."""
        return self._breaker(topic).admit(records, dead, size_bytes)

    def condemn(self, topic: str, tenants: Iterable[Tenant]) -> bool:
        """Count admitted records of these tenants that turned out dead; say whether their topic must be paused."""
        return topic not in self.topics and self._breaker(topic).condemn(tenants)

    def shares(self, topic: str) -> list[TenantShare]:
        """Return the shares of the tenants that have more than a few dead letters among a topic's latest records."""
        return self._breaker(topic).shares()

    def _breaker(self, topic: str) -> Breaker[FetchedRecord]:
        if topic not in self._breakers:
            self._breakers[topic] = Breaker(*self._limits, partial(self._tenant_of, topic), size_of)
        return self._breakers[topic]

    @stamina.retry(on=database_errors.is_unavailable, attempts=None, timeout=None, wait_max=15.0)
    async def pause(self, topic: str, sample: PauseTrigger) -> None:
        """Pause a topic, for every worker."""
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "sweep") as connection:
            await connection.execute(_PAUSE, topic, sample.reason, sample.partition, sample.offset)
        self._decided += 1
        self.topics = self.topics | {topic}
        self._accepting = self._accepting - {topic}
        metrics.topic_paused.labels(topic=topic).set(1)

    @stamina.retry(on=database_errors.is_unavailable, attempts=None, timeout=None, wait_max=15.0)
    async def accept(self, topic: str, records: int) -> int:
        """Return how many of the next records of a topic pass whatever they are; admit() decides on the others."""
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "sweep") as connection:
            allowed = await connection.fetchval(_ACCEPT, topic, records) or 0
        if allowed <= records:
            self._accepting = self._accepting - {topic}
        return min(int(allowed), records)


async def resume_topic(connection: connections.Connection, topic: str, accept_records: int) -> bool:
    """Resume a topic, and accept that many records whatever they are; False if it was not paused."""
    return await connection.fetchval(_RESUME, topic, accept_records) is not None


PAUSED: Final = """
SELECT topic, reason, partition, "offset", paused_at FROM paused_topics WHERE is_paused
"""
