"""Routes of plans: judgement of the past as if a workflow had other goals."""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib import parse

from fastapi import APIRouter
from starlette.responses import Response

from goalworker.api import auth, job_answers, openapi, parameters, problems, request_bodies
from goalworker.domain.criteria import criteria_of_json
from goalworker.domain.faults import Fault
from goalworker.postgres import connections
from goalworker.stores import goal_store, jobs, plan_requests, stats

router = APIRouter(tags=[openapi.INSIGHT])

PLANS: Final = f"{parameters.WORKFLOW}/plans"
PLAN: Final = f"{PLANS}/{{plan_id:uuid}}"
_NAME: Final = "plan_id"
# Goals of a workflow that a plan looks at, at most.
_STORED_MAX: Final = 1_000


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
    page = await goal_store.list_goals(context.pool, caller.tenant_id, workflow_id, limit=_STORED_MAX)
    request = plan_requests.parse(body, page.goals, context.settings.goals.max_per_workflow)
    await _refuse_criteria(context, caller, request)
    since = plan_requests.since_of(request)
    if since is not None and since > await connections.now(context.pool):
        raise problems.ProblemError(problems.JOB_REFUSED, "`from` is in the future; a plan judges the past")
    async with connections.tenant_transaction(context.pool, caller.tenant_id, "jobs") as connection:
        await stats.require_workflow(connection, caller.tenant_id, workflow_id)
        plan_id = await plan_requests.insert(connection, caller.tenant_id, workflow_id, request, actor=caller.actor)
    return job_answers.accepted(_NAME, plan_id, PLANS.format(workflow_id=parse.quote(workflow_id, safe="")))


@router.get(PLAN, summary="Get a plan", **openapi.answers(200, "The plan", "Plan"))
async def get_plan(
    caller: auth.Reader, context: parameters.InContext, workflow_id: parameters.WorkflowId, plan_id: parameters.PlanId
) -> Response:
    """Get the state of a plan, how far it is, and its result once it is done."""
    async with connections.tenant_transaction(context.pool, caller.tenant_id, "jobs") as connection:
        found = await jobs.find(connection, jobs.JobKey(caller.tenant_id, jobs.PLAN, workflow_id, plan_id))
    return job_answers.status(_NAME, found)


@router.delete(PLAN, summary="Cancel a plan", **openapi.answers(200, "The plan", "Plan"))
async def cancel_plan(
    caller: auth.Reader, context: parameters.InContext, workflow_id: parameters.WorkflowId, plan_id: parameters.PlanId
) -> Response:
    """Cancel a plan, which ends within a second or so; one that has ended stays as it is."""
    async with connections.tenant_transaction(context.pool, caller.tenant_id, "jobs") as connection:
        found = await jobs.cancel(connection, jobs.JobKey(caller.tenant_id, jobs.PLAN, workflow_id, plan_id))
    return job_answers.status(_NAME, found)


async def _refuse_criteria(context: parameters.Context, caller: auth.Caller, request: Mapping[str, Any]) -> None:
    """Refuse criteria for the reasons for which such a goal would be refused."""
    asked = plan_requests.criteria_asked(request)
    criteria = [criteria_of_json(one) for one in asked.values()]
    if faults := _at(asked, await goal_store.untracked_faults(context.pool, caller.tenant_id, criteria)):
        raise problems.invalid(faults)
    if faults := _at(asked, await context.references.faults(caller.tenant_id, list(asked.values()))):
        raise problems.invalid(faults, problems.REFERENCE_MISSING)


def _at(pointers: Iterable[str], of_goals: Iterable[Iterable[Fault]]) -> list[Fault]:
    return [
        Fault(f"{at}{fault.pointer}", fault.detail)
        for at, faults in zip(pointers, of_goals, strict=True)
        for fault in faults
    ]
