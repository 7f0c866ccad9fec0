"""What a worker does beside the flow: sending what was left in the outbox, and letting go of what is old enough."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import database, kafka, logs, messages, metrics, outbox, refused, sending, tables
from goalworker import settings as settings_

log = logs.get("upkeep")

OUTBOX_SECONDS: Final = 0.25
OUTBOX_STATUS_SECONDS: Final = 2.0
PAUSES_SECONDS: Final = 1.0
REFUSED_LOG_SECONDS: Final = 60.0
# The longest pause between two attempts while a dependency is away.
WAIT_SECONDS_MAX: Final = 5.0
_SLICE: Final = 2_000
_RETENTION_LOCK: Final = f"SELECT pg_try_advisory_xact_lock({database.RETENTION_LOCK})"

# By when it was recorded, never by when it happened: an old event must survive until it is judged.
_SWEEP_HITS: Final = """
DELETE FROM goal_hits WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM goal_hits WHERE recorded_at < clock_timestamp() - $1::interval ORDER BY recorded_at LIMIT $2))
"""

_OLD_ENROLLMENTS: Final = """
(SELECT e.tenant_id, e.enrollment_id FROM enrollments e
 WHERE e.ended_at < clock_timestamp() - $1::interval ORDER BY e.ended_at LIMIT $2)
UNION
(SELECT x.tenant_id, x.enrollment_id FROM exits x JOIN enrollments e USING (tenant_id, enrollment_id)
 WHERE x.created_at < clock_timestamp() - $1::interval AND e.ended_at IS NULL ORDER BY x.created_at LIMIT $2)
