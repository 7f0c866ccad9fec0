"""Changes of goals by a caller: the same for the routes of the API and for its pages."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from goalworker.api import auth, parameters, problems
from goalworker.domain.criteria import Criteria, criteria_to_json
from goalworker.stores import goal_store


async def create(
    context: parameters.Context, caller: auth.Caller, workflow_id: str, given: Mapping[str, Any]
) -> goal_store.StoredGoal:
    """Create a goal from a draft; ProblemError for missing references, and the errors of goal_store.create()."""
    draft = goal_store.parse_draft(given)
    await _refuse_missing(context, caller, criteria_to_json(draft.goal_type, draft.criteria))
    maximum = context.settings.goals.max_per_workflow
    return await goal_store.create(
        context.pool, caller.tenant_id, workflow_id, draft, actor=caller.actor, maximum=maximum
    )


async def change(
    context: parameters.Context,
    caller: auth.Caller,
    workflow_id: str,
    goal_id: UUID,
    given: Mapping[str, Any],
    expected_version: int | None = None,
) -> goal_store.StoredGoal:
    """Change a goal; ProblemError for missing references, and the errors of goal_store.update()."""
    if context.references.are_checked and "criteria" in given:
        goal = await goal_store.get(context.pool, caller.tenant_id, goal_id, workflow_id=workflow_id)
        criteria = goal_store.parse_changes(goal.goal_type, given).criteria
        if isinstance(criteria, Criteria):
            await _refuse_missing(context, caller, criteria_to_json(goal.goal_type, criteria))
    return await goal_store.update(
        context.pool,
        caller.tenant_id,
        goal_id,
        given,
        actor=caller.actor,
        expected_version=expected_version,
        workflow_id=workflow_id,
    )


async def delete(
    context: parameters.Context,
    caller: auth.Caller,
    workflow_id: str,
    goal_id: UUID,
    expected_version: int | None = None,
) -> None:
    """Delete a goal; the errors of goal_store.delete()."""
    await goal_store.delete(
        context.pool,
        caller.tenant_id,
        goal_id,
        actor=caller.actor,
        expected_version=expected_version,
        workflow_id=workflow_id,
    )


async def _refuse_missing(context: parameters.Context, caller: auth.Caller, criteria: Mapping[str, Any]) -> None:
    (faults,) = await context.references.faults(caller.tenant_id, [criteria])
    if faults:
        raise problems.invalid(faults, problems.REFERENCE_MISSING)
