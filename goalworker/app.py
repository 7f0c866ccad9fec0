"""The only place that wires things: what starts in which order, and what stops it."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import aiokafka
import stamina.instrumentation
from sqlalchemy.ext.asyncio import AsyncEngine

import goalworker
from goalworker import (
    database,
    decode,
    events,
    goal_store,
    index,
    kafka,
    logs,
    metrics,
    migrate,
    ops,
    tables,
    upkeep,
    watch,
    worker,
)
from goalworker import settings as settings_
from goalworker.errors import DependencyError, GoalworkerError, MigrationsBehindError

log = logs.get("app")

# Of the 20 s that a stop may take (contract section 6), what the batch under way gets.
DRAIN_SECONDS: Final = 12.0


def run_worker(settings: settings_.Settings) -> None:
    """Run the worker until SIGTERM or SIGINT; raises GoalworkerError with its exit code."""
    logs.configure(settings.log.level, settings.log.format, goalworker.__version__)
    _initialise_metrics(settings)
    stamina.instrumentation.set_on_retry_hooks([_log_retry])
    log.info("starting", command="run", settings=settings_.masked(settings))
    for name in settings.ignored_names:
        log.warning("setting_ignored", name=name)
    asyncio.run(_run_worker(settings))


async def _run_worker(settings: settings_.Settings) -> None:
    health = ops.Health(metrics.CHECKS)
    async with ops.serve(settings.ops.host, settings.ops.port_of("run"), health), _pool(settings) as pool:
        await _check_database(settings, pool)
        health.set("database", None)
        health.set("migrations", None)
        await _check_broker(settings)
        health.set("broker", None)
        health.set("topics", None)
        known = await _load_goals(settings, pool)
        health.set("goals", None)
        sender = kafka.Sender(settings)
        flow = worker.Worker(settings, pool, sender, known, _decoder(settings))
        await flow.pauses.read()
        try:
            await _run_until_stopped(settings, pool, health, sender, flow)
        finally:
            await sender.stop()


async def _run_until_stopped(
    settings: settings_.Settings, pool: AsyncEngine, health: ops.Health, sender: kafka.Sender, flow: worker.Worker
) -> None:
    consuming = asyncio.create_task(flow.run(), name="worker")
    health.consumer_alive = lambda: not consuming.done()
    beside = [
        asyncio.create_task(part, name=name)
        for name, part in {
            "ready": _announce(health, flow),
            "upkeep": upkeep.Upkeep(settings, pool, sender, flow.pauses.read).run(),
            "watch": watch.Watch(settings, pool, health.set, flow.reader, lambda: flow.pauses.topics).run(),
        }.items()
    ]
    stopping = asyncio.create_task(_signalled(), name="signals")
    try:
        await _first_to_end([consuming, *beside, stopping])
        log.info("stopping")
        flow.stop()
        await asyncio.wait({consuming}, timeout=DRAIN_SECONDS)
        if consuming.done():
            await consuming
    finally:
        await _cancelled([consuming, *beside, stopping])
    log.info("stopped")


async def _announce(health: ops.Health, flow: worker.Worker) -> None:
    await flow.reader.joined.wait()
    health.started = True
    log.info("worker_ready", partitions=len(flow.reader.partitions))
    await asyncio.Event().wait()


async def _signalled() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


async def _first_to_end(tasks: list[asyncio.Task[None]]) -> None:
    """Wait until one ends, and raise what ended it: none but the signals ends without an error."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        try:
            await task
        except BaseExceptionGroup as group:
            raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- what must be there first ---


@asynccontextmanager
async def _pool(settings: settings_.Settings) -> AsyncIterator[AsyncEngine]:
    pool = database.engine(
        settings.database_url(),
        pool_size=settings.database.pool_size,
        statement_timeout_seconds=settings.database.statement_timeout_seconds,
        application=settings.kafka.client_id,
    )
    try:
        yield pool
    finally:
        await pool.dispose()


async def _check_database(settings: settings_.Settings, pool: AsyncEngine) -> None:
    behind = await _or_explained(migrate.problem(pool), settings)
    if behind is not None:
        raise MigrationsBehindError(behind)
    found = await migrate.current(pool)
    if found != migrate.head():
        log.warning("database_is_newer", found=found, known=migrate.head())
    async with database.transaction(pool, tables.WORKER_ROLE, "goals") as connection:
        await goal_store.ensure_tracking(connection, settings.enrollments.tracking)


async def _or_explained(question: Coroutine[Any, Any, str | None], settings: settings_.Settings) -> str | None:
    try:
        return await question
    except Exception as error:
        if database.is_later(error) or database.is_refused(error):
            raise database.explained(settings.database_url(), error) from error
        raise


async def _check_broker(settings: settings_.Settings) -> None:
    admin = aiokafka.admin.AIOKafkaAdminClient(**settings_.kafka_client_options(settings))
    try:
        await admin.start()
        await _check_topics(settings, admin)
    except Exception as error:
        if isinstance(error, GoalworkerError):
            raise
        if kafka.is_later(error) or kafka.is_refused(error):
            raise kafka.explained(settings, error) from error
        raise
    finally:
        await admin.close()


async def _check_topics(settings: settings_.Settings, admin: Any) -> None:
    topics = settings.topics
    missing = kafka.missing_topics(settings, await admin.list_topics())
    if missing is not None:
        raise DependencyError(f"Kafka at {settings.bootstrap_servers()}: {missing}.")
    sizes = await kafka.max_message_bytes(admin, [*topics.inputs, topics.redrive, topics.dead_letters])
    larger = [topic for topic, size in sizes.items() if size > sizes[topics.dead_letters]]
    if larger:
        raise DependencyError(
            f"the topic {topics.dead_letters} takes messages of {sizes[topics.dead_letters]} bytes at most, less than "
            f"{', '.join(larger)}: a dead letter might not fit. Set its max.message.bytes to at least "
            f"{max(sizes.values())}."
        )


async def _load_goals(settings: settings_.Settings, pool: AsyncEngine) -> index.Index:
    known = index.Index()
    async with database.transaction(pool, tables.WORKER_ROLE, "goals") as connection:
        await goal_store.refresh(connection, known)
    metrics.goals_loaded.set(len(known))
    metrics.goals_loaded_timestamp_seconds.set_to_current_time()
    log.info("goals_loaded", goals=len(known), revision=known.revision)
    return known


def _decoder(settings: settings_.Settings) -> decode.Decoder:
    return decode.Decoder(
        kinds(settings),
        decode.Limits(
            max_bytes=settings.events.max_bytes,
            max_future=timedelta(seconds=settings.events.max_future_seconds),
            default_tenant=settings.events.default_tenant,
        ),
    )


def kinds(settings: settings_.Settings) -> dict[str, frozenset[str]]:
    """Return which types each topic may carry (contract section 2)."""
    topics = settings.topics
    types = dict(zip(topics.goal_inputs, events.GOAL_TYPE_OF_EVENT, strict=True))
    return {
        **{topic: frozenset({type_}) for topic, type_ in types.items()},
        topics.workflow_lifecycle: events.LIFECYCLE_TYPES,
    }


def _initialise_metrics(settings: settings_.Settings) -> None:
    topics = settings.topics
    metrics.initialise(
        goalworker.__version__,
        goal_topics=list(topics.goal_inputs),
        lifecycle_topic=topics.workflow_lifecycle,
        redrive_topic=topics.redrive,
        outputs=topics.outputs,
    )


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    log.warning(
        "retry",
        retry=details.retry_num,
        wait_seconds=round(details.wait_for, 2),
        error=logs.described(details.caused_by),
    )
