"""Plans from the shell: of the workflows in a goal file, which is applied only while its goals are as planned."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.admin import goal_file, goal_jobs
from goalworker.domain import planning
from goalworker.postgres import connections
from goalworker.stores import goal_store, jobs, plan_requests, planned_changes

Goals = Mapping[UUID, goal_store.StoredGoal]
"""Goals of a workflow by their ids."""


class WorkflowPlan(Struct, frozen=True):
    """Changes to one workflow, as a plan asks for them, and the hash of these and of its present goals."""

    workflow_id: str
    request: dict[str, Any]
    goals: Goals
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
        present = await planned_changes.read_present(pool, tenant_id, workflow_id)
        given = _request([step for step in changing if step.workflow_id == workflow_id])
        request = plan_requests.parse({**given, "from": since, "sample": sample}, present.goals.values(), maximum)
        hash_ = planned_changes.hash_of(workflow_id, present, request)
        found.append(WorkflowPlan(workflow_id, request, present.goals, hash_))
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


async def apply(
    pool: sa_async.AsyncEngine,
    tenant_id: str,
    steps: Iterable[goal_file.Step],
    plans: Iterable[WorkflowPlan],
    *,
    actor: str,
    maximum: int,
) -> AsyncIterator[goal_file.Step]:
    """Take the steps of each workflow in one transaction, and yield those that are committed.

    GoalworkerError where the goals of a planned workflow have changed since it was planned; it is left as it is.
    """
    planned = {plan.workflow_id: plan for plan in plans}
    for workflow_id, of_workflow in groupby(steps, key=attrgetter("workflow_id")):
        async with connections.tenant_transaction(pool, tenant_id, "goals_write") as connection:
            if workflow_id in planned:
                await goal_store.lock(connection)  # until the end of the transaction, nobody else changes goals
                await _refuse_changed_since(connection, tenant_id, planned[workflow_id])
            taken = [
                await goal_file.take_step(connection, tenant_id, step, actor=actor, maximum=maximum)
                for step in of_workflow
            ]
        for step in taken:
            yield step


async def _refuse_changed_since(connection: sa_async.AsyncConnection, tenant_id: str, plan: WorkflowPlan) -> None:
    present = await planned_changes.read_present(connection, tenant_id, plan.workflow_id)
    if planned_changes.hash_of(plan.workflow_id, present, plan.request) != plan.plan_hash:
        raise errors.GoalworkerError(
            f"The goals of {plan.workflow_id!r} have changed since they were planned, and were left as they are; plan "
            "again with `goalworker goals plan`"
        )


async def run(
    pool: sa_async.AsyncEngine, tenant_id: str, plan: WorkflowPlan, watch: goal_jobs.Watch, *, actor: str
) -> jobs.Status:
    """Queue a plan and wait for its end; whoever cancels this cancels the plan."""
    async with connections.tenant_transaction(pool, tenant_id, "jobs") as connection:
        job_id = await plan_requests.insert(connection, tenant_id, plan.workflow_id, plan.request, actor=actor)
    return await goal_jobs.wait(pool, jobs.JobKey(tenant_id, jobs.PLAN, plan.workflow_id, job_id), watch)
