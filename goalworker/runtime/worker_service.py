"""Worker service: start-up, the tasks of a worker, shutdown."""

from sqlalchemy.ext.asyncio import AsyncEngine

import goalworker
from goalworker import config, logs, metrics
from goalworker.kafka import broker_errors, fast_fetch, memory, offset_reset
from goalworker.kafka.consumer import Consumer
from goalworker.kafka.sender import Sender
from goalworker.pipeline import clock_skew, progress, worker
from goalworker.pipeline.event_decoder import event_decoder
from goalworker.postgres import database_errors, tables
from goalworker.runtime import health_watch, housekeeping, ops_port, progress_writer, retry_log, service, start_checks
from goalworker.runtime.service import begin
from goalworker.stores import goal_store, retention

log = logs.get("app")


def run_worker(settings: config.Settings, *, reset_offsets: offset_reset.Target | None = None) -> None:
    """Run the worker until SIGTERM or SIGINT, after resetting offsets if wanted; raises GoalworkerError."""
    begin(settings, "run")
    fast_fetch.install()
    _initialise_metrics(settings)
    retry_log.install()
    with start_checks.explain_refusals(settings):
        service.run(_run_worker(settings, reset_offsets))


async def _run_worker(settings: config.Settings, reset_offsets: offset_reset.Target | None) -> None:
    health = ops_port.Health(metrics.CHECKS)
    async with (
        ops_port.serve(settings.ops.host, settings.ops.port_of("run"), health),
        start_checks.open_pool(settings) as pool,
    ):
        await start_checks.check_database(settings, pool, tables.WORKER_ROLE, goal_store.ensure_tracking)
        cell_id = await start_checks.write_cell(settings, pool)
        health.set("database", None)
        health.set("migrations", None)
        with broker_errors.explain_errors(settings):
            await start_checks.check_broker(settings)
            if reset_offsets is not None:
                await progress.forget(pool)
                await offset_reset.reset(settings, reset_offsets)
        health.set("broker", None)
        health.set("topics", None)
        with database_errors.explain_errors(settings.database_url()):
            await retention.keep_days_of_hits(pool, settings.events.lateness)  # before the first batch needs today's
            await start_checks.analyze_tables(pool)
            goal_index = await start_checks.load_goals(pool)
        memory.tune_for_batches()
        health.set("goals", None)
        sender = Sender(settings)
        decoder = event_decoder(settings)
        decoder.cell = await start_checks.judged_cell(settings, pool)
        consumer = Consumer(settings)
        consumer.be_of_cell(cell_id)
        flow = worker.Worker(settings, pool, sender, consumer, goal_index, decoder)
        skew = clock_skew.ClockSkew(pool, decoder, consumer.take_records_ahead)
        with database_errors.explain_errors(settings.database_url()):
            await flow.paused_topics.read()
            await skew.measure()
        try:
            await _run_until_stopped(settings, pool, health, sender, consumer, flow, skew)
        finally:
            await sender.stop()


async def _run_until_stopped(
    settings: config.Settings,
    pool: AsyncEngine,
    health: ops_port.Health,
    sender: Sender,
    consumer: Consumer,
    flow: worker.Worker,
    skew: clock_skew.ClockSkew,
) -> None:
    keeping = housekeeping.Housekeeping(settings, pool, sender, flow.paused_topics.read, flow.claim_unpublished)
    writer = progress_writer.ProgressWriter(settings, pool, consumer)
    watch = health_watch.HealthWatch(settings, pool, health.set, consumer, lambda: flow.paused_topics.topics)
    others = {
        "housekeeping": keeping.run(),
        "clock": skew.run(),
        "progress": writer.run(),
        "watch": watch.run(),
    }
    await service.consume_until_stopped(flow.run(), flow.stop, others, health, consumer, "worker_ready")
    log.info("stopped")


def _initialise_metrics(settings: config.Settings) -> None:
    topics = settings.topics
    metrics.initialise(
        goalworker.__version__,
        goal_topics=list(topics.goal_inputs),
        lifecycle_topic=topics.workflow_lifecycle,
        redrive_topic=topics.redrive,
        outputs=topics.outputs,
    )
