"""Faults in goals, and warnings about them, as answers list them: each with the goal's id or its index."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from goalworker.domain.criteria import criteria_of_json
from goalworker.domain.faults import Fault
from goalworker.stores import goal_store

GoalFaults = list[dict[str, Any]]


def of_stored(goal_id: UUID, faults: Iterable[Fault]) -> GoalFaults:
    """Return faults of a stored goal."""
    return [{"goal_id": goal_id, "pointer": fault.pointer, "detail": fault.detail} for fault in faults]


def of_draft(index: int, faults: Iterable[Fault]) -> GoalFaults:
    """Return faults of a goal in the request."""
    return [{"index": index, "pointer": fault.pointer, "detail": fault.detail} for fault in faults]


def warnings_about(goal: goal_store.StoredGoal) -> GoalFaults:
    """Return the warnings about a stored goal."""
    return of_stored(goal.id, goal_store.warnings(criteria_of_json(goal.criteria)))
