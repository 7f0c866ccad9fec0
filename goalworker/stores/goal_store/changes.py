"""Changes to goals and logics: each in its turn, from a moment of its own on (design, Goal freshness).

A change takes the installation's lock after everything that can be done without it. Then it needs two round trips and
the commit: what is there now with the next moment, and everything that it writes in one statement.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import sqlalchemy as sa
from msgspec import UNSET, structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import criteria, faults, goals
from goalworker.postgres import connections, tables
from goalworker.stores.goal_store import drafts, reading, refusals, statements
from goalworker.stores.goal_store.reading import StoredGoal


async def create(
    pool: sa_async.AsyncEngine, tenant_id: str, workflow_id: str, wanted: drafts.Draft, *, actor: str, maximum: int
) -> StoredGoal:
    """Create a goal, in force from now on; DuplicateGoalError, TooManyGoalsError, LockBusyError."""
    drafts.require_ids(tenant_id=tenant_id, workflow_id=workflow_id)
    async with connections.tenant_transaction(pool, tenant_id, "goals_write") as connection:
        turn, live = await _goals_turn(connection, tenant_id, workflow_id, actor)
        goal = StoredGoal(
            id=uuid4(),
            workflow_id=workflow_id,
            goal_type=wanted.goal_type,
            criteria=criteria.criteria_to_json(wanted.goal_type, wanted.criteria),
            name=wanted.name,
            is_active=True,
            version=1,
            created_at=turn.moment,
            created_by=actor,
            updated_at=turn.moment,
            updated_by=actor,
        )
        _refuse_duplicate(goal, live)
        if len(live) >= maximum:
            raise refusals.TooManyGoalsError(maximum)
        await statements.write_goal(connection, turn, "created", None, goal)
    return goal


async def update(
    pool: sa_async.AsyncEngine,
    tenant_id: str,
    goal_id: UUID,
    given: Mapping[str, Any],
    *,
    actor: str,
    expected_version: int | None = None,
    workflow_id: str | None = None,
) -> StoredGoal:
    """Change what is given of {criteria, name, is_active}; what changes nothing makes no version.

    InvalidGoalError, GoalNotFoundError, StaleGoalError, DuplicateGoalError, LockBusyError.
    """
    async with connections.tenant_transaction(pool, tenant_id, "goals_write") as connection:
        seen = await reading.find(connection, tenant_id, goal_id, workflow_id)
        _refuse_stale(seen, expected_version)
        wanted = drafts.parse_changes(seen.goal_type, given)
        if _changed(seen, wanted) == seen:
            return seen
        turn, live = await _goals_turn(connection, tenant_id, seen.workflow_id, actor)
        before = _one_of(live, goal_id)
        _refuse_stale(before, expected_version)
        after = _changed(before, wanted)
        if after == before:
            return before
        after = structs.replace(after, version=before.version + 1, updated_at=turn.moment, updated_by=actor)
        _refuse_duplicate(after, live)
        await statements.write_goal(connection, turn, "updated", before, after)
    return after


async def delete(
    pool: sa_async.AsyncEngine,
    tenant_id: str,
    goal_id: UUID,
    *,
    actor: str,
    expected_version: int | None = None,
    workflow_id: str | None = None,
) -> StoredGoal:
    """Delete a goal; its versions and achievements stay. GoalNotFoundError, StaleGoalError, LockBusyError."""
    async with connections.tenant_transaction(pool, tenant_id, "goals_write") as connection:
        seen = await reading.find(connection, tenant_id, goal_id, workflow_id)
        _refuse_stale(seen, expected_version)
        turn, live = await _goals_turn(connection, tenant_id, seen.workflow_id, actor)
        before = _one_of(live, goal_id)
        _refuse_stale(before, expected_version)
        after = structs.replace(
            before, version=before.version + 1, updated_at=turn.moment, updated_by=actor, deleted_at=turn.moment
        )
        await statements.write_goal(connection, turn, "deleted", before, after)
    return after


async def set_logic(pool: sa_async.AsyncEngine, tenant_id: str, workflow_id: str, logic: str, *, actor: str) -> bool:
    """Set a workflow's logic from now on, and say whether it was another before; InvalidGoalError, LockBusyError."""
    drafts.require_ids(tenant_id=tenant_id, workflow_id=workflow_id)
    if logic not in goals.LOGICS:
        fault = faults.Fault("/logic", f"`logic` must be one of {', '.join(goals.LOGICS)}")
        raise refusals.InvalidGoalError([fault])
    now = reading.logic_now(tenant_id, workflow_id)
    async with connections.tenant_transaction(pool, tenant_id, "goals_write") as connection:
        if (await connection.scalar(sa.select(now)) or goals.DEFAULT_LOGIC) == logic:
            return False
        await _lock(connection)
        row = (await connection.execute(sa.select(_NEXT.c.moment, _NEXT.c.revision, now.label("logic")))).one()
        before = row.logic or goals.DEFAULT_LOGIC
        if before != logic:
            turn = statements.Turn(tenant_id, workflow_id, actor, row.moment, row.revision)
            await statements.write_logic(connection, turn, before, logic)
    return before != logic


