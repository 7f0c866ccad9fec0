"""Run the API: start-up, serving, shutdown."""

import asyncio
import ipaddress

from sqlalchemy.ext.asyncio import AsyncEngine

import goalworker
from goalworker import config, logs, metrics, outages
from goalworker.errors import SettingsError
from goalworker.postgres import connections, tables
from goalworker.runtime import database_probe, http_server, ops_port, service, start_checks
from goalworker.runtime.service import DRAIN_SECONDS, begin
from goalworker.stores import goal_store

log = logs.get("app")


def run_api(settings: config.Settings, *, insecure_tenant: str | None = None) -> None:
    """Serve the API until SIGTERM or SIGINT; raises GoalworkerError with its exit code.

    insecure_tenant: everybody is that tenant and may do everything, which is for a loopback address only.
    """
    if insecure_tenant is not None and not _is_loopback(settings.api.host):
        raise SettingsError(
            f"--insecure-tenant lets everybody in who can reach {settings.api.host}, and that may be anybody: "
            "use it with --host 127.0.0.1 only, or make a key with `goalworker keys create`"
        )
    begin(settings, "api")
    metrics.initialise_api(goalworker.__version__)
    with start_checks.explain_refusals(settings):
        service.run(_run_api(settings, insecure_tenant))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _run_api(settings: config.Settings, insecure_tenant: str | None) -> None:
    # Late, for a worker needs neither: that is a third of what it takes to start, and 20 MB.
    import httpx

    from goalworker import api

    journal = outages.Journal()
    health = ops_port.Health(metrics.API_CHECKS, journal=journal)
    async with (
        ops_port.serve(settings.ops.host, settings.ops.port_of("api"), health),
        start_checks.open_pool(settings) as pool,
        httpx.AsyncClient(timeout=settings.references.timeout_seconds) as client,
    ):
        await start_checks.check_database(settings, pool, tables.API_ROLE, goal_store.check_tracking)
        application = api.application(settings, pool, client, insecure_tenant=insecure_tenant, journal=journal)
        address = http_server.Address(settings.api.host, settings.api.port, "The API", "API")
        async with http_server.serve(application, address, drain_seconds=int(DRAIN_SECONDS)) as port:
            health.set("database", None)
            health.set("migrations", None)
            health.started = True
            log.info("api_ready", host=address.host, port=port, insecure=insecure_tenant is not None)
            stopping = asyncio.create_task(service.wait_for_signal(), name="signals")
            watching = asyncio.create_task(_watch_database(settings, pool, health, journal), name="watch")
            try:
                await service.wait_for_first([stopping, watching])
            finally:
                await service.cancel_and_wait([stopping, watching])
            log.info("stopping")
    log.info("stopped")


async def _watch_database(
    settings: config.Settings, pool: AsyncEngine, health: ops_port.Health, journal: outages.Journal
) -> None:
    probe = database_probe.DatabaseProbe(pool, settings.database_url(), health.set)
    while True:
        await probe.look()
        journal.remind()
        idle, in_use = connections.pool_usage(pool)
        metrics.db_pool_connections.labels(state="idle").set(idle)
        metrics.db_pool_connections.labels(state="in_use").set(in_use)
        await asyncio.sleep(database_probe.PROBE_SECONDS)
