"""Plans and backfills of a caller: the same for the routes of the API and for its pages."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from goalworker.api import auth, insight_models, parameters, problems, validation
from goalworker.domain.criteria import criteria_of_json
from goalworker.domain.faults import Fault
from goalworker.postgres import connections
from goalworker.stores import goal_store, jobs, plan_requests, planned_changes, stats

# --- plans ---


async def plan(context: parameters.Context, caller: auth.Caller, workflow_id: str, given: Mapping[str, Any]) -> UUID:
    """Queue a plan, and return its id; ProblemError, and the errors of plan_requests.parse()."""
    page = await goal_store.list_goals(context.pool, caller.tenant_id, workflow_id, limit=planned_changes.STORED_MAX)
    request = plan_requests.parse(given, page.goals, context.settings.goals.max_per_workflow)
    await _refuse_criteria(context, caller, request)
    since = plan_requests.since_of(request)
    if since is not None and since > await connections.now(context.pool):
        raise problems.ProblemError(problems.JOB_REFUSED, "`from` is in the future; a plan judges the past")
    async with connections.tenant_transaction(context.pool, caller.tenant_id, "jobs") as connection:
        await stats.require_workflow(connection, caller.tenant_id, workflow_id)
        return await plan_requests.insert(connection, caller.tenant_id, workflow_id, request, actor=caller.actor)


async def make_planned_changes(
    context: parameters.Context, caller: auth.Caller, workflow_id: str, asked: jobs.Asked
) -> tuple[goal_store.StoredGoal, ...]:
    """Make exactly the changes of a plan that is done, and return the goals that it created or changed.

    ProblemError for missing references, and the errors of planned_changes.make().
    """
    if asked.status.result is None:
        detail = f"The plan is {asked.status.state} and has no result; only a plan that is done can be saved"
        raise problems.ProblemError(problems.JOB_REFUSED, detail)
    await _refuse_criteria(context, caller, asked.request)
    return await planned_changes.make(
        context.pool,
        caller.tenant_id,
        workflow_id,
        asked.request,
        asked.status.result["plan_hash"],
        actor=caller.actor,
        maximum=context.settings.goals.max_per_workflow,
    )


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


# --- backfills ---


async def backfill(
    context: parameters.Context, caller: auth.Caller, workflow_id: str, goal_id: UUID, given: Mapping[str, Any]
) -> UUID:
    """Queue a backfill, and return its id; ProblemError, and the errors of goal_store.begin_backfill()."""
    asked = validation.validate(insight_models.BackfillRequest, given)
    return await goal_store.begin_backfill(
        context.pool, caller.tenant_id, workflow_id, goal_id, asked.since, exits=asked.exits, actor=caller.actor
    )


# --- both ---


async def find(context: parameters.Context, key: jobs.JobKey) -> jobs.Asked:
    """Return a job with its request; JobNotFoundError."""
    async with connections.tenant_transaction(context.pool, key.tenant_id, "jobs") as connection:
        return await jobs.read(connection, key)


async def cancel(context: parameters.Context, key: jobs.JobKey) -> jobs.Status:
    """Ask for the end of a job, and return its state; JobNotFoundError."""
    async with connections.tenant_transaction(context.pool, key.tenant_id, "jobs") as connection:
        return await jobs.cancel(connection, key)