# --- the turn ---

_CLOCK: Final = tables.goal_revision.c
_NEXT: Final = (
    sa.update(tables.goal_revision)
    .values(
        revision=_CLOCK.revision + 1,
        # The clock of the wall may stand still or go back; this one does not.
        moment=sa.func.greatest(sa.func.clock_timestamp(), _CLOCK.moment + timedelta(microseconds=1)),
    )
    .returning(_CLOCK.moment, _CLOCK.revision)
    .cte("next")
)


async def _lock(connection: sa_async.AsyncConnection) -> None:
    """Wait until nobody else changes goals and no worker records hits by what they were."""
    try:
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(connections.GOAL_LOCK)))
    except sa.exc.DBAPIError as error:
        if error.orig is not None and isinstance(error.orig.__cause__, asyncpg.LockNotAvailableError):
            raise refusals.LockBusyError from error
        raise


async def _goals_turn(
    connection: sa_async.AsyncConnection, tenant_id: str, workflow_id: str, actor: str
) -> tuple[statements.Turn, list[StoredGoal]]:
    """Take the lock, then the next moment with the workflow's goals as they are now, deleted ones left out.

    In a statement of its own: one that waits for the lock sees what was there before the wait.
    """
    await _lock(connection)
    columns = tables.goals.c
    of_workflow = (columns.tenant_id == tenant_id) & (columns.workflow_id == workflow_id) & columns.deleted_at.is_(None)
    found = await connection.execute(
        sa.select(_NEXT.c.moment, _NEXT.c.revision, *reading.COLUMNS).select_from(
            _NEXT.outerjoin(reading.WITH_VERSION, of_workflow)
        )
    )
    rows = found.all()
    turn = statements.Turn(tenant_id, workflow_id, actor, rows[0].moment, rows[0].revision)
    return turn, [reading.stored(row) for row in rows if row.id is not None]


def _one_of(live: Iterable[StoredGoal], goal_id: UUID) -> StoredGoal:
    for goal in live:
        if goal.id == goal_id:
            return goal
    raise refusals.GoalNotFoundError(goal_id)


def _refuse_stale(goal: StoredGoal, expected_version: int | None) -> None:
    if expected_version not in (None, goal.version):
        raise refusals.StaleGoalError(goal.version, expected_version)


def _refuse_duplicate(goal: StoredGoal, live: Iterable[StoredGoal]) -> None:
    for other in live:
        if other.id != goal.id and (other.goal_type, other.criteria) == (goal.goal_type, goal.criteria):
            raise refusals.DuplicateGoalError(other.id)


def _changed(goal: StoredGoal, wanted: drafts.Changes) -> StoredGoal:
    given = {name: value for name, value in structs.asdict(wanted).items() if value is not UNSET}
    if isinstance(wanted.criteria, criteria.Criteria):
        given["criteria"] = criteria.criteria_to_json(goal.goal_type, wanted.criteria)
    return structs.replace(goal, **given)
