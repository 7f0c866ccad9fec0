"""Routes of reports: the statistics and the achievements of a workflow."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from goalworker.api import auth, middleware, openapi, parameters, problems
from goalworker.postgres import connections
from goalworker.stores import achievements, stats

router = APIRouter(tags=[openapi.REPORTS])


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
    middleware.allow(request, context.settings.database.statement_timeout_seconds)

    async def count() -> dict[str, Any]:
        tracking = context.settings.enrollments.tracking
        async with connections.tenant_transaction(context.pool, caller.tenant_id, "stats") as connection:
            await stats.require_workflow(connection, caller.tenant_id, workflow_id)
            return await stats.workflow_stats(
                connection, caller.tenant_id, workflow_id, query.since, query.until, tracking=tracking
            )

    key = (caller.tenant_id, workflow_id, query.since, query.until)
    return parameters.json_answer(await context.answers.answer(key, count))


@router.get(
    f"{parameters.WORKFLOW}/achievements",
    summary="List a workflow's achievements",
    **openapi.answers(200, "A page of achievements", "Achievements", others=[problems.INVALID]),
)
async def list_achievements(
    caller: auth.Reader,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    query: Annotated[parameters.AchievementsQuery, Query()],
) -> Response:
    """List a workflow's achievements in the order of their events, without revoked ones."""
    async with connections.tenant_transaction(context.pool, caller.tenant_id, "stats") as connection:
        found, next_cursor = await achievements.list_achievements(
            connection, caller.tenant_id, workflow_id, **query.model_dump()
        )
        if not found:
            await stats.require_workflow(connection, caller.tenant_id, workflow_id)
    return parameters.json_answer({"achievements": found, "next_cursor": next_cursor})
