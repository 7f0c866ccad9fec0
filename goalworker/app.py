"""The only place that wires things: what starts in which order, and what stops it."""

import asyncio
import ipaddress
from datetime import timedelta
from typing import Final

import stamina.instrumentation
from sqlalchemy.ext.asyncio import AsyncEngine

import goalworker
from goalworker import (
    clock,
    database,
    decode,
    events,
    goal_store,
    logs,
    memory,
    metrics,
    offsets,
    ops,
    outages,
    sending,
    service,
    serving,
    start_checks,
    tables,
    upkeep,
    watch,
    worker,
)
from goalworker import settings as settings_
from goalworker.errors import SettingsError

log = logs.get("app")

# Of the 20 s that a stop may take (contract section 6), what is under way gets.
DRAIN_SECONDS: Final = 12.0


def run_worker(settings: settings_.Settings, *, reset_offsets: offsets.Target | None = None) -> None:
    """Run the worker until SIGTERM or SIGINT, from offsets set anew if asked; GoalworkerError with its exit code."""
    _begin(settings, "run")
    _initialise_metrics(settings)
    stamina.instrumentation.set_on_retry_hooks([_log_retry])
    with start_checks.refusals_explained(settings):
        service.run(_run_worker(settings, reset_offsets))


def _begin(settings: settings_.Settings, command: str) -> None:
    logs.configure(settings.log.level, settings.log.format, goalworker.__version__)
    logs.take_over_interpreter()
    if logs.is_json():
        log.info("starting", command=command, settings=settings_.masked(settings))
    else:
        where_from = settings_.sources_in_short(settings)
        log.info("starting", command=command, settings_from=where_from, more="`goalworker config show`")
    for name in settings.ignored_names:
        log.warning("setting_ignored", name=name)


async def _run_worker(settings: settings_.Settings, reset_offsets: offsets.Target | None) -> None:
    health = ops.Health(metrics.CHECKS)
    async with (
        ops.serve(settings.ops.host, settings.ops.port_of("run"), health),
        start_checks.open_pool(settings) as pool,
    ):
        await start_checks.check_database(settings, pool, tables.WORKER_ROLE, goal_store.ensure_tracking)
        health.set("database", None)
        health.set("migrations", None)
        with start_checks.broker_explained(settings):
            await start_checks.check_broker(settings)
            if reset_offsets is not None:
                await offsets.reset(settings, reset_offsets)
        health.set("broker", None)
        health.set("topics", None)
        with start_checks.explained(settings):
            known = await start_checks.load_goals(settings, pool)
        memory.settle()
        health.set("goals", None)
        sender = sending.Sender(settings)
        reading = decoder(settings)
        flow = worker.Worker(settings, pool, sender, known, reading)
        skew = clock.Skew(pool, reading, flow.reader.take_records_ahead)
        with start_checks.explained(settings):
            await flow.pauses.read()
            await skew.measure()
        try:
            await _run_until_stopped(settings, pool, health, sender, flow, skew)
        finally:
            await sender.stop()


async def _run_until_stopped(
    settings: settings_.Settings,
    pool: AsyncEngine,
    health: ops.Health,
    sender: sending.Sender,
    flow: worker.Worker,
    skew: clock.Skew,
) -> None:
    consuming = asyncio.create_task(flow.run(), name="worker")
    health.consumer_alive = lambda: not consuming.done()
    beside = [
        asyncio.create_task(part, name=name)
        for name, part in {
            "ready": _announce(health, flow),
            "upkeep": upkeep.Upkeep(settings, pool, sender, flow.pauses.read, flow.claim_unpublished).run(),
            "clock": skew.run(),
            "watch": watch.Watch(settings, pool, health.set, flow.reader, lambda: flow.pauses.topics).run(),
        }.items()
    ]
    stopping = asyncio.create_task(service.signalled(), name="signals")
    try:
        await service.first_to_end([consuming, *beside, stopping])
        log.info("stopping")
        flow.stop()
        await asyncio.wait({consuming}, timeout=DRAIN_SECONDS)
        if consuming.done():
            await consuming
    finally:
        await service.cancelled([consuming, *beside, stopping])
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
    with start_checks.refusals_explained(settings):
        service.run(_run_api(settings, insecure_tenant))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _run_api(settings: settings_.Settings, insecure_tenant: str | None) -> None:
    # Late, for a worker needs neither: that is a third of what it takes to start, and 20 MB.
    import httpx

    from goalworker import api

    journal = outages.Journal()
    health = ops.Health(metrics.API_CHECKS, journal=journal)
    async with (
        ops.serve(settings.ops.host, settings.ops.port_of("api"), health),
        start_checks.open_pool(settings) as pool,
        httpx.AsyncClient(timeout=settings.references.timeout_seconds) as client,
    ):
        await start_checks.check_database(settings, pool, tables.API_ROLE, goal_store.check_tracking)
        application = api.application(settings, pool, client, insecure_tenant=insecure_tenant, journal=journal)
        address = serving.Address(settings.api.host, settings.api.port, "The API", "API")
        async with serving.serve(application, address, drain_seconds=int(DRAIN_SECONDS)) as port:
            health.set("database", None)
            health.set("migrations", None)
            health.started = True
            log.info("api_ready", host=address.host, port=port, insecure=insecure_tenant is not None)
            stopping = asyncio.create_task(service.signalled(), name="signals")
            watching = asyncio.create_task(_watch_database(settings, pool, health, journal), name="watch")
            try:
                await service.first_to_end([stopping, watching])
            finally:
                await service.cancelled([stopping, watching])
            log.info("stopping")
    log.info("stopped")


async def _watch_database(
    settings: settings_.Settings, pool: AsyncEngine, health: ops.Health, journal: outages.Journal
) -> None:
    probe = watch.DatabaseProbe(pool, settings.database_url(), health.set)
    while True:
        await probe.look()
        journal.remind()
        idle, in_use = database.connections(pool)
        metrics.db_pool_connections.labels(state="idle").set(idle)
        metrics.db_pool_connections.labels(state="in_use").set(in_use)
        await asyncio.sleep(watch.PROBE_SECONDS)


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
    repeated = logs.repeated("retry", type(details.caused_by).__name__, shapes_max=2)
    if repeated is not None:
        log.warning(
            "retry",
            retry=details.retry_num,
            wait_seconds=round(details.wait_for, 2),
            error=logs.brief(details.caused_by),
            **repeated,
        )
