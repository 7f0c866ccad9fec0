"""Goals and logics with any history, written into a database as if they had been set over time."""

from collections.abc import Iterable
from typing import Final

import msgspec

from goalworker.domain import criteria, goals
from goalworker.postgres import connections
from tests.kit import naive_judge

_GOAL: Final = "INSERT INTO goals VALUES ($1, $2, $3, $4, NULL, $5, $6, 'ann', $7, 'ann', $8, $9)"
_VERSION: Final = "INSERT INTO goal_versions VALUES ($1, $2, $3, $4, $5, $6, $7)"
_LOGIC: Final = "INSERT INTO workflow_settings VALUES ($1, $2, $3, $4, $5)"


async def write(
    connection: connections.Connection, given_goals: Iterable[goals.Goal], logics: naive_judge.Logics
) -> None:
    """Write goals and logics with their history, under the next revision."""
    revision = await connection.fetchval("UPDATE goal_revision SET revision = revision + 1 RETURNING revision")
    for goal in given_goals:
        await connection.execute(_GOAL, *_goal_row(goal, revision))
        for version in goal.versions:
            await connection.execute(_VERSION, *_version_row(goal, version))
    for key, history in logics.items():
        for logic in history:
            await connection.execute(_LOGIC, *key, logic.active_from, logic.logic, revision)


def _goal_row(goal: goals.Goal, revision: int) -> tuple[object, ...]:
    last = goal.versions[-1]
    return (
        *(goal.tenant_id, goal.goal_id, goal.workflow_id, goal.goal_type, last.number),
        *(goal.created_at, last.active_from, last.active_to, revision),
    )


def _version_row(goal: goals.Goal, version: goals.GoalVersion) -> tuple[object, ...]:
    return (
        *(goal.tenant_id, goal.goal_id, version.number),
        msgspec.json.encode(criteria.criteria_to_json(goal.goal_type, version.criteria)).decode(),
        *(version.is_active, version.active_from, version.active_to),
    )
