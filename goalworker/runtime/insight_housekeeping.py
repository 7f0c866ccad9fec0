"""Housekeeping of `insight`: days made and dropped, rare values dropped, topics that were recreated, old jobs."""

import asyncio
import itertools
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config, logs, metrics
from goalworker.insight import coverage_writer
from goalworker.kafka import broker_requests
from goalworker.kafka.observer import Observer
from goalworker.kafka.positioned_consumer import PositionedConsumer
from goalworker.postgres import connections, migrations
from goalworker.runtime import housekeeping
from goalworker.stores import history_writing, jobs, seen_values

log = logs.get("housekeeping")

# Seconds between two looks at the days, and at the values of today.
DAYS_SECONDS: Final = 60.0
# Seconds between two looks at the values of past days, which are read whole.
PAST_SECONDS: Final = 3_600.0
# Seconds between two looks at the ids of the topics.
TOPICS_SECONDS: Final = 10.0
POOL_SECONDS: Final = 2.0
JOBS_SECONDS: Final = 15.0


class InsightHousekeeping:
    """Loops beside the reading; each retries while a dependency is away."""

    def __init__(self, settings: config.Settings, pool: AsyncEngine, consumer: PositionedConsumer) -> None:
        self._settings = settings
        self._pool = pool
        self._consumer = consumer
        self._observer = Observer(settings)
        self._topic_ids: Mapping[str, uuid.UUID] = {}
        self._ends_observer = Observer(settings)
        self._coverage = coverage_writer.CoverageWriter(pool, lambda: consumer.committed, self._ends)

    async def run(self) -> None:
        """Run all loops until cancelled; a permanent error ends them all."""
        try:
            async with asyncio.TaskGroup() as loops:
                loops.create_task(housekeeping.every(DAYS_SECONDS, "days", self._keep_days))
                loops.create_task(housekeeping.every(DAYS_SECONDS, "values of today", self._prune_today))
                loops.create_task(housekeeping.every(PAST_SECONDS, "values of past days", self._prune_past))
                loops.create_task(housekeeping.every(TOPICS_SECONDS, "topics", self._check_topics))
                loops.create_task(housekeeping.every(coverage_writer.WRITE_SECONDS, "coverage", self._coverage.write))
                loops.create_task(housekeeping.every(POOL_SECONDS, "pool", self._measure_pool))
                loops.create_task(housekeeping.every(JOBS_SECONDS, "jobs", self._measure_jobs))
        finally:
            await self._observer.drop()
            await self._ends_observer.drop()

    async def _keep_days(self) -> None:
        dropped = await history_writing.keep_days(self._pool, self._settings.history.retention)
        if dropped:
            log.info("history_days_dropped", days=len(dropped), last=dropped[-1].isoformat())
        last = await history_writing.last_day(self._pool)
        metrics.history_last_day_timestamp_seconds.set(0 if last is None else _end_of(last).timestamp())

    async def _prune_today(self) -> None:
        metrics.seen_values_dropped_total.inc(await seen_values.prune_today(self._pool))

    async def _prune_past(self) -> None:
        metrics.seen_values_dropped_total.inc(await seen_values.prune_past(self._pool))

    async def _check_topics(self) -> None:
        """Let the positions be compared with the logs again where a topic was recreated (hazard B2)."""
        topics = {partition.topic for partition in self._consumer.partitions}
        found = await self._observer.ask(
            lambda observer: broker_requests.topic_ids(observer, topics), migrations.PROBE_TIMEOUT_SECONDS
        )
        if any(found.get(topic, topic_id) != topic_id for topic, topic_id in self._topic_ids.items()):
            self._consumer.check_logs()
        self._topic_ids = {**self._topic_ids, **found}

    async def _ends(self, partitions: coverage_writer.Offsets) -> coverage_writer.Offsets:
        return await self._ends_observer.ask(
            lambda observer: broker_requests.high_watermarks(observer, list(partitions)),
            migrations.PROBE_TIMEOUT_SECONDS,
        )

    async def _measure_pool(self) -> None:
        connections.measure_pool(self._pool)

    async def _measure_jobs(self) -> None:
        unfinished = await jobs.unfinished(self._pool)
        for key in itertools.product(metrics.JOB_KINDS, metrics.JOB_STATES):
            count, asked_at = unfinished.get(key, (0, None))
            metrics.jobs_unfinished.labels(*key).set(count)
            metrics.jobs_oldest_timestamp_seconds.labels(*key).set(0 if asked_at is None else asked_at.timestamp())


def _end_of(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(), UTC)
