"""Plans from the shell: of the workflows in a goal file, which is applied only while its goals are as planned."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.admin import goal_file, goal_jobs
from goalworker.domain import planning
from goalworker.postgres import connections
from goalworker.stores import goal_store, jobs, plan_requests


class WorkflowPlan(Struct, frozen=True):
    """Changes to one workflow, as a plan asks for them, and the hash of these and of its present goals."""

    workflow_id: str
    request: dict[str, Any]
    goals: Mapping[UUID, goal_store.StoredGoal]
    plan_hash: str


async def workflow_plans(
    pool: sa_async.AsyncEngine,
    tenant_id: str,
    steps: Sequence[goal_file.Step],
    *,
    maximum: int,
    since: str | None = None,
    sample: int | None = None,
) -> list[WorkflowPlan]:
    """Return a plan for each workflow that the steps would change; GoalworkerError for a plan that is refused."""
    changing = [step for step in steps if step.action != goal_file.UNCHANGED]
    found = []
    for workflow_id in dict.fromkeys(step.workflow_id for step in changing):
        page = await goal_store.list_goals(pool, tenant_id, workflow_id, limit=1_000)
        given = _request([step for step in changing if step.workflow_id == workflow_id])
        request = plan_requests.parse({**given, "from": since, "sample": sample}, page.goals, maximum)
        logic = await goal_store.get_logic(pool, tenant_id, workflow_id)
        versions = {goal.id: goal.version for goal in page.goals}
        hash_ = planning.plan_hash(workflow_id, versions, logic, request)
        found.append(WorkflowPlan(workflow_id, request, {goal.id: goal for goal in page.goals}, hash_))
    return found


def _request(steps: Sequence[goal_file.Step]) -> dict[str, Any]:
    return {
        "goals": [
            {"goal_type": step.goal_type, "criteria": step.criteria, "name": step.name}
            for step in steps
            if step.action == goal_file.CREATED
        ],
        "delete": [str(step.goal_id) for step in steps if step.action == goal_file.DELETED],
        "logic": next((step.logic for step in steps if step.action == goal_file.LOGIC_SET), None),
    }


def refuse_changed(plans: Sequence[WorkflowPlan], plan_hash: str) -> None:
    """Raise GoalworkerError unless the plans have this hash."""
    if planning.combined_hash([plan.plan_hash for plan in plans]) != plan_hash:
        raise errors.GoalworkerError(
            f"Plan {plan_hash} is of other goals: those of the file, or those in the database, have changed since. "
            "Nothing was changed; plan again with `goalworker goals plan`"
        )


async def run(
    pool: sa_async.AsyncEngine, tenant_id: str, plan: WorkflowPlan, watch: goal_jobs.Watch, *, actor: str
) -> jobs.Status:
    """Queue a plan and wait for its end; whoever cancels this cancels the plan."""
    async with connections.tenant_transaction(pool, tenant_id, "jobs") as connection:
        job_id = await plan_requests.insert(connection, tenant_id, plan.workflow_id, plan.request, actor=actor)
    return await goal_jobs.wait(pool, tenant_id, jobs.PLAN, plan.workflow_id, job_id, watch)
