"""Health of a worker: probes of database, broker, topics and migrations, its lag, and stalls (contract section 6)."""

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config, metrics, outages
from goalworker.kafka import broker_errors, broker_requests, hidden_records, observer, topics
from goalworker.kafka.consumer import Consumer
from goalworker.postgres import migrations
from goalworker.runtime.database_probe import PROBE_SECONDS, DatabaseProbe
from goalworker.runtime.stall_watch import Progress, StallWatch, stall_error

# Seconds after which a group that was not joined is reported. Joining takes as long as the other members need to finish
# their batches, which is less.
JOIN_SECONDS: Final = 60.0


class HealthWatch:
    """Task that probes what the worker depends on: a stuck consumer would not report its own lag (hazard 2)."""

    def __init__(
        self,
        settings: config.Settings,
        pool: AsyncEngine,
        report: outages.Report,
        consumer: Consumer,
        waiting_topics: Callable[[], Collection[str]],
    ) -> None:
        self._settings = settings
        self._report = report
        self._consumer = consumer
        self._waiting_topics = waiting_topics
        self._observer = observer.Observer(settings)
        self._database = DatabaseProbe(pool, settings.database_url(), report)
        self._refusals = outages.Refusals()
        self._stall_watch = StallWatch(settings.ops.stall_seconds)
        self._hidden = hidden_records.HiddenRecords()

    async def run(self) -> None:
        """Probe until cancelled; raises StalledError, and DependencyError after long refusals of our credentials."""
        try:
            while True:
                has_database = await self._database.look()
                progress = await self._probe_broker()
                if not has_database:
                    progress = {}
                stalled = self._stall_watch.look(progress, time.monotonic())
                if stalled is not None:
                    raise stall_error(stalled, self._settings.ops.stall_seconds)
                await asyncio.sleep(PROBE_SECONDS)
        finally:
            await self._observer.drop()

    async def _probe_broker(self) -> Progress:
        """Return the progress of each partition; empty while the broker or a topic is away."""
        try:
            async with asyncio.timeout(migrations.PROBE_TIMEOUT_SECONDS):
                connected = await self._observer.connected()
                present = await connected.topics()
                partitions = list(self._consumer.partitions)
                highs = await broker_requests.high_watermarks(connected, partitions)
                ends = await connected.end_offsets(partitions)
                committed = await self._consumer.committed_offsets()
        except Exception as error:
            if not broker_errors.is_transient(error) and not isinstance(error, TimeoutError):
                raise
            is_refused = broker_errors.is_login_refused(error)
            problem = broker_errors.summarize(self._settings, error)
            self._report("broker", problem, "refused" if is_refused else "away")
            if self._refusals.update(is_refused or None, time.monotonic()):
                raise broker_errors.explain(self._settings, error) from error
            await self._observer.drop()
            return {}
        self._refusals.update(False, time.monotonic())
        self._report("broker", self._describe_unjoined(time.monotonic()), "unjoined")
        self._hidden.measure(highs, {tp: end for tp, end in ends.items() if tp in committed}, time.monotonic())
        missing = topics.missing_topics(self._settings, present)
        self._report("topics", missing, "missing")
        progress = self._measure({tp: (committed[tp], end) for tp, end in ends.items() if tp in committed})
        return progress if missing is None else {}  # a worker that waits for a topic does not stall

    def _describe_unjoined(self, now: float) -> str | None:
        since = self._consumer.unjoined_since
        if since is None or now - since < JOIN_SECONDS:
            return None
        return broker_errors.describe_unjoined(self._settings, since, now)

    def _measure(self, progress: Progress) -> Progress:
        for partition, (committed, end) in progress.items():
            labels = (partition.topic, partition.partition)
            metrics.consumer_lag_records.labels(*labels).set(max(end - committed, 0))
            if self._stall_watch.is_progress(partition, committed, end):
                metrics.consumer_last_progress_timestamp_seconds.labels(*labels).set_to_current_time()
        waiting = self._waiting_topics()
        return {partition: state for partition, state in progress.items() if partition.topic not in waiting}
