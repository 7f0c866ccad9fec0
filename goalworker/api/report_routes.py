"""Routes of reports: the statistics, cohorts, times to goal and achievements of a workflow."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext import asyncio as sa_async
from starlette.responses import Response

from goalworker.api import auth, csv_answers, middleware, openapi, parameters, problems
from goalworker.domain import messages
from goalworker.postgres import connections
from goalworker.stores import achievements, answer_cache, cohort_series, stats, times_to_goal, workflows

router = APIRouter(tags=[openapi.REPORTS])

# Achievements that are read at once for CSV.
_CSV_PAGE = 1_000


@router.get(
    "/api/v1/workflows",
    summary="List workflows with their numbers",
    **openapi.answers(200, "A page of workflows", "Workflows", others=[problems.INVALID]),
)
async def list_workflows(
    request: Request,
    caller: auth.Reader,
    context: parameters.InContext,
    query: Annotated[parameters.WorkflowsQuery, Query()],
) -> Response:
    """List the workflows that a goal, a logic or a message has named, by id, with numbers as in their statistics.

    A slow answer is cached as with the statistics.
    """
    asked = query.model_dump()

    async def count(connection: sa_async.AsyncConnection, *, tracking: bool) -> answer_cache.Answer:
        return await workflows.list_workflows(connection, caller.tenant_id, **asked, tracking=tracking)

    return parameters.json_answer(await _cached(request, caller, context, ("workflows", *asked.values()), count))


@router.get(
    f"{parameters.GOALS}/stats",
    summary="Get a workflow's statistics",
    **openapi.answers(200, "The statistics", "Stats", others=[problems.INVALID]),
)
async def get_stats(
    request: Request,
    caller: auth.Reader,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    query: Annotated[parameters.StatsQuery, Query()],
) -> Response:
    """Get conversions, times to goal and revenue of the enrollments that began in a span of time.

    A slow answer is cached for thirty times as long as it took; for as long again it is returned while it is refreshed.
    """

    async def count(connection: sa_async.AsyncConnection, *, tracking: bool) -> answer_cache.Answer:
        await stats.require_workflow(connection, caller.tenant_id, workflow_id)
        return await stats.workflow_stats(
            connection, caller.tenant_id, workflow_id, query.since, query.until, tracking=tracking
        )

    key = ("stats", workflow_id, query.since, query.until)
    return parameters.json_answer(await _cached(request, caller, context, key, count))


@router.get(
    f"{parameters.STATS}/series",
    summary="Get a workflow's conversion by period of enrollment",
    **openapi.answers(
        200,
        "The cohorts, oldest first",
        "Series",
        others=[problems.INVALID],
        texts={csv_answers.MEDIA_TYPE: "A line for each cohort"},
    ),
)
async def get_series(
    request: Request,
    caller: auth.Reader,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    query: Annotated[parameters.SeriesQuery, Query()],
) -> Response:
    """Get enrollments, conversions and revenue by the day, week or month in which enrollments began.

    `converted`, `gross` and `net` add up to the statistics of the same span. Rates compare cohorts after the same time:
    `rate` is the percentage that converted within the horizon, with Wilson's 95 % interval from `low` to `high`. It is
    null while some enrollment of the cohort has not had the horizon, up to which everything is judged. A payment that
    met enrollments of several cohorts counts for the first one. A slow answer is cached as with the statistics.
    """

    async def count(connection: sa_async.AsyncConnection, *, tracking: bool) -> answer_cache.Answer:
        await stats.require_workflow(connection, caller.tenant_id, workflow_id)
        span = query.since, query.until
        series = await cohort_series.cohort_series(
            connection, caller.tenant_id, workflow_id, query.by, query.horizon, *span, tracking=tracking
        )
        return {"series": series}

    key = ("series", workflow_id, query.by, query.horizon, query.since, query.until)
    series = (await _cached(request, caller, context, key, count))["series"]
    if csv_answers.wanted(request, query.format):
        return csv_answers.answer("series", csv_answers.cohort_rows(series))
    return parameters.json_answer(series, headers=csv_answers.VARY)


@router.get(
    f"{parameters.STATS}/time-to-goal",
    summary="Get how long a workflow's goals take",
    **openapi.answers(200, "The times to goal", "TimesToGoal", others=[problems.INVALID]),
)
async def get_times_to_goal(
    request: Request,
    caller: auth.Reader,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    query: Annotated[parameters.TimesQuery, Query()],
) -> Response:
    """Get how long enrollments took to convert: quantiles, a histogram, and the cumulative incidence.

    The incidence is the percentage of enrollments that converted within a time (Aalen and Johansen's estimate):
    enrollments that ended without a goal are a competing event, and open ones count for as long as they were observed.
    A slow answer is cached as with the statistics.
    """

    async def count(connection: sa_async.AsyncConnection, *, tracking: bool) -> answer_cache.Answer:
        await stats.require_workflow(connection, caller.tenant_id, workflow_id)
        return await times_to_goal.times_to_goal(
            connection, caller.tenant_id, workflow_id, query.since, query.until, tracking=tracking
        )

    key = ("time-to-goal", workflow_id, query.since, query.until)
    return parameters.json_answer(await _cached(request, caller, context, key, count))


@router.get(
    f"{parameters.WORKFLOW}/achievements",
    summary="List a workflow's achievements",
    **openapi.answers(
        200,
        "A page of achievements",
        "Achievements",
        others=[problems.INVALID],
        texts={csv_answers.MEDIA_TYPE: "A line for each achievement, of all pages from the cursor on"},
    ),
)
async def list_achievements(
    request: Request,
    caller: auth.Reader,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    query: Annotated[parameters.AchievementsQuery, Query()],
) -> Response:
    """List a workflow's achievements in the order of their events, without revoked ones."""
    asked = query.model_dump(exclude={"cursor", "limit", "format"})

    async def page(cursor: str | None, limit: int) -> tuple[list[messages.Achieved], str | None]:
        async with connections.tenant_transaction(context.pool, caller.tenant_id, "stats") as connection:
            found, next_cursor = await achievements.list_achievements(
                connection, caller.tenant_id, workflow_id, cursor=cursor, limit=limit, **asked
            )
            if not found:
                await stats.require_workflow(connection, caller.tenant_id, workflow_id)
        return found, next_cursor

    as_csv = csv_answers.wanted(request, query.format)
    found, next_cursor = await page(query.cursor, _CSV_PAGE if as_csv else query.limit)
    if not as_csv:
        answer = {"achievements": found, "next_cursor": next_cursor}
        return parameters.json_answer(answer, headers=csv_answers.VARY)

    async def pages() -> AsyncIterator[Iterable[csv_answers.Row]]:
        rows, cursor = found, next_cursor
        yield [csv_answers.ACHIEVEMENT, *map(csv_answers.achievement_row, rows)]
        while cursor is not None:
            rows, cursor = await page(cursor, _CSV_PAGE)
            yield map(csv_answers.achievement_row, rows)

    return csv_answers.stream(request, "achievements", pages())


async def _cached(
    request: Request,
    caller: auth.Caller,
    context: parameters.Context,
    key: tuple[object, ...],
    count: Callable[..., Awaitable[answer_cache.Answer]],
) -> dict[str, Any]:
    """Return a report of the caller's tenant from the cache, or count it in a transaction."""
    settings = context.settings
    middleware.allow(request, settings.database.statement_timeout_seconds)

    async def make() -> answer_cache.Answer:
        async with connections.tenant_transaction(context.pool, caller.tenant_id, "stats") as connection:
            return await count(connection, tracking=settings.enrollments.tracking)

    return await context.answers.answer((caller.tenant_id, *key), make)
