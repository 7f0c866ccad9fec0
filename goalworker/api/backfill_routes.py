"""Routes of backfills: a goal counts what happened before it was made."""

from typing import Final
from urllib import parse

from fastapi import APIRouter
from starlette.responses import Response

from goalworker.api import auth, insight_models, job_answers, openapi, parameters, problems, request_bodies, validation
from goalworker.postgres import connections
from goalworker.stores import goal_store, jobs

router = APIRouter(tags=[openapi.INSIGHT])

BACKFILLS: Final = f"{parameters.GOAL}/backfills"
BACKFILL: Final = f"{BACKFILLS}/{{backfill_id:uuid}}"
_NAME: Final = "backfill_id"


@router.post(
    BACKFILLS,
    summary="Backfill a goal",
    **openapi.answers(
        202,
        "The backfill is queued",
        "BackfillAccepted",
        takes="BackfillRequest",
        others=[problems.JOB_REFUSED],
        headers=openapi.JOB_LOCATION,
    ),
)
async def backfill_goal(
    caller: auth.Writer,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    goal_id: parameters.GoalId,
    body: request_bodies.JsonBody,
) -> Response:
    """Let the goal's present version count from an earlier moment on, and judge whom that concerns.

    Achievements are published as always; without `exits`, exits that rest on it are withheld.
    """
    asked = validation.validate(insight_models.BackfillRequest, body)
    backfill_id = await goal_store.begin_backfill(
        context.pool, caller.tenant_id, workflow_id, goal_id, asked.since, exits=asked.exits, actor=caller.actor
    )
    path = BACKFILLS.replace(":uuid", "").format(workflow_id=parse.quote(workflow_id, safe=""), goal_id=goal_id)
    return job_answers.accepted(_NAME, backfill_id, path)


@router.get(BACKFILL, summary="Get a backfill", **openapi.answers(200, "The backfill", "Backfill"))
async def get_backfill(
    caller: auth.Reader,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    goal_id: parameters.GoalId,
    backfill_id: parameters.BackfillId,
) -> Response:
    """Get the state of a backfill, how far it is, and its result once it is done."""
    key = jobs.JobKey(caller.tenant_id, jobs.BACKFILL, workflow_id, backfill_id, goal_id)
    async with connections.tenant_transaction(context.pool, caller.tenant_id, "jobs") as connection:
        found = await jobs.find(connection, key)
    return job_answers.status(_NAME, found)


@router.delete(BACKFILL, summary="Cancel a backfill", **openapi.answers(200, "The backfill", "Backfill"))
async def cancel_backfill(
    caller: auth.Writer,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    goal_id: parameters.GoalId,
    backfill_id: parameters.BackfillId,
) -> Response:
    """Cancel a backfill after its present slice; what it has counted stays, and another one goes on from there."""
    key = jobs.JobKey(caller.tenant_id, jobs.BACKFILL, workflow_id, backfill_id, goal_id)
    async with connections.tenant_transaction(context.pool, caller.tenant_id, "jobs") as connection:
        found = await jobs.cancel(connection, key)
    return job_answers.status(_NAME, found)
