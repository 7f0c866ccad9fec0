"""Changes to goals and logics, one at a time, each in force from its own moment on (design, Goal freshness).

A change takes the installation's lock after everything that can be done without it. Under the lock it needs two round
trips and the commit: one reads the workflow's goals and takes the next moment, one writes everything. Given the
connection of a transaction, a change is a part of it.
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
from goalworker.postgres import cell_tables, connections, tables
from goalworker.stores import cell_store
from goalworker.stores.goal_store import drafts, reading, refusals, statements, tracking
from goalworker.stores.goal_store.reading import StoredGoal


async def create(
    database: connections.Database, tenant_id: str, workflow_id: str, draft: drafts.Draft, *, actor: str, maximum: int
) -> StoredGoal:
    """Create a goal, in force from now on; InvalidGoalError, DuplicateGoalError, TooManyGoalsError, LockBusyError."""
    drafts.require_ids(tenant_id=tenant_id, workflow_id=workflow_id)
    async with connections.part_of_tenant_transaction(database, tenant_id, "goals_write") as connection:
        await tracking.refuse_untracked(connection, draft.criteria)
        change, live = await begin_change(connection, tenant_id, workflow_id, actor)
        goal = StoredGoal(
            id=uuid4(),
            workflow_id=workflow_id,
            goal_type=draft.goal_type,
            criteria=criteria.criteria_to_json(draft.goal_type, draft.criteria),
            name=draft.name,
            is_active=True,
            version=1,
            created_at=change.moment,
            created_by=actor,
            updated_at=change.moment,
            updated_by=actor,
        )
        _refuse_duplicate(goal, live)
        if len(live) >= maximum:
            raise refusals.TooManyGoalsError(maximum)
        await statements.write_goal(connection, change, "created", None, goal)
    return goal


async def update(
    database: connections.Database,
    tenant_id: str,
    goal_id: UUID,
    given: Mapping[str, Any],
    *,
    actor: str,
    expected_version: int | None = None,
    workflow_id: str | None = None,
) -> StoredGoal:
    """Change any of {criteria, name, is_active}; a change without effect makes no version.

    InvalidGoalError, GoalNotFoundError, StaleGoalError, DuplicateGoalError, LockBusyError.
    """
    async with connections.part_of_tenant_transaction(database, tenant_id, "goals_write") as connection:
        current = await reading.find(connection, tenant_id, goal_id, workflow_id)
        _refuse_stale(current, expected_version)
        changes = drafts.parse_changes(current.goal_type, given)
        if _apply(current, changes) == current:
            return current
        if changes.criteria is not UNSET:
            await tracking.refuse_untracked(connection, changes.criteria)
        change, live = await begin_change(connection, tenant_id, current.workflow_id, actor)
        before = find(live, goal_id)
        _refuse_stale(before, expected_version)
        after = _apply(before, changes)
        if after == before:
            return before
        after = structs.replace(after, version=before.version + 1, updated_at=change.moment, updated_by=actor)
        _refuse_duplicate(after, live)
        await statements.write_goal(connection, change, "updated", before, after)
    return after


async def delete(
    database: connections.Database,
    tenant_id: str,
    goal_id: UUID,
    *,
    actor: str,
    expected_version: int | None = None,
    workflow_id: str | None = None,
) -> StoredGoal:
    """Delete a goal; its versions and achievements stay. GoalNotFoundError, StaleGoalError, LockBusyError."""
    async with connections.part_of_tenant_transaction(database, tenant_id, "goals_write") as connection:
        current = await reading.find(connection, tenant_id, goal_id, workflow_id)
        _refuse_stale(current, expected_version)
        change, live = await begin_change(connection, tenant_id, current.workflow_id, actor)
        before = find(live, goal_id)
        _refuse_stale(before, expected_version)
        after = structs.replace(
            before, version=before.version + 1, updated_at=change.moment, updated_by=actor, deleted_at=change.moment
        )
        await statements.write_goal(connection, change, "deleted", before, after)
    return after


async def set_logic(
    database: connections.Database, tenant_id: str, workflow_id: str, logic: str, *, actor: str
) -> bool:
    """Set a workflow's logic from now on; return whether it changed. InvalidGoalError, LockBusyError."""
    drafts.require_ids(tenant_id=tenant_id, workflow_id=workflow_id)
    if logic not in goals.LOGICS:
        fault = faults.Fault("/logic", f"`logic` must be one of {', '.join(goals.LOGICS)}")
        raise refusals.InvalidGoalError([fault])
    current = reading.latest_logic(tenant_id, workflow_id)
    async with connections.part_of_tenant_transaction(database, tenant_id, "goals_write") as connection:
        if (await connection.scalar(sa.select(current)) or goals.DEFAULT_LOGIC) == logic:
            return False
        await lock(connection)
        row = (
            await connection.execute(
                sa.select(_NEXT.c.moment, _NEXT.c.revision, current.label("logic"), _is_elsewhere(tenant_id))
            )
        ).one()
        _refuse_foreign(tenant_id, is_elsewhere=row.is_elsewhere)
        before = row.logic or goals.DEFAULT_LOGIC
        if before != logic:
            change = statements.ChangeContext(tenant_id, workflow_id, actor, row.moment, row.revision)
            await statements.write_logic(connection, change, before, logic)
    return before != logic


