"""Housekeeping of a worker: periodic work beside the flow, such as sweeping the outbox and deleting old rows."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config, logs, metrics
from goalworker.domain import messages
from goalworker.kafka import broker_errors
from goalworker.kafka.sender import Sender
from goalworker.pipeline import outbox, refused_messages, waiting
from goalworker.postgres import connections, tables
from goalworker.stores import enrollments, retention, table_statistics

log = logs.get("housekeeping")

# Seconds between sweeps of the outbox. A message that the flow could not publish waits this much longer.
OUTBOX_SECONDS: Final = 0.25
# Seconds between updates of the outbox's metrics, which each cost the database a query.
OUTBOX_STATUS_SECONDS: Final = 2.0
# Seconds between reads of the paused topics. A topic that was resumed is read again this much later.
PAUSES_SECONDS: Final = 1.0
# Seconds between updates of the number of waiting exits, and between sweeps of reversals, which are few.
WAITING_SECONDS: Final = 15.0
REVERSALS_SECONDS: Final = 86_400.0
# Seconds between looks for tables that have grown. A plan is wrong for as long, while a table grows from nothing.
STATISTICS_SECONDS: Final = 1.0
# Seconds between lines about refused messages of one topic, however fast their number grows.
REFUSED_LOG_SECONDS: Final = 60.0
# Seconds between two attempts, at most, while a dependency is away: the pause doubles up to this.
WAIT_SECONDS_MAX: Final = 5.0


class Housekeeping:
    """Loops beside the flow; each retries while a dependency is away."""

    def __init__(
        self,
        settings: config.Settings,
        pool: AsyncEngine,
        sender: Sender,
        read_pauses: Callable[[], Awaitable[None]],
        claim_unpublished: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._sender = sender
        self._topics = settings.topics.model_dump()
        self._read_pauses = read_pauses
        self._claim_unpublished = claim_unpublished
        self._logged_refusals: dict[str, tuple[int, float]] = {}
        self._swept_hits = retention.Progress()
        self._analyzed: table_statistics.Pages = {}

    async def run(self) -> None:
        """Run all loops until cancelled; a permanent error ends them all."""
        sweep_seconds = self._settings.retention.sweep_seconds
        async with asyncio.TaskGroup() as loops:
            loops.create_task(every(OUTBOX_SECONDS, "outbox", self._sweep_outbox))
            loops.create_task(every(outbox.CLAIM_SECONDS, "outbox claims", self._claim_unpublished))
            loops.create_task(every(refused_messages.RETRY_SECONDS, "refused messages", self._retry_refused))
            loops.create_task(every(OUTBOX_STATUS_SECONDS, "outbox status", self._update_metrics))
            loops.create_task(every(PAUSES_SECONDS, "paused topics", self._read_pauses))
            loops.create_task(every(sweep_seconds, "retention", self._delete_old_rows))
            loops.create_task(every(REVERSALS_SECONDS, "reversals", self._delete_old_reversals))
            loops.create_task(every(STATISTICS_SECONDS, "statistics", self._analyze_grown_tables))
            loops.create_task(every(WAITING_SECONDS, "waiting exits", self._count_waiting_exits))

    async def _sweep_outbox(self) -> None:
        while await outbox.sweep(self._pool, self._sender, self._topics):
            pass

    async def _retry_refused(self) -> None:
        if sent := await outbox.retry_refused(self._pool, self._sender, self._topics):
            log.info("refused_messages_sent", messages=sent)

    async def _delete_old_rows(self) -> None:
        if days := await retention.keep_days_of_hits(self._pool, self._settings.events.lateness):
            log.info("hit_days_dropped", days=len(days), last=days[-1].isoformat())
        hits = await retention.sweep_hits(self._pool, self._settings.events.lateness, self._swept_hits)
        ended = await retention.sweep_enrollments(self._pool, self._settings.retention.enrollments)
        if hits or ended:
            log.info("swept", hits=hits, enrollments=ended)

    async def _delete_old_reversals(self) -> None:
        if reversals := await retention.sweep_reversals(self._pool):
            log.info("swept_reversals", reversals=reversals)

    async def _analyze_grown_tables(self) -> None:
        if analyzed := await table_statistics.analyze_grown(self._pool, self._analyzed):
            log.info("analyzed", tables=analyzed)

    async def _count_waiting_exits(self) -> None:
        metrics.exits_waiting.set(await enrollments.count_waiting_exits(self._pool))

    async def _update_metrics(self) -> None:
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "sweep") as connection:
            pending = await outbox.status(connection)
            refused = {held.topic: held for held in await refused_messages.status(connection)}
        self._report_refused(refused)
        metrics.outbox_pending_records.set(sum(topic.records for topic in pending))
        oldest = min((topic.oldest_timestamp_seconds for topic in pending), default=0.0)
        metrics.outbox_oldest_timestamp_seconds.set(oldest)
        connections.measure_pool(self._pool)

    def _report_refused(self, refused: Mapping[str, refused_messages.HeldByTopic]) -> None:
        for logical in messages.TOPICS:
            topic, held = self._topics[logical], refused.get(logical)
            count = 0 if held is None else held.records
            metrics.outbox_refused_records.labels(topic=topic).set(count)
            logged_count, logged_at = self._logged_refusals.get(topic, (0, -math.inf))
            if count == logged_count or (logged_count and time.monotonic() - logged_at < REFUSED_LOG_SECONDS):
                continue
            self._logged_refusals[topic] = (count, time.monotonic())
            if held is not None and count > logged_count:
                log.error(
                    "messages_refused",
                    topic=topic,
                    messages=count,
                    size_bytes=held.largest_bytes,
                    limit_bytes=held.limit_bytes,
                    reason=held.reason,
                    remedy="goalworker outbox status",
                )


def dependency_of(error: Exception) -> str:
    """Return the dependency that an error is about; repeated lines about it are held back during its outage."""
    return "broker" if broker_errors.is_broker_error(error) else "database"


async def every(seconds: float, name: str, step: Callable[[], Awaitable[None]]) -> None:
    """Take a step again and again, with this many seconds in between; a transient error is logged, and retried."""
    wait_seconds = seconds
    while True:
        try:
            await step()
            wait_seconds = seconds
        except Exception as error:
            if not waiting.is_transient(error):
                raise
            repeated = logs.limit_repeats(dependency_of(error), "housekeeping")
            if repeated is not None:
                log.warning("housekeeping_retry", step=name, error=logs.summarize_error(error), **repeated)
            wait_seconds = max(seconds, min(2 * wait_seconds, WAIT_SECONDS_MAX))
        await asyncio.sleep(wait_seconds)
