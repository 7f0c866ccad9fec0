"""Insight service: start-up, the tasks of the process, shutdown (contract section 7)."""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

import goalworker
from goalworker import config, logs, metrics
from goalworker.decoding.decoder import Decoder
from goalworker.insight.backfills import Backfills, Kafka
from goalworker.insight.group_offsets import GroupOffsets
from goalworker.insight.history_loop import HistoryLoop
from goalworker.insight.jobs import Jobs, Runner
from goalworker.insight.plans import Plans
from goalworker.kafka import broker_errors, fast_fetch, memory
from goalworker.kafka.positioned_consumer import PositionedConsumer
from goalworker.pipeline import clock_skew
from goalworker.pipeline.event_decoder import event_decoder
from goalworker.postgres import connections, database_errors, tables
from goalworker.runtime import health_watch, insight_housekeeping, ops_port, retry_log, service, start_checks
from goalworker.runtime.housekeeping import every
from goalworker.runtime.service import begin
from goalworker.stores import cell_store, goal_store, history_writing, jobs

log = logs.get("app")

# Seconds between two looks at which tenants were moved.
CELL_SECONDS: Final = 2.0


def run_insight(settings: config.Settings) -> None:
    """Keep events and count values until SIGTERM or SIGINT; raises GoalworkerError."""
    begin(settings, "insight")
    worker_group, settings = settings.kafka.group_id, of_insight(settings)
    fast_fetch.install()
    metrics.initialise_insight(goalworker.__version__, topics_of(settings))
    retry_log.install()
    with start_checks.explain_refusals(settings):
        service.run(_run_insight(settings, worker_group))


def of_insight(settings: config.Settings) -> config.Settings:
    """Return the settings with a group and client ids of its own, so that it takes no partition from a worker."""
    kafka = settings.kafka
    own = {"group_id": kafka.insight_group_id, "client_id": f"{kafka.client_id}-insight"}
    return settings.model_copy(update={"kafka": kafka.model_copy(update=own)})


def topics_of(settings: config.Settings) -> list[str]:
    """Return the topics that it reads: what was redriven was malformed when it came first; exits are our own."""
    return [*settings.topics.goal_inputs, settings.topics.redrive, settings.topics.workflow_exit]


async def _run_insight(settings: config.Settings, worker_group: str) -> None:
    health = ops_port.Health(metrics.INSIGHT_CHECKS)
    async with (
        ops_port.serve(settings.ops.host, settings.ops.port_of("insight"), health),
        start_checks.open_pool(settings) as pool,
    ):
        await start_checks.check_database(settings, pool, tables.WORKER_ROLE, goal_store.check_tracking)
        health.set("database", None)
        health.set("migrations", None)
        with broker_errors.explain_errors(settings):
            await start_checks.check_broker(settings)
        health.set("broker", None)
        health.set("topics", None)
        with database_errors.explain_errors(settings.database_url()):
            await history_writing.set_coverage(pool, settings.history.keep, settings.history.retention)
        memory.tune_for_batches()
        decoder = event_decoder(settings)
        with database_errors.explain_errors(settings.database_url()):
            await _read_cell(settings, pool, decoder)
        consumer = PositionedConsumer(settings, topics_of(settings))
        skew = clock_skew.ClockSkew(pool, decoder, consumer.take_records_ahead)
        with database_errors.explain_errors(settings.database_url()):
            await skew.measure()
        reading = HistoryLoop(settings, pool, consumer, decoder)
        await _run_until_stopped(settings, pool, health, consumer, reading, skew, worker_group, decoder)


async def _read_cell(settings: config.Settings, pool: AsyncEngine, decoder: Decoder) -> None:
    """Read which tenants were moved, and decode the events of this cell's."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "history") as connection:
        decoder.cell = await cell_store.kept(connection, settings.cell.buckets)


async def _run_until_stopped(
    settings: config.Settings,
    pool: AsyncEngine,
    health: ops_port.Health,
    consumer: PositionedConsumer,
    reading: HistoryLoop,
    skew: clock_skew.ClockSkew,
    worker_group: str,
    decoder: Decoder,
) -> None:
    def waiting_topics() -> list[str]:
        return topics_of(settings) if reading.is_waiting else []

    keeping = insight_housekeeping.InsightHousekeeping(settings, pool, consumer)
    watch = health_watch.HealthWatch(settings, pool, health.set, consumer, waiting_topics)
    offsets = GroupOffsets(settings, pool, worker_group)
    runners = _runners(settings, pool, offsets)
    others = {
        "jobs": Jobs(pool, runners).run(),
        "housekeeping": keeping.run(),
        "clock": skew.run(),
        "cell": every(CELL_SECONDS, "cell", lambda: _read_cell(settings, pool, decoder)),
        "watch": watch.run(),
    }
    await service.consume_until_stopped(reading.run(), reading.stop, others, health, consumer, "insight_ready")
    await offsets.drop()
    log.info("stopped")


def _runners(settings: config.Settings, pool: AsyncEngine, offsets: GroupOffsets) -> dict[str, Runner]:
    tracking = settings.enrollments.tracking
    kafka = Kafka(offsets.await_history, offsets.lag)
    backfills = Backfills(pool, kafka, tracking=tracking, lateness=settings.events.lateness)
    return {jobs.PLAN: Plans(pool, tracking=tracking).run, jobs.BACKFILL: backfills.run}
