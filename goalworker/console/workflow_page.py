"""Page of a workflow: its goals, conversions, times to goal and revenue, the heavier parts as fragments."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from msgspec import Struct
from starlette.responses import Response

from goalworker.api import csv_answers, parameters, reports
from goalworker.console import addresses, rendering, visitors, workflow_query, workflow_view
from goalworker.domain import cohorts, phrases
from goalworker.postgres import connections
from goalworker.stores import goal_store, workflows

router = APIRouter(include_in_schema=False)

PATH: Final = f"{addresses.CONSOLE}/workflows/{{workflow_id}}"
# Deleted goals among them; of those that are not, a workflow has a few.
_GOALS_MAX: Final = 200

Values = dict[str, Any]


class Question(Struct, frozen=True):
    """A request for a workflow's numbers: the visitor, the workflow, and the query in its address."""

    request: Request
    visitor: visitors.Visitor
    context: parameters.Context
    workflow_id: str
    query: parameters.SeriesQuery

    @property
    def asking(self) -> tuple[Request, Any, parameters.Context, str]:
        """Arguments of each report before its query."""
        return self.request, self.visitor.caller, self.context, self.workflow_id

    def api_path(self, report: str) -> str:
        """Return the path of a call of the API about the workflow."""
        return f"{workflow_query.api_path(self.workflow_id)}/{report}"


async def _question(
    request: Request, visitor: visitors.Reader, context: parameters.InContext, workflow_id: addresses.WorkflowId
) -> Question:
    query = workflow_query.of_address(request.query_params, datetime.now(UTC))
    return Question(request, visitor, context, workflow_id, query)


Asked = Annotated[Question, Depends(_question)]


# --- routes ---


@router.get(PATH)
async def show_workflow(asked: Asked) -> Response:
    """Show a workflow; with `whole` in the address, all of its numbers, as for browsers without scripts."""
    values = await _frame(asked)
    if values["is_whole"]:
        values |= await _stats(asked) | await _series(asked) | await _times(asked)
    return rendering.page(asked.request, asked.visitor, "workflow.html", **values)


@router.get(f"{PATH}/stats")
async def show_stats(asked: Asked) -> Response:
    """Show the statistics: the funnel, the goals, revenue."""
    values = _common(asked) | await _stats(asked)
    return rendering.page(asked.request, asked.visitor, "_workflow_stats.html", **values)


@router.get(f"{PATH}/series")
async def show_series(asked: Asked) -> Response:
    """Show conversion and revenue by the period of enrollment."""
    values = _common(asked) | await _series(asked)
    return rendering.page(asked.request, asked.visitor, "_workflow_series.html", **values)


@router.get(f"{PATH}/times")
async def show_times(asked: Asked) -> Response:
    """Show times to goal."""
    values = _common(asked) | await _times(asked)
    return rendering.page(asked.request, asked.visitor, "_workflow_times.html", **values)


@router.get(f"{PATH}/series.csv")
async def download_series(asked: Asked) -> Response:
    """Return the series as CSV, as the API does."""
    rows = csv_answers.cohort_rows(await reports.series(*asked.asking, asked.query))
    return rendering.guarded(csv_answers.answer("series", rows))


@router.get(f"{PATH}/sparkline")
async def show_sparkline(asked: Asked) -> Response:
    """Show conversions by week: a list of workflows loads it as /console/workflows/{workflow_id}/sparkline."""
    found = await reports.conversions(*asked.asking, asked.query.since)
    chart = workflow_view.conversions_sparkline(found)
    return rendering.page(asked.request, asked.visitor, "_sparkline.html", chart=chart)


# --- values of the templates ---


def _common(asked: Question) -> Values:
    """Return what each part of the page shows: the workflow, its span, and the calls of the API."""
    span = workflow_query.span(asked.query)
    series = workflow_query.of_series(asked.query)
    return {
        "workflow_id": asked.workflow_id,
        "here": workflow_query.page_of(asked.workflow_id),
        "by": asked.query.by,
        "horizon": phrases.duration(asked.query.horizon),
        "span": span,
        "address": workflow_query.of_page(asked.query),
        "is_whole": "whole" in asked.request.query_params,
        "calls": {
            "goals": asked.api_path("goals"),
            "logic": asked.api_path("goal-settings"),
            "fresh": "/api/v1/workflows",
            "stats": workflow_query.call(asked.api_path("goals/stats"), span),
            "series": workflow_query.call(asked.api_path("stats/series"), series),
            "times": workflow_query.call(asked.api_path("stats/time-to-goal"), span),
        },
    }


async def _frame(asked: Question) -> Values:
    """Return the values of the page without its numbers; UnknownWorkflowError."""
    tenant_id = asked.visitor.caller.tenant_id
    async with connections.tenant_transaction(asked.context.pool, tenant_id, "goals_read") as connection:
        description = await workflows.describe(connection, tenant_id, asked.workflow_id)
    page = await goal_store.list_goals(asked.context.pool, tenant_id, asked.workflow_id, limit=_GOALS_MAX)
    return _common(asked) | {
        "description": description,
        "form": workflow_view.form(asked.query),
        "spans": workflow_view.spans(datetime.now(UTC)),
        "goals": workflow_view.goal_rows(page.goals),
        "stats": None,
        "series": None,
        "times": None,
    }


async def _stats(asked: Question) -> Values:
    query = parameters.StatsQuery.model_validate(workflow_query.span(asked.query))
    stats = await reports.workflow_stats(*asked.asking, query)
    page = await goal_store.list_goals(
        asked.context.pool,
        asked.visitor.caller.tenant_id,
        asked.workflow_id,
        limit=_GOALS_MAX,
        include_deleted=True,
    )
    goals = workflow_view.goal_rows(page.goals, stats)
    return {"stats": stats, "goals": goals, "funnel": workflow_view.funnel_chart(stats)}


async def _series(asked: Question) -> Values:
    try:
        series = await reports.series(*asked.asking, asked.query)
    except cohorts.TooManyPeriodsError as error:
        return {"series": [], "refusal": str(error), "cohorts": [], "currencies": [], "charts": None}
    return {
        "series": series,
        "refusal": None,
        "cohorts": workflow_view.cohort_rows(series),
        "currencies": workflow_view.currencies(series),
        "charts": workflow_view.series_charts(series, asked.query.by),
    }


async def _times(asked: Question) -> Values:
    query = parameters.TimesQuery.model_validate(workflow_query.span(asked.query))
    times = await reports.times(*asked.asking, query)
    return {"times": times, "times_charts": workflow_view.times_charts(times)}
