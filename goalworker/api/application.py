"""The application: its routes and the answers to errors."""

from collections.abc import Callable
from typing import Any, Final

import httpx
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.ext import asyncio as sa_async
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp

import goalworker
from goalworker import config, errors, outages
from goalworker.api import (
    audit_routes,
    auth,
    backfill_routes,
    check_routes,
    docs_routes,
    enrollment_routes,
    explanation_routes,
    feed_routes,
    goal_routes,
    live_feed,
    middleware,
    openapi,
    own_tenants,
    parameters,
    plan_routes,
    problems,
    references,
    report_routes,
    seen_value_routes,
    validation,
)
from goalworker.domain import cohorts
from goalworker.domain.faults import Fault
from goalworker.postgres import database_errors
from goalworker.stores import (
    achievements,
    answer_cache,
    cell_store,
    contact_facts,
    goal_store,
    jobs,
    recent_effects,
    stats,
)

# Order matters: `stats` would match as the id of a goal.
_ROUTERS: Final = (
    check_routes.router,
    report_routes.router,
    plan_routes.router,
    backfill_routes.router,
    explanation_routes.router,
    seen_value_routes.router,
    audit_routes.router,
    feed_routes.router,
    goal_routes.router,
    enrollment_routes.router,
    docs_routes.router,
)


def application(
    settings: config.Settings,
    pool: sa_async.AsyncEngine,
    client: httpx.AsyncClient,
    *,
    insecure_tenant: str | None = None,
    journal: outages.Journal | None = None,
    feed: live_feed.LiveFeed | None = None,
    extend: Callable[[FastAPI], None] | None = None,
) -> ASGIApp:
    """Return the API; with insecure_tenant every caller is that tenant and has all scopes.

    feed: the live feed, for a caller that closes it when the process stops.
    extend: adds routes that are not of the API.
    """
    journal = journal or outages.Journal()
    app = _routed()
    app.state.context = parameters.Context(
        settings,
        pool,
        references.References(settings.references, client, journal),
        answer_cache.AnswerCache(),
        feed or live_feed_of(pool),
    )
    app.state.own_tenants = own_tenants.OwnTenants(pool, settings.cell.buckets)
    app.state.authenticator = auth.authenticator(settings, pool, client, insecure_tenant, journal)
    app.state.answer_problem = answer_problem
    if extend is not None:
        extend(app)
    app.add_middleware(middleware.Deadline)
    return middleware.RequestMiddleware(app, settings.api.root_path)


def live_feed_of(pool: sa_async.AsyncEngine) -> live_feed.LiveFeed:
    """Return a live feed of what a database records."""
    return live_feed.LiveFeed(recent_effects.RecordedEffects(pool))


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return _routed().openapi()


