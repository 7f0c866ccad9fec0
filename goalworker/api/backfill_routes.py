"""Routes of backfills: a goal counts what happened before it was made."""

from typing import Final
from urllib import parse

from fastapi import APIRouter
from starlette.responses import Response

from goalworker.api import auth, goal_jobs, job_answers, openapi, parameters, problems, request_bodies
from goalworker.stores import jobs

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
    backfill_id = await goal_jobs.backfill(context, caller, workflow_id, goal_id, body)
    path = BACKFILLS.replace(":uuid", "").format(workflow_id=parse.quote(workflow_id, safe=""), goal_id=goal_id)
    return job_answers.accepted(context, _NAME, backfill_id, path)


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
    return job_answers.status(_NAME, (await goal_jobs.find(context, key)).status)


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
    return job_answers.status(_NAME, await goal_jobs.cancel(context, key))