# --- lock and moment ---

_CLOCK: Final = tables.goal_revision.c
_NEXT: Final = (
    sa.update(tables.goal_revision)
    .values(
        revision=_CLOCK.revision + 1,
        # The wall clock may stand still or go back; moments always increase.
        moment=sa.func.greatest(sa.func.clock_timestamp(), _CLOCK.moment + timedelta(microseconds=1)),
    )
    .returning(_CLOCK.moment, _CLOCK.revision)
    .cte("next")
)


async def lock(connection: sa_async.AsyncConnection) -> None:
    """Take the lock that excludes other changes, and workers that record hits by the goals so far; LockBusyError."""
    try:
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(connections.GOAL_LOCK)))
    except sa.exc.DBAPIError as error:
        if error.orig is not None and isinstance(error.orig.__cause__, asyncpg.LockNotAvailableError):
            raise refusals.LockBusyError from error
        raise


def _is_elsewhere(tenant_id: str) -> sa.Label[bool]:
    """Return whether a tenant was moved to another cell, read under the lock that its move took."""
    moved = cell_tables.moved_tenants.c
    elsewhere = sa.exists().where(moved.tenant_id == tenant_id, moved.state != cell_store.HERE)
    return elsewhere.label("is_elsewhere")


def _refuse_foreign(tenant_id: str, *, is_elsewhere: bool) -> None:
    if is_elsewhere:
        raise cell_store.ForeignTenantError(tenant_id)


async def begin_change(
    connection: sa_async.AsyncConnection, tenant_id: str, workflow_id: str, actor: str
) -> tuple[statements.ChangeContext, list[StoredGoal]]:
    """Take the lock, then the next moment together with the workflow's goals, without deleted ones.

    Two statements: one that waits for the lock would see the goals as they were before the wait.
    """
    await lock(connection)
    columns = tables.goals.c
    of_workflow = (columns.tenant_id == tenant_id) & (columns.workflow_id == workflow_id) & columns.deleted_at.is_(None)
    result = await connection.execute(
        sa.select(_NEXT.c.moment, _NEXT.c.revision, _is_elsewhere(tenant_id), *reading.COLUMNS).select_from(
            _NEXT.outerjoin(reading.WITH_VERSION, of_workflow)
        )
    )
    rows = result.all()
    _refuse_foreign(tenant_id, is_elsewhere=rows[0].is_elsewhere)
    change = statements.ChangeContext(tenant_id, workflow_id, actor, rows[0].moment, rows[0].revision)
    return change, [reading.stored_goal(row) for row in rows if row.id is not None]


def find(live: Iterable[StoredGoal], goal_id: UUID) -> StoredGoal:
    """Return a goal of a workflow; GoalNotFoundError."""
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


def _apply(goal: StoredGoal, changes: drafts.Changes) -> StoredGoal:
    given = {name: value for name, value in structs.asdict(changes).items() if value is not UNSET}
    if isinstance(changes.criteria, criteria.Criteria):
        given["criteria"] = criteria.criteria_to_json(goal.goal_type, changes.criteria)
    return structs.replace(goal, **given)
