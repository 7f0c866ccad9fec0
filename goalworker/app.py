"""The only place that wires things: what starts in which order, and what stops it."""

import asyncio
import ipaddress
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, Final, cast

import stamina.instrumentation
from sqlalchemy.ext.asyncio import AsyncEngine

import goalworker
from goalworker import (
    broker_errors,
    database,
    decode,
    events,
    goal_store,
    index,
    kafka,
    logs,
    memory,
    metrics,
    migrate,
    offsets,
    ops,
    sending,
    serving,
    tables,
    topic_limits,
    upkeep,
    watch,
    worker,
)
from goalworker import settings as settings_
from goalworker.errors import DependencyError, MigrationsBehindError, SettingsError

log = logs.get("app")

# Of the 20 s that a stop may take (contract section 6), what is under way gets.
DRAIN_SECONDS: Final = 12.0


def run_worker(settings: settings_.Settings, *, reset_offsets: offsets.Target | None = None) -> None:
    """Run the worker until SIGTERM or SIGINT, from offsets set anew if asked; GoalworkerError with its exit code."""
    _begin(settings, "run")
    _initialise_metrics(settings)
    stamina.instrumentation.set_on_retry_hooks([_log_retry])
    with _refusals_explained(settings):
        _run(_run_worker(settings, reset_offsets))


def _begin(settings: settings_.Settings, command: str) -> None:
    logs.configure(settings.log.level, settings.log.format, goalworker.__version__)
    log.info("starting", command=command, settings=settings_.masked(settings))
    for name in settings.ignored_names:
        log.warning("setting_ignored", name=name)


async def _run_worker(settings: settings_.Settings, reset_offsets: offsets.Target | None) -> None:
    health = ops.Health(metrics.CHECKS)
    async with ops.serve(settings.ops.host, settings.ops.port_of("run"), health), _pool(settings) as pool:
        await _check_database(settings, pool, tables.WORKER_ROLE, goal_store.ensure_tracking)
        health.set("database", None)
        health.set("migrations", None)
        with _broker_explained(settings):
            await _check_broker(settings)
            if reset_offsets is not None:
                await offsets.reset(settings, reset_offsets)
        health.set("broker", None)
        health.set("topics", None)
        with _explained(settings):
            known = await _load_goals(settings, pool)
        memory.settle()
        health.set("goals", None)
        sender = sending.Sender(settings)
        flow = worker.Worker(settings, pool, sender, known, decoder(settings))
        with _explained(settings):
            await flow.pauses.read()
        try:
            await _run_until_stopped(settings, pool, health, sender, flow)
        finally:
            await sender.stop()


def _run(service: Coroutine[Any, Any, None]) -> None:
    """Run a service to its end; SIGTERM before it listens to signals itself cancels what it waits for."""
    signalled: list[bool] = []

    async def cancelled_by_sigterm() -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: signalled.append(task.cancel()))
        await service

    try:
        asyncio.run(cancelled_by_sigterm())
    except asyncio.CancelledError:
        if not signalled:
            raise
        log.info("stopped")