ORDER BY tenant_id, enrollment_id
"""

# In the order in which the judge locks them; who is being judged is left for the next time.
_LOCK_ENROLLMENTS: Final = """
SELECT e.tenant_id, e.enrollment_id
FROM unnest($1::text[], $2::text[]) AS old (tenant_id, enrollment_id)
JOIN enrollments e USING (tenant_id, enrollment_id)
WHERE e.ended_at IS NULL OR e.ended_at < clock_timestamp() - $3::interval
ORDER BY e.tenant_id, e.enrollment_id
FOR UPDATE OF e SKIP LOCKED
"""

_DELETE: Final = """
DELETE FROM {table} t USING unnest($1::text[], $2::text[]) AS old (tenant_id, enrollment_id)
WHERE t.tenant_id = old.tenant_id AND t.enrollment_id = old.enrollment_id
"""


async def sweep_hits(pool: AsyncEngine, lateness: timedelta) -> int:
    """Delete hits recorded longer ago than `lateness` (contract rule 3.6); return how many."""
    total = 0
    while True:
        async with database.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
            if not await connection.fetchval(_RETENTION_LOCK):
                return total
            deleted = int((await connection.execute(_SWEEP_HITS, lateness, _SLICE)).rpartition(" ")[2])
        total += deleted
        if deleted < _SLICE:
            return total


async def sweep_enrollments(pool: AsyncEngine, retention: timedelta) -> int:
    """Delete enrollments as a whole, so long after their end or exit (contract rule 3.7); return how many."""
    total = 0
    while deleted := await _sweep_some_enrollments(pool, retention):
        total += deleted
    return total


async def _sweep_some_enrollments(pool: AsyncEngine, retention: timedelta) -> int:
    async with database.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
        if not await connection.fetchval(_RETENTION_LOCK):
            return 0
        old = await connection.fetch(_OLD_ENROLLMENTS, retention, _SLICE)
        if not old:
            return 0
        locked = await connection.fetch(_LOCK_ENROLLMENTS, *zip(*old, strict=True), retention)
        if locked:
            for table in ("achievements", "exits", "enrollments"):
                await connection.execute(_DELETE.format(table=table), *zip(*locked, strict=True))
    return len(locked)


class Upkeep:
    """The loops beside the flow; each outlives whatever is away for a while."""

    def __init__(
        self,
        settings: settings_.Settings,
        pool: AsyncEngine,
        sender: sending.Sender,
        read_pauses: Callable[[], Awaitable[None]],
        claim_unpublished: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._sender = sender
        self._topics = settings.topics.model_dump()
        self._read_pauses = read_pauses
        self._claim_unpublished = claim_unpublished
        self._refused: dict[str, tuple[int, float]] = {}

    async def run(self) -> None:
        """Run all loops until cancelled; an error that no waiting mends ends them all."""
        retention = self._settings.retention
        async with asyncio.TaskGroup() as loops:
            loops.create_task(_every(OUTBOX_SECONDS, "outbox", self._sweep_outbox))
            loops.create_task(_every(outbox.CLAIM_SECONDS, "outbox claims", self._claim_unpublished))
            loops.create_task(_every(refused.RETRY_SECONDS, "refused messages", self._retry_refused))
            loops.create_task(_every(OUTBOX_STATUS_SECONDS, "outbox status", self._show))
            loops.create_task(_every(PAUSES_SECONDS, "paused topics", self._read_pauses))
            loops.create_task(_every(retention.sweep_seconds, "retention", self._sweep_old))

    async def _sweep_outbox(self) -> None:
        while await outbox.sweep(self._pool, self._sender, self._topics):
            pass

    async def _retry_refused(self) -> None:
        if sent := await outbox.retry_refused(self._pool, self._sender, self._topics):
            log.info("refused_messages_sent", messages=sent)

    async def _sweep_old(self) -> None:
        hits = await sweep_hits(self._pool, self._settings.events.lateness)
        enrollments = await sweep_enrollments(self._pool, self._settings.retention.enrollments)
        if hits or enrollments:
            log.info("swept", hits=hits, enrollments=enrollments)

    async def _show(self) -> None:
        async with database.transaction(self._pool, tables.WORKER_ROLE, "sweep") as connection:
            pending = await outbox.status(connection)
            held = {each.topic: each for each in await refused.status(connection)}
        self._show_refused(held)
        metrics.outbox_pending_records.set(sum(topic.records for topic in pending))
        oldest = min((topic.oldest_timestamp_seconds for topic in pending), default=0.0)
        metrics.outbox_oldest_timestamp_seconds.set(oldest)
        idle, in_use = database.connections(self._pool)
        metrics.db_pool_connections.labels(state="idle").set(idle)
        metrics.db_pool_connections.labels(state="in_use").set(in_use)

    def _show_refused(self, held: Mapping[str, refused.OfTopic]) -> None:
        for logical in messages.TOPICS:
            topic, of_topic = self._topics[logical], held.get(logical)
            count = 0 if of_topic is None else of_topic.records
            metrics.outbox_refused_records.labels(topic=topic).set(count)
            known, said_at = self._refused.get(topic, (0, -math.inf))
            if count == known or (known and time.monotonic() - said_at < REFUSED_LOG_SECONDS):
                continue
            self._refused[topic] = (count, time.monotonic())
            if of_topic is not None and count > known:
                log.error(
                    "messages_refused",
                    topic=topic,
                    messages=count,
                    size_bytes=of_topic.largest_bytes,
                    limit_bytes=of_topic.limit_bytes,
                    reason=of_topic.reason,
                    remedy="goalworker outbox status",
                )


async def _every(seconds: float, name: str, step: Callable[[], Awaitable[None]]) -> None:
    wait_seconds = seconds
    while True:
        try:
            await step()
            wait_seconds = seconds
        except Exception as error:
            if not (database.is_away(error) or kafka.is_later(error)):
                raise
            repeated = logs.repeated("housekeeping", name, shapes_max=1)
            if repeated is not None:
                log.warning("housekeeping_retry", step=name, error=logs.brief(error), **repeated)
            wait_seconds = max(seconds, min(2 * wait_seconds, WAIT_SECONDS_MAX))
        await asyncio.sleep(wait_seconds)
