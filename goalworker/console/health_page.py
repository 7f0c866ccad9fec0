"""Health page: the verdict and the numbers behind it, the lag, and the banner of all pages."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from goalworker.console import addresses, health_reading, health_view, kafka_answers, rendering, visitors
from goalworker.inspection import outbox_report

HEALTH: Final = f"{addresses.CONSOLE}/health"
BANNER: Final = f"{addresses.CONSOLE}/banner"

router = APIRouter(include_in_schema=False)


@router.get(HEALTH)
async def show_health(request: Request, visitor: visitors.Reader) -> Response:
    """Show whether the installation is healthy: what PostgreSQL tells, so that a broker that is away delays nothing."""
    reading = health_reading.of(request)
    installation = await reading.installation()
    tenant = await reading.of_tenant(visitor.caller.tenant_id)
    return rendering.page(
        request,
        visitor,
        "_health.html" if rendering.is_fragment(request) else "health.html",
        verdict=health_view.verdict(installation, tenant),
        installation=installation,
        tenant=tenant,
        topics=health_view.topics(installation),
        pending=health_view.waiting(installation),
        refusals=[outbox_report.sentence(held, held.topic) for held in installation.refused],
        skew=health_view.skew_sentence(installation.skew),
        now=installation.at,
    )


@router.get(f"{HEALTH}/lag")
async def show_lag(request: Request, visitor: visitors.Reader) -> Response:
    """Show how many records wait for the workers, as Kafka tells."""
    found = await kafka_answers.of(request).lag()
    lag = found if isinstance(found, kafka_answers.Unanswered) else health_view.lag(found)
    name = "_lag.html" if rendering.is_fragment(request) else "lag.html"
    return rendering.page(request, visitor, name, **kafka_answers.split(lag, "lag"))


@router.get(BANNER)
async def show_banner(request: Request, visitor: visitors.Reader) -> Response:
    """Show a sentence while no worker makes progress, and nothing otherwise."""
    reason = health_view.about_workers(await health_reading.of(request).liveness())
    return rendering.page(request, visitor, "_banner.html", reason=reason)
