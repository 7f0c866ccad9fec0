"""API service: start-up, serving, shutdown."""

import asyncio
import ipaddress

from sqlalchemy.ext.asyncio import AsyncEngine

import goalworker
from goalworker import config, logs, metrics, outages
from goalworker.errors import SettingsError
from goalworker.kafka import memory
from goalworker.postgres import connections, tables
from goalworker.runtime import database_probe, http_server, ops_port, service, start_checks
from goalworker.runtime.service import DRAIN_SECONDS, begin
from goalworker.stores import goal_store

log = logs.get("app")


def run_api(settings: config.Settings, *, insecure_tenant: str | None = None) -> None:
    """Serve the API until SIGTERM or SIGINT; raises GoalworkerError.

    insecure_tenant: every request acts as this tenant with all scopes, which only a loopback address allows.
    """
    if insecure_tenant is not None and not _is_loopback(settings.api.host):
        raise SettingsError(
            f"--insecure-tenant grants access to everyone who can reach {settings.api.host}: use it with "
            "--host 127.0.0.1 only, or create a key with `goalworker keys create`"
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
    # Imported late, since a worker needs neither: they take a third of the time to start, and 20 MB.
    import httpx

    from goalworker import api
    from goalworker.console import mounting

    journal = outages.Journal()
    health = ops_port.Health(metrics.API_CHECKS, journal=journal)
    async with (
        ops_port.serve(settings.ops.host, settings.ops.port_of("api"), health),
        start_checks.open_pool(settings) as pool,
        httpx.AsyncClient(timeout=settings.references.timeout_seconds) as client,
    ):
        await start_checks.check_database(settings, pool, tables.API_ROLE, goal_store.check_tracking)
        feed = api.live_feed_of(pool)
        application = api.application(
            settings,
            pool,
            client,
            insecure_tenant=insecure_tenant,
            journal=journal,
            feed=feed,
            extend=mounting.mount if settings.api.console else None,
        )
        address = http_server.Address(settings.api.host, settings.api.port, "The API", "API")
        async with http_server.serve(application, address, drain_seconds=int(DRAIN_SECONDS)) as port:
            health.set("database", None)
            health.set("migrations", None)
            health.started = True
            memory.exclude_present_objects()
            log.info("api_ready", host=address.host, port=port, insecure=insecure_tenant is not None)
            watch = _watch_database(settings, pool, health, journal)
            async with service.running({"signals": service.wait_for_signal(), "watch": watch}) as tasks:
                await service.wait_for_first(tasks)
            log.info("stopping")
            feed.close()
    log.info("stopped")


async def _watch_database(
    settings: config.Settings, pool: AsyncEngine, health: ops_port.Health, journal: outages.Journal
) -> None:
    probe = database_probe.DatabaseProbe(pool, settings.database_url(), health.set)
    while True:
        await probe.look()
        journal.remind()
        connections.measure_pool(pool)
        await asyncio.sleep(database_probe.PROBE_SECONDS)
