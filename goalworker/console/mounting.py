"""The console as a part of the API's application."""

from typing import Final

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import RedirectResponse, Response

from goalworker import api
from goalworker.api import parameters
from goalworker.console import (
    addresses,
    backfill_page,
    contact_page,
    contact_reveal,
    dead_letter_page,
    error_pages,
    feed,
    goal_form_page,
    goal_page,
    health_page,
    health_reading,
    installation,
    kafka_answers,
    login_limits,
    login_routes,
    overview,
    plan_page,
    rendering,
    static_files,
    workflow_page,
    workflow_rows,
)

_ROOT: Final = APIRouter(include_in_schema=False)
# Order matters where addresses overlap: ids may have slashes.
_ROUTERS: Final = (
    _ROOT,
    static_files.router,
    login_routes.router,
    contact_reveal.router,
    contact_page.router,
    overview.router,
    feed.router,
    workflow_page.router,
    workflow_rows.router,
    goal_form_page.router,
    goal_page.router,
    plan_page.router,
    backfill_page.router,
    health_page.router,
    dead_letter_page.router,
)


def mount(app: FastAPI) -> None:
    """Add the console to the application of the API."""
    context: parameters.Context = app.state.context
    app.state.console = installation.Installation(context.pool)
    app.state.login_limits = login_limits.LoginLimits()
    app.state.health_reading = health_reading.HealthReading(context.settings, context.pool)
    app.state.kafka_answers = kafka_answers.KafkaAnswers(context.settings)
    for router in _ROUTERS:
        api.include(app, router)
    error_pages.install(app)


@_ROOT.get("/")
async def show_console(request: Request) -> Response:
    """Send visitors of the bare address to the console."""
    return RedirectResponse(addresses.url(request, addresses.CONSOLE), 303, rendering.HEADERS)
