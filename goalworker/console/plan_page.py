"""Page of a plan: how far it is, who would achieve the goals, and the button that saves exactly what was planned."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib import parse
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from goalworker import api
from goalworker.api import goal_jobs, parameters, problems
from goalworker.console import goal_addresses, goal_requests, goal_view, job_view, rendering
from goalworker.domain import plan_words
from goalworker.stores import goal_store, jobs, planned_changes

router = APIRouter(include_in_schema=False)

Values = dict[str, Any]
_REFUSALS = (
    problems.ProblemError,
    goal_store.InvalidGoalError,
    goal_store.DuplicateGoalError,
    goal_store.TooManyGoalsError,
    goal_store.LockBusyError,
)


@router.get(goal_addresses.PLAN)
async def show_plan(asked: goal_requests.ReadWorkflow, plan_id: parameters.PlanId) -> Response:
    """Show a plan."""
    values = await _values(asked, plan_id)
    return rendering.page(asked.request, asked.visitor, "plan.html", **values)


@router.get(f"{goal_addresses.PLAN}/progress")
async def show_progress(asked: goal_requests.ReadWorkflow, plan_id: parameters.PlanId) -> Response:
    """Show how far a plan is, or its result."""
    values = await _values(asked, plan_id)
    return rendering.page(asked.request, asked.visitor, "_plan.html", **values)


@router.post(f"{goal_addresses.PLAN}/cancel")
async def cancel_plan(asked: goal_requests.ChangedWorkflow, plan_id: parameters.PlanId) -> Response:
    """Cancel a plan."""
    await goal_jobs.cancel(asked.context, _key(asked, plan_id))
    return goal_addresses.to(asked.request, goal_addresses.of_plan(asked.workflow_id, plan_id))


@router.post(f"{goal_addresses.PLAN}/save")
async def save_plan(asked: goal_requests.ChangedWorkflow, plan_id: parameters.PlanId) -> Response:
    """Make exactly the planned changes, unless the workflow's goals changed since they were planned."""
    context, workflow_id = asked.context, asked.workflow_id
    plan = await goal_jobs.find(context, _key(asked, plan_id))
    try:
        made = await goal_jobs.make_planned_changes(context, asked.visitor.caller, workflow_id, plan)
    except planned_changes.ChangedSinceError:
        return await _refused(asked, plan_id, problems.STALE.status, is_stale=True)
    except _REFUSALS as error:
        problem = api.problem_of(error)
        return await _refused(asked, plan_id, problem.kind.status, refusal=problem.detail)
    if len(made) != 1:
        return goal_addresses.to(asked.request, goal_addresses.of_workflow(workflow_id))
    return goal_addresses.to(asked.request, f"{goal_addresses.of_goal(workflow_id, made[0].id)}?done=planned")


async def _refused(asked: goal_requests.OfWorkflow, plan_id: UUID, status: int, **why: Any) -> Response:
    values = await _values(asked, plan_id)
    return rendering.page(asked.request, asked.visitor, "plan.html", status, **{**values, **why})


def _key(asked: goal_requests.OfWorkflow, plan_id: UUID) -> jobs.JobKey:
    return jobs.JobKey(asked.visitor.caller.tenant_id, jobs.PLAN, asked.workflow_id, plan_id)


async def _values(asked: goal_requests.OfWorkflow, plan_id: UUID) -> Values:
    """Return the values of the page; JobNotFoundError."""
    workflow_id = asked.workflow_id
    plan = await goal_jobs.find(asked.context, _key(asked, plan_id))
    present = await planned_changes.read_present(asked.context.pool, asked.visitor.caller.tenant_id, workflow_id)
    path = goal_addresses.of_workflow(workflow_id)
    plans = f"{parameters.WORKFLOW.format(workflow_id=parse.quote(workflow_id, safe=''))}/plans"
    return {
        "workflow_id": workflow_id,
        "workflow_path": path,
        "here": goal_addresses.of_plan(workflow_id, plan_id),
        "job": job_view.of_job(plan, datetime.now(UTC)),
        "changes": goal_view.planned_changes(plan.request, present.goals),
        "present": present,
        "edit_path": _edit_path(path, plan.request, plan_id),
        "calls": {"plan": f"{plans}/{plan_id}"},
        "refusal": None,
        "is_stale": False,
        **_result(workflow_id, plan, present),
    }


def _result(workflow_id: str, plan: jobs.Asked, present: planned_changes.Present) -> Values:
    result = plan.status.result
    if result is None:
        return {"result": None, "is_current": False}
    return {
        "result": result,
        "rows": goal_view.plan_rows(plan.request, result, present.goals),
        "judged": plan_words.judged(result),
        "covered": plan_words.covered(result["coverage"]),
        "is_current": planned_changes.hash_of(workflow_id, present, plan.request) == result["plan_hash"],
    }


def _edit_path(workflow_path: str, request: Mapping[str, Any], plan_id: UUID) -> str | None:
    """Return the path of the form with what was planned; None for a plan of several goals, which no form made."""
    if len(request["goals"]) != 1:
        return None
    (one,) = request["goals"]
    page = f"{one['goal_id']}/edit" if "goal_id" in one else "new"
    return f"{workflow_path}/goals/{page}?plan={plan_id}"