def _routed() -> FastAPI:
    app = FastAPI(
        title="goalworker API",
        version=goalworker.__version__,
        description="Goals of workflows: detects when an enrolled contact meets one, and tells the engine to stop.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.routers = []
    for router in _ROUTERS:
        include(app, router)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    for error, handler in _HANDLERS.items():
        app.add_exception_handler(error, handler)
    return app


def include(app: FastAPI, router: APIRouter) -> None:
    """Add a router, whose methods then are named where another method is refused."""
    app.include_router(router)
    app.state.routers.append(router)


# --- errors ---


def answer_problem(_request: Request, problem: problems.ProblemError) -> Response:
    """Return a problem as a response of the API."""
    return problems.answer(problem)


async def _problem(request: Request, error: Any) -> Response:
    request.state.problem = error  # for the request's line in the log
    answer: Response = request.app.state.answer_problem(request, error)
    return answer


async def _router_problem(request: Request, error: Any) -> Response:
    if error.status_code != problems.METHOD_NOT_ALLOWED.status:
        return await _problem(request, problems.ProblemError(problems.NOT_FOUND, "No such address"))
    allowed = ", ".join(sorted(_methods(request))) or error.headers["Allow"]
    detail = f"{request.method} is not allowed here; allowed: {allowed}"
    return await _problem(
        request, problems.ProblemError(problems.METHOD_NOT_ALLOWED, detail, headers={"Allow": allowed})
    )


def _methods(request: Request) -> set[str]:
    """Return the methods of all routes at the address; the router names those of one route only."""
    routers: list[APIRouter] = request.app.state.routers
    routes = [route for router in routers for route in router.routes if route.matches(request.scope)[0] != Match.NONE]
    return {method for route in routes for method in getattr(route, "methods", ())}


async def _invalid_parameters(request: Request, error: Any) -> Response:
    """Answer 404 to an invalid path, 400 to an invalid query or header."""
    found = error.errors()
    faults = [validation.query_fault(invalid) for invalid in found]
    if any(invalid["loc"][0] == "path" for invalid in found):
        return await _problem(request, problems.ProblemError(problems.NOT_FOUND, faults[0].detail))
    return await _problem(request, problems.invalid(faults))


async def _refused(request: Request, error: Any) -> Response:
    return await _problem(request, problem_of(error))


def problem_of(
    error: problems.ProblemError | errors.GoalworkerError | cohorts.TooManyPeriodsError,
) -> problems.ProblemError:
    """Return the problem that a refusal is to a caller, whichever layer refused."""
    return error if isinstance(error, problems.ProblemError) else _refusal(error)


def _refusal(error: errors.GoalworkerError | cohorts.TooManyPeriodsError) -> problems.ProblemError:
    match error:
        case goal_store.InvalidGoalError():
            return problems.invalid(error.faults)
        case cohorts.TooManyPeriodsError():
            return problems.invalid([Fault("?by", str(error))])
        case achievements.CursorError():
            return problems.invalid([Fault("?cursor", str(error))])
        case goal_store.LockBusyError():
            return problems.unavailable("The goals are locked by another change")
        case goal_store.TooManyGoalsError():
            return problems.ProblemError(problems.TOO_MANY_GOALS, error.sentence, [Fault("", error.remedy)])
        case _:
            return problems.ProblemError(_KINDS[type(error)], str(error))


_KINDS: Final[dict[type[errors.GoalworkerError], problems.Kind]] = {
    goal_store.GoalNotFoundError: problems.NOT_FOUND,
    goal_store.DuplicateGoalError: problems.DUPLICATE_GOAL,
    goal_store.StaleGoalError: problems.STALE,
    stats.UnknownWorkflowError: problems.NOT_FOUND,
    jobs.JobNotFoundError: problems.NOT_FOUND,
    jobs.TooManyJobsError: problems.JOB_REFUSED,
    goal_store.BackfillRefusedError: problems.JOB_REFUSED,
    contact_facts.NothingKnownError: problems.NOT_FOUND,
    cell_store.ForeignTenantError: problems.FOREIGN_TENANT,
}


async def _unforeseen(request: Request, error: Exception) -> Response:
    """Answer 503 to a failure of the database and 500 to a bug; the middleware logs either."""
    if database_errors.kind_of_outage(error) == "refused":
        problem = problems.refused("The database refuses a right that this needs", "database")
    elif database_errors.is_transient(error):
        problem = problems.unavailable(f"The database {database_errors.condition(error)}", "database")
    else:
        problem = problems.ProblemError(problems.BUG, "This is a bug; the log has details under the request id")
    return await _problem(request, problem)


_HANDLERS: Final[dict[type[Exception], Any]] = {
    problems.ProblemError: _problem,
    HTTPException: _router_problem,
    RequestValidationError: _invalid_parameters,
    goal_store.InvalidGoalError: _refused,
    goal_store.LockBusyError: _refused,
    goal_store.TooManyGoalsError: _refused,
    achievements.CursorError: _refused,
    cohorts.TooManyPeriodsError: _refused,
    **dict.fromkeys(_KINDS, _refused),
    Exception: _unforeseen,
}
