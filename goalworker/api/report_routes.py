"""Routes of reports: the statistics, cohorts, times to goal and achievements of a workflow."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from goalworker.api import auth, csv_answers, openapi, parameters, problems, reports

router = APIRouter(tags=[openapi.REPORTS])


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
    return parameters.json_answer(await reports.workflow_list(request, caller, context, query))


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
    return parameters.json_answer(await reports.workflow_stats(request, caller, context, workflow_id, query))


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

    series = await reports.series(request, caller, context, workflow_id, query)
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
    return parameters.json_answer(await reports.times(request, caller, context, workflow_id, query))


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
    if csv_answers.wanted(request, query.format):
        rows = await reports.achievement_rows(caller, context, workflow_id, query)
        return csv_answers.stream(request, "achievements", rows)
    found, next_cursor = await reports.achievement_page(caller, context, workflow_id, query)
    answer = {"achievements": found, "next_cursor": next_cursor}
    return parameters.json_answer(answer, headers=csv_answers.VARY)
