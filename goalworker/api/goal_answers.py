"""Faults in goals, and warnings about them, as answers list them: each with the goal's id or its index."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from goalworker.api import parameters
from goalworker.domain.criteria import criteria_of_json
from goalworker.domain.faults import Fault
from goalworker.stores import goal_store, goal_warnings

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
    asked = [(goal.goal_type, criteria_of_json(goal.criteria)) for goal in goals]
    found = await goal_warnings.about(context.pool, tenant_id, asked)
    return [warning for goal, of_goal in zip(goals, found, strict=True) for warning in of_stored(goal.id, of_goal)]
