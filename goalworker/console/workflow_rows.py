"""Pages of the rows behind a workflow's numbers: its enrollments and its achievements."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from goalworker.api import csv_answers, parameters, reports
from goalworker.console import addresses, rendering, visitors, workflow_query
from goalworker.postgres import connections
from goalworker.stores import enrollment_list, stats

router = APIRouter(include_in_schema=False)

_WORKFLOW: Final = f"{addresses.CONSOLE}/workflows/{{workflow_id}}"


class EnrollmentsQuery(parameters.Span):
    """Query for a page of enrollments, by their start."""

    cursor: str | None = None
    limit: parameters.Limit = 50
    state: Literal[enrollment_list.STATES] = "enrolled"  # type: ignore[valid-type]


@router.get(f"{_WORKFLOW}/enrollments")
async def show_enrollments(
    request: Request,
    visitor: visitors.Reader,
    context: parameters.InContext,
    workflow_id: addresses.WorkflowId,
    query: Annotated[EnrollmentsQuery, Query()],
) -> Response:
    """Show the enrollments of a workflow, or those in one state, the latest first."""
    asked = query.model_dump()
    tenant_id = visitor.caller.tenant_id
    async with connections.tenant_transaction(context.pool, tenant_id, "stats") as connection:
        found, cursor = await enrollment_list.list_enrollments(connection, tenant_id, workflow_id, **asked)
        if not found:
            await stats.require_workflow(connection, tenant_id, workflow_id)
    values = _page(workflow_id, "enrollments", query, {"state": query.state}, cursor)
    return rendering.page(
        request, visitor, "workflow_enrollments.html", **values, enrollments=found, states=enrollment_list.STATES
    )


@router.get(f"{_WORKFLOW}/achievements")
async def show_achievements(
    request: Request,
    visitor: visitors.Reader,
    context: parameters.InContext,
    workflow_id: addresses.WorkflowId,
    query: Annotated[parameters.AchievementsQuery, Query()],
) -> Response:
    """Show the achievements of a workflow, or of one goal, by the time of their events."""
    caller = visitor.caller
    if query.format == "csv":
        rows = await reports.achievement_rows(caller, context, workflow_id, query)
        return rendering.guarded(csv_answers.stream(request, "achievements", rows))
    found, cursor = await reports.achievement_page(caller, context, workflow_id, query)
    goal = {"goal_id": str(query.goal_id)} if query.goal_id else {}
    values = _page(workflow_id, "achievements", query, goal, cursor)
    return rendering.page(request, visitor, "workflow_achievements.html", **values, achievements=found)


def _page(
    workflow_id: str, rows: str, query: parameters.Span, others: dict[str, str], cursor: str | None
) -> dict[str, Any]:
    """Return what both pages show: the workflow, the span, the call of the API, and the next page."""
    asked = {**others, **workflow_query.span(query)}
    return {
        "workflow_id": workflow_id,
        "here": workflow_query.page_of(workflow_id),
        "asked": asked,
        "call_of_rows": workflow_query.call(f"{workflow_query.api_path(workflow_id)}/{rows}", asked),
        "next_page": {**asked, "cursor": cursor} if cursor else None,
    }
