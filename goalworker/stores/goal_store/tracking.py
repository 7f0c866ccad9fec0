"""Tracking of enrollments, a mode of the whole installation, and what it means for goals (contract rule 3.8)."""

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain.criteria import Criteria
from goalworker.domain.faults import Fault
from goalworker.postgres import connections, tables
from goalworker.stores.goal_store import refusals

_NEED_TRACKING: Final = {
    "deadline": "counts from the enrollment",
    "correlate_by": "compares with the enrollment",
}

_STORE: Final = "INSERT INTO installation VALUES (1, $1) ON CONFLICT DO NOTHING RETURNING true"
_GOALS_THAT_NEED_TRACKING: Final = """
SELECT tenant_id, workflow_id, goal_id, count(*) OVER () AS count
FROM goals JOIN goal_versions USING (tenant_id, goal_id, version)
WHERE deleted_at IS NULL AND criteria ?| $1
ORDER BY created_at, goal_id
LIMIT 1
"""


async def ensure_tracking(connection: connections.Connection, tracking: bool) -> None:
    """Store the tracking mode at the first start; SettingsError if another is stored (contract rule 3.8).

    Goals that were created before then, and could never be achieved without tracking, are a SettingsError too.
    """
    is_first_start = await connection.fetchval(_STORE, tracking)
    if is_first_start and not tracking:
        await _refuse_stored_goals(connection)
    await check_tracking(connection, tracking)


async def _refuse_stored_goals(connection: connections.Connection) -> None:
    """Raise SettingsError for goals that need tracked enrollments."""
    found = await connection.fetchrow(_GOALS_THAT_NEED_TRACKING, [*_NEED_TRACKING])
    if found is not None:
        names = " or ".join(f"`{name}`" for name in _NEED_TRACKING)
        raise errors.SettingsError(
            f"GOALWORKER_ENROLLMENTS__TRACKING=false, but {names} needs tracked enrollments, and goals have it "
            f"({found['count']}; the oldest is {found['goal_id']} in workflow {found['workflow_id']} of tenant "
            f"{found['tenant_id']}): change them with `goalworker goals update`, or set it to true"
        )


async def check_tracking(connection: connections.Connection, tracking: bool) -> None:
    """Raise SettingsError if another tracking mode is stored."""
    if await connection.fetchval("SELECT enrollment_tracking FROM installation") not in (None, tracking):
        stored, given = str(not tracking).lower(), str(tracking).lower()
        raise errors.SettingsError(
            f"GOALWORKER_ENROLLMENTS__TRACKING={given}, but this database was started with {stored}, and its contents "
            f"mean nothing in the other mode: set it to {stored}, or use another database"
        )


async def refuse_untracked(connection: sa_async.AsyncConnection, criteria: Criteria) -> None:
    """Raise InvalidGoalError for settings that need tracked enrollments while tracking is off."""
    faults = _faults(criteria)
    if faults and await _is_off(connection):
        raise refusals.InvalidGoalError(faults)


async def untracked_faults(
    pool: sa_async.AsyncEngine, tenant_id: str, of_goals: Iterable[Criteria]
) -> list[list[Fault]]:
    """Return, for each criteria, the faults for which refuse_untracked would refuse them.

    Pointers are relative to the goal. The database is asked only if such settings are given.
    """
    faults = [_faults(criteria) for criteria in of_goals]
    if not any(faults):
        return faults
    async with connections.tenant_transaction(pool, tenant_id, "goals_read") as connection:
        return faults if await _is_off(connection) else [[] for _ in faults]


async def _is_off(connection: sa_async.AsyncConnection) -> bool:
    # Nothing is stored before the first start of a worker, and tracking is on by default.
    return await connection.scalar(sa.select(tables.installation.c.enrollment_tracking)) is False


def _faults(criteria: Criteria) -> list[Fault]:
    return [
        Fault(
            f"/criteria/{name}",
            f"`{name}` {why}, and enrollments are not tracked here (GOALWORKER_ENROLLMENTS__TRACKING=false); leave it "
            'out, and limit `times` or `total_amount` by `within`, such as "within": "P30D"',
        )
        for name, why in _NEED_TRACKING.items()
        if getattr(criteria, name) is not None
    ]
