"""Reports of the caller's tenant, counted or from the cache: the same for the routes of the API and for its pages."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from fastapi import Request
from sqlalchemy.ext import asyncio as sa_async

from goalworker.api import auth, csv_answers, middleware, parameters
from goalworker.domain import cohorts, messages
from goalworker.postgres import connections
from goalworker.stores import achievements, cohort_series, stats, times_to_goal, workflows

# Achievements that are read at once for CSV.
_CSV_PAGE = 1_000

Report = dict[str, Any]
T = TypeVar("T")


async def workflow_list(
    request: Request, caller: auth.Caller, context: parameters.Context, query: parameters.WorkflowsQuery
) -> Report:
    """Return a page of workflows with their numbers."""
    asked = query.model_dump()

    async def count(connection: sa_async.AsyncConnection, *, tracking: bool) -> Report:
        return await workflows.list_workflows(connection, caller.tenant_id, **asked, tracking=tracking)

    return await _cached(request, caller, context, ("workflows", *asked.values()), count)


async def workflow_stats(
    request: Request,
    caller: auth.Caller,
    context: parameters.Context,
    workflow_id: str,
    query: parameters.StatsQuery,
) -> Report:
    """Return the statistics of a workflow; UnknownWorkflowError."""
    span = query.since, query.until
    return await _of_workflow(request, caller, context, ("stats", workflow_id), span, stats.workflow_stats)


async def series(
    request: Request,
    caller: auth.Caller,
    context: parameters.Context,
    workflow_id: str,
    query: parameters.SeriesQuery,
) -> Sequence[cohorts.Cohort]:
    """Return the cohorts of a workflow; UnknownWorkflowError, TooManyPeriodsError."""
    read = cohort_series.cohort_series
    return await _of_workflow(request, caller, context, ("series", workflow_id), _periods(query), read)


async def conversions(
    request: Request, caller: auth.Caller, context: parameters.Context, workflow_id: str, since: datetime | None
) -> Sequence[cohorts.Cohort]:
    """Return the series by week since a time, without its revenue, which takes longest; UnknownWorkflowError."""
    query = parameters.SeriesQuery().model_copy(update={"since": since})
    read = cohort_series.without_revenue
    return await _of_workflow(request, caller, context, ("conversions", workflow_id), _periods(query), read)


def _periods(query: parameters.SeriesQuery) -> tuple[object, ...]:
    return query.by, query.horizon, query.since, query.until


async def times(
    request: Request,
    caller: auth.Caller,
    context: parameters.Context,
    workflow_id: str,
    query: parameters.TimesQuery,
) -> Report:
    """Return how long the goals of a workflow take; UnknownWorkflowError."""
    span = query.since, query.until
    read = times_to_goal.times_to_goal
    return await _of_workflow(request, caller, context, ("time-to-goal", workflow_id), span, read)


async def _of_workflow(
    request: Request,
    caller: auth.Caller,
    context: parameters.Context,
    report: tuple[str, str],
    asked: tuple[object, ...],
    read: Callable[..., Awaitable[T]],
) -> T:
    """Return a report of a workflow; UnknownWorkflowError. `report` is its name and the workflow."""
    _, workflow_id = report

    async def count(connection: sa_async.AsyncConnection, *, tracking: bool) -> T:
        await stats.require_workflow(connection, caller.tenant_id, workflow_id)
        return await read(connection, caller.tenant_id, workflow_id, *asked, tracking=tracking)

    return await _cached(request, caller, context, (*report, *asked), count)


async def _cached(
    request: Request,
    caller: auth.Caller,
    context: parameters.Context,
    key: tuple[object, ...],
    count: Callable[..., Awaitable[T]],
) -> T:
    """Return a report of the caller's tenant from the cache, or count it in a transaction."""
    settings = context.settings
    middleware.allow(request, settings.database.statement_timeout_seconds)

    async def make() -> T:
        async with connections.tenant_transaction(context.pool, caller.tenant_id, "stats") as connection:
            return await count(connection, tracking=settings.enrollments.tracking)

    return await context.answers.answer((caller.tenant_id, *key), make)


# --- achievements ---

AchievementPage = tuple[list[messages.Achieved], str | None]


async def achievement_page(
    caller: auth.Caller,
    context: parameters.Context,
    workflow_id: str,
    query: parameters.AchievementsQuery,
    limit: int | None = None,
) -> AchievementPage:
    """Return a page of achievements, of `limit` if given, and the cursor of the next; UnknownWorkflowError."""
    asked = query.model_dump(exclude={"limit", "format"})
    async with connections.tenant_transaction(context.pool, caller.tenant_id, "stats") as connection:
        found, next_cursor = await achievements.list_achievements(
            connection, caller.tenant_id, workflow_id, limit=limit or query.limit, **asked
        )
        if not found:
            await stats.require_workflow(connection, caller.tenant_id, workflow_id)
    return found, next_cursor


async def achievement_rows(
    caller: auth.Caller,
    context: parameters.Context,
    workflow_id: str,
    query: parameters.AchievementsQuery,
) -> AsyncIterator[Iterable[csv_answers.Row]]:
    """Return rows of CSV of all achievements from the query's cursor on; UnknownWorkflowError, before the first row."""
    found, cursor = await achievement_page(caller, context, workflow_id, query, _CSV_PAGE)

    async def pages() -> AsyncIterator[Iterable[csv_answers.Row]]:
        yield [csv_answers.ACHIEVEMENT, *map(csv_answers.achievement_row, found)]
        next_cursor = cursor
        while next_cursor is not None:
            asked = query.model_copy(update={"cursor": next_cursor})
            rows, next_cursor = await achievement_page(caller, context, workflow_id, asked, _CSV_PAGE)
            yield map(csv_answers.achievement_row, rows)

    return pages()
