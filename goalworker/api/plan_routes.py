"""Routes of plans: judgement of the past as if a workflow had other goals."""

from typing import Final
from urllib import parse

from fastapi import APIRouter
from starlette.responses import Response

from goalworker.api import auth, goal_jobs, job_answers, openapi, parameters, problems, request_bodies
from goalworker.stores import jobs

router = APIRouter(tags=[openapi.INSIGHT])

PLANS: Final = f"{parameters.WORKFLOW}/plans"
PLAN: Final = f"{PLANS}/{{plan_id:uuid}}"
_NAME: Final = "plan_id"


@router.post(
    PLANS,
    summary="Plan goals over the past",
    **openapi.answers(
        202,
        "The plan is queued",
        "PlanAccepted",
        takes="PlanRequest",
        optional=True,
        others=[
            problems.TOO_MANY_GOALS,
            problems.REFERENCE_MISSING,
            problems.DUPLICATE_GOAL,
            problems.JOB_REFUSED,
        ],
        headers=openapi.JOB_LOCATION,
    ),
)
async def plan_goals(
    caller: auth.Reader,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    body: request_bodies.OptionalJsonBody,
) -> Response:
    """Judge the workflow's enrollments over the kept history, as if its goals had been these.

    Nothing is changed. `goalworker insight` runs the plan, and GET shows how far it is.
    """
    plan_id = await goal_jobs.plan(context, caller, workflow_id, body)
    path = PLANS.format(workflow_id=parse.quote(workflow_id, safe=""))
    return job_answers.accepted(context, _NAME, plan_id, path)


@router.get(PLAN, summary="Get a plan", **openapi.answers(200, "The plan", "Plan"))
async def get_plan(
    caller: auth.Reader, context: parameters.InContext, workflow_id: parameters.WorkflowId, plan_id: parameters.PlanId
) -> Response:
    """Get the state of a plan, how far it is, and its result once it is done."""
    found = await goal_jobs.find(context, jobs.JobKey(caller.tenant_id, jobs.PLAN, workflow_id, plan_id))
    return job_answers.status(_NAME, found.status)


@router.delete(PLAN, summary="Cancel a plan", **openapi.answers(200, "The plan", "Plan"))
async def cancel_plan(
    caller: auth.Reader, context: parameters.InContext, workflow_id: parameters.WorkflowId, plan_id: parameters.PlanId
) -> Response:
    """Cancel a plan, which ends within a second or so; one that has ended stays as it is."""
    found = await goal_jobs.cancel(context, jobs.JobKey(caller.tenant_id, jobs.PLAN, workflow_id, plan_id))
    return job_answers.status(_NAME, found)
