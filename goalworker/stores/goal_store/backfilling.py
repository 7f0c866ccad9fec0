"""Start of a backfill: the goal's present version counts from an earlier moment on (contract section 7)."""

from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.postgres import connections, insight_tables
from goalworker.stores import history, jobs
from goalworker.stores.goal_store import changes, reading, statements
from goalworker.stores.goal_store.reading import StoredGoal

_JOBS: Final = insight_tables.jobs.c


class BackfillRefusedError(errors.GoalworkerError):
    """The goal cannot be backfilled from this moment, or not now; the message says why."""


async def begin(
    pool: sa_async.AsyncEngine,
    tenant_id: str,
    workflow_id: str,
    goal_id: UUID,
    since: datetime,
    *,
    exits: bool,
    actor: str,
) -> UUID:
    """Let a goal count from a moment on, queue the backfill of its hits since then, and return the job's id.

    From now on, the worker counts late events of that time too. GoalNotFoundError, BackfillRefusedError, LockBusyError.
    """
    async with connections.tenant_transaction(pool, tenant_id, "goals_write") as connection:
        goal = await reading.find(connection, tenant_id, goal_id, workflow_id)
        covered = await history.coverage(await connections.driver_of(connection), tenant_id)
        change, live = await changes.begin_change(connection, tenant_id, workflow_id, actor)
        goal = changes.find(live, goal_id)
        _refuse_moment(goal, since, change.moment, covered)
        await _refuse_second(connection, tenant_id, goal_id)
        await statements.write_backfill(connection, change, goal, since, exits=exits)
        # Everything before this moment is history's; what comes later, the worker counts.
        request = {"from": since.isoformat(), "exits": exits, "until": change.moment.isoformat()}
        return await jobs.insert(
            connection, tenant_id, jobs.BACKFILL, workflow_id, request, actor=actor, goal_id=goal_id
        )


def _refuse_moment(goal: StoredGoal, since: datetime, now: datetime, covered: history.Coverage) -> None:
    if since > now:
        raise BackfillRefusedError("`from` is in the future; a backfill counts the past")
    if covered.history_from is None:
        raise BackfillRefusedError("No events are kept here (goalworker insight, GOALWORKER_HISTORY__RETENTION)")
    if since < covered.history_from:
        earliest = covered.history_from.isoformat().replace("+00:00", "Z")
        raise BackfillRefusedError(f"History reaches back to {earliest} only; give that or a later moment as `from`")
    if goal.version > 1 and goal.updated_at > since:
        changed = goal.updated_at.isoformat().replace("+00:00", "Z")
        raise BackfillRefusedError(f"The goal was changed at {changed}, since `from`; give that or a later moment")


async def _refuse_second(connection: sa_async.AsyncConnection, tenant_id: str, goal_id: UUID) -> None:
    """Refuse a backfill beside another one; the lock on goals lets no third one begin meanwhile."""
    unfinished = sa.select(_JOBS.job_id).where(
        _JOBS.tenant_id == tenant_id,
        _JOBS.goal_id == goal_id,
        _JOBS.kind == jobs.BACKFILL,
        _JOBS.state.in_((jobs.QUEUED, jobs.RUNNING)),
    )
    if (job_id := await connection.scalar(unfinished)) is not None:
        raise BackfillRefusedError(f"Backfill {job_id} of this goal has not ended; wait for its end, or cancel it")
