"""Faults in goals, and warnings about them, as answers list them: each with the goal's id or its index."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from goalworker import logs
from goalworker.api import parameters
from goalworker.domain.criteria import Criteria, criteria_of_json
from goalworker.domain.faults import Fault
from goalworker.postgres import connections, database_errors
from goalworker.stores import goal_store, value_suggestions

log = logs.get("api")

GoalFaults = list[dict[str, Any]]


def of_stored(goal_id: UUID, faults: Iterable[Fault]) -> GoalFaults:
    """Return faults of a stored goal."""
    return [{"goal_id": goal_id, "pointer": fault.pointer, "detail": fault.detail} for fault in faults]


def of_draft(index: int, faults: Iterable[Fault]) -> GoalFaults:
    """Return faults of a goal in the request."""
    return [{"index": index, "pointer": fault.pointer, "detail": fault.detail} for fault in faults]


async def warnings_about(
    context: parameters.Context, tenant_id: str, goals: Sequence[goal_store.StoredGoal]
) -> GoalFaults:
    """Return the warnings about stored goals."""
    found = await warnings(context, tenant_id, [(goal.goal_type, criteria_of_json(goal.criteria)) for goal in goals])
    return [warning for goal, of_goal in zip(goals, found, strict=True) for warning in of_stored(goal.id, of_goal)]


async def warnings(
    context: parameters.Context, tenant_id: str, goals: Iterable[tuple[str, Criteria]]
) -> list[list[Fault]]:
    """Return the warnings about each goal, given by its type and criteria."""
    asked = list(goals)
    unseen = await _about_unseen_values(context, tenant_id, asked)
    return [[*goal_store.warnings(criteria), *of_goal] for (_, criteria), of_goal in zip(asked, unseen, strict=True)]


async def _about_unseen_values(
    context: parameters.Context, tenant_id: str, goals: Sequence[tuple[str, Criteria]]
) -> list[list[Fault]]:
    try:
        async with connections.tenant_transaction(context.pool, tenant_id, "seen_values") as connection:
            return [
                await value_suggestions.warnings(connection, tenant_id, goal_type, criteria)
                for goal_type, criteria in goals
            ]
    except Exception as error:
        # The goal is stored already: an answer without the warning beats one that says that it failed.
        if not database_errors.is_unavailable(error):
            raise
        log.warning("seen_values_unavailable", error=logs.summarize_error(error))
        return [[] for _ in goals]