async def _run_until_stopped(
    settings: settings_.Settings, pool: AsyncEngine, health: ops.Health, sender: sending.Sender, flow: worker.Worker
) -> None:
    consuming = asyncio.create_task(flow.run(), name="worker")
    health.consumer_alive = lambda: not consuming.done()
    beside = [
        asyncio.create_task(part, name=name)
        for name, part in {
            "ready": _announce(health, flow),
            "upkeep": upkeep.Upkeep(settings, pool, sender, flow.pauses.read, flow.claim_unpublished).run(),
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


# --- the API ---


def run_api(settings: settings_.Settings, *, insecure_tenant: str | None = None) -> None:
    """Serve the API until SIGTERM or SIGINT; raises GoalworkerError with its exit code.

    insecure_tenant: everybody is that tenant and may do everything, which is for a loopback address only.
    """
    if insecure_tenant is not None and not _is_loopback(settings.api.host):
        raise SettingsError(
            f"--insecure-tenant lets everybody in who can reach {settings.api.host}, and that may be anybody: "
            "use it with --host 127.0.0.1 only, or make a key with `goalworker keys create`"
        )
    _begin(settings, "api")
    metrics.initialise_api(goalworker.__version__)
    with _refusals_explained(settings):
        _run(_run_api(settings, insecure_tenant))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _run_api(settings: settings_.Settings, insecure_tenant: str | None) -> None:
    # Late, for a worker needs neither: that is a third of what it takes to start, and 20 MB.
    import httpx

    from goalworker import api

    health = ops.Health(metrics.API_CHECKS)
    async with (
        ops.serve(settings.ops.host, settings.ops.port_of("api"), health),
        _pool(settings) as pool,
        httpx.AsyncClient(timeout=settings.references.timeout_seconds) as client,
    ):
        await _check_database(settings, pool, tables.API_ROLE, goal_store.check_tracking)
        application = api.application(settings, pool, client, insecure_tenant=insecure_tenant)
        address = serving.Address(settings.api.host, settings.api.port, "The API", "API")
        async with serving.serve(application, address, drain_seconds=int(DRAIN_SECONDS)) as port:
            health.set("database", None)
            health.set("migrations", None)
            health.started = True
            log.info("api_ready", host=address.host, port=port, insecure=insecure_tenant is not None)
            stopping = asyncio.create_task(_signalled(), name="signals")
            watching = asyncio.create_task(_watch_database(pool, health), name="watch")
            try:
                await _first_to_end([stopping, watching])
            finally:
                await _cancelled([stopping, watching])
            log.info("stopping")
    log.info("stopped")


async def _watch_database(pool: AsyncEngine, health: ops.Health) -> None:
    while True:
        await migrate.probe(pool, health.set)
        idle, in_use = database.connections(pool)
        metrics.db_pool_connections.labels(state="idle").set(idle)
        metrics.db_pool_connections.labels(state="in_use").set(in_use)
        await asyncio.sleep(watch.PROBE_SECONDS)


# --- start and stop ---


async def _signalled() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup has it ignored
        loop.add_signal_handler(signal.SIGHUP, stop.set)
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


async def _check_database(
    settings: settings_.Settings,
    pool: AsyncEngine,
    role: str,
    check_tracking: Callable[[database.Connection, bool], Awaitable[None]],
) -> None:
    with _explained(settings):
        behind = await migrate.problem(pool)
        if behind is not None:
            raise MigrationsBehindError(behind)
        found = await migrate.current(pool)
        if found != migrate.head():
            log.warning("database_is_newer", found=found, known=migrate.head())
        async with database.transaction(pool, role, "goals") as connection:
            await check_tracking(connection, settings.enrollments.tracking)


@contextmanager
def _explained(settings: settings_.Settings) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if database.is_later(error) or database.is_refused(error):
            raise database.explained(settings.database_url(), error) from error
        raise


@contextmanager
def _refusals_explained(settings: settings_.Settings) -> Iterator[None]:
    """Say in a sentence what is refused later on: a right was taken away, or is missed only when it is needed."""
    try:
        yield
    except Exception as error:
        if database.is_refused(error):
            raise database.explained(settings.database_url(), error) from error
        if kafka.is_refused(error):
            raise broker_errors.explained(settings, error) from error
        raise


@contextmanager
def _broker_explained(settings: settings_.Settings) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if kafka.is_later(error) or kafka.is_refused(error):
            raise broker_errors.explained(settings, error) from error
        raise


async def _check_broker(settings: settings_.Settings) -> None:
    admin = kafka.admin(settings)
    try:
        await admin.start()
        await _check_topics(settings, admin)
    finally:
        await admin.close()


async def _check_topics(settings: settings_.Settings, admin: Any) -> None:
    topics = settings.topics
    missing = kafka.missing_topics(settings, await admin.list_topics())
    if missing is not None:
        raise DependencyError(f"Kafka at {settings.bootstrap_servers()}: {missing}.")
    served = {*topics.inputs, topics.redrive}
    checked = {*served, topics.dead_letters, *topics.outputs}
    sizes = await kafka.max_message_bytes(admin, checked)
    if untold := checked - set(sizes):
        log.warning("topic_configuration_untold", topics=sorted(untold), remedy="allow DESCRIBE_CONFIGS on them")
    # Not an error: what a topic out refuses waits by itself, and a worker that does not start stops everything else.
    for small in topic_limits.too_small(settings, sizes):
        log.warning("topic_too_small", topic=small.topic, limit_bytes=small.limit, problem=str(small))
    room = sizes.get(topics.dead_letters)
    larger = [topic for topic, size in sizes.items() if topic in served and room is not None and size > room]
    if larger:
        raise DependencyError(
            f"the topic {topics.dead_letters} takes messages of {room} bytes at most, less than "
            f"{', '.join(larger)}: a dead letter might not fit. Set its max.message.bytes to at least "
            f"{max(sizes[topic] for topic in larger)}."
        )


async def _load_goals(settings: settings_.Settings, pool: AsyncEngine) -> index.Index:
    known = index.Index()
    async with database.transaction(pool, tables.WORKER_ROLE, "goals") as connection:
        await goal_store.refresh(connection, known)
    metrics.goals_loaded.set(len(known))
    metrics.goals_loaded_timestamp_seconds.set_to_current_time()
    log.info("goals_loaded", goals=len(known), revision=known.revision)
    return known


def decoder(settings: settings_.Settings) -> decode.Decoder:
    """Return the decoder of the topics in, by the settings."""
    wanted = settings.events
    limits = decode.Limits(
        max_bytes=wanted.max_bytes,
        max_future=timedelta(seconds=wanted.max_future_seconds),
        default_tenant=wanted.default_tenant,
        tenant_from=wanted.tenant_from,
        plain_json=wanted.plain_json,
        plain_id=wanted.plain_id,
    )
    return decode.Decoder(kinds(settings), limits)


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
        error=logs.brief(details.caused_by),
    )
