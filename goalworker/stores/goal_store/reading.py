"""Goals as people see them: one, a page of them, the logic of a workflow, and who changed what."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import goals
from goalworker.domain.criteria import Criteria, criteria_to_json
from goalworker.domain.text import is_valid_text
from goalworker.postgres import connections, tables
from goalworker.stores.goal_store import refusals


class StoredGoal(Struct, frozen=True):
    """`goal` of contract section 5: the fields, their order, the criteria normalised."""

    id: UUID
    workflow_id: str
    goal_type: str
    criteria: dict[str, Any]
    name: str | None
    is_active: bool
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    deleted_at: datetime | None = None


class Page(Struct, frozen=True):
    """Some of the goals, in the order of their creation, and how many there are."""

    goals: tuple[StoredGoal, ...]
    total: int


class AuditEntry(Struct, frozen=True):
    """One change: who, when, and from which to which."""

    at: datetime
    actor: str
    action: str
    version: int
    before: dict[str, Any] | None
    after: dict[str, Any] | None


_GOALS: Final = tables.goals.c
_VERSIONS: Final = tables.goal_versions.c

# A deletion takes a number of its own, for its message, and makes no version.
_LAST_VERSION: Final = _GOALS.version - sa.case((_GOALS.deleted_at.is_not(None), 1), else_=0)
WITH_VERSION: Final = tables.goals.join(
    tables.goal_versions,
    (_VERSIONS.tenant_id == _GOALS.tenant_id)
    & (_VERSIONS.goal_id == _GOALS.goal_id)
    & (_VERSIONS.version == _LAST_VERSION),
)
COLUMNS: Final = (
    _GOALS.goal_id.label("id"),
    _GOALS.workflow_id,
    _GOALS.goal_type,
    _VERSIONS.criteria,
    _GOALS.name,
    _VERSIONS.is_active,
    _GOALS.version,
    _GOALS.created_at,
    _GOALS.created_by,
    _GOALS.updated_at,
    _GOALS.updated_by,
    _GOALS.deleted_at,
)


def stored(row: sa.Row[*tuple[Any, ...]]) -> StoredGoal:
    """Return the goal in a row with COLUMNS; the database keeps criteria in an order of its own, we in ours."""
    fields = {name: getattr(row, name) for name in StoredGoal.__struct_fields__}
    criteria = msgspec.convert(row.criteria, Criteria)
    return StoredGoal(**fields | {"criteria": criteria_to_json(row.goal_type, criteria)})


async def get(
    pool: sa_async.AsyncEngine, tenant_id: str, goal_id: UUID, *, workflow_id: str | None = None
) -> StoredGoal:
    """Return a goal, of that workflow if one is given; GoalNotFoundError."""
    async with connections.tenant_transaction(pool, tenant_id, "goals_read") as connection:
        return await find(connection, tenant_id, goal_id, workflow_id)


async def find(
    connection: sa_async.AsyncConnection, tenant_id: str, goal_id: UUID, workflow_id: str | None
) -> StoredGoal:
    """Return a goal that is not deleted; GoalNotFoundError."""
    found = await connection.execute(
        sa.select(*COLUMNS)
        .select_from(WITH_VERSION)
        .where(_GOALS.tenant_id == tenant_id, _GOALS.goal_id == goal_id, _GOALS.deleted_at.is_(None))
    )
    row = found.one_or_none()
    if row is None or workflow_id not in (None, row.workflow_id):
        raise refusals.GoalNotFoundError(goal_id)
    return stored(row)


async def list_goals(
    pool: sa_async.AsyncEngine,
    tenant_id: str,
    workflow_id: str | None,
    *,
    offset: int = 0,
    limit: int = 50,
    include_deleted: bool = False,
) -> Page:
    """Return goals of a workflow, or of the whole tenant for None."""
    if workflow_id is not None and not is_valid_text(workflow_id):
        return Page((), 0)
    wanted = [_GOALS.tenant_id == tenant_id]
    wanted += [_GOALS.workflow_id == workflow_id] if workflow_id is not None else []
    wanted += [] if include_deleted else [_GOALS.deleted_at.is_(None)]
    shown = sa.select(*COLUMNS).select_from(WITH_VERSION).where(*wanted)
    async with connections.tenant_transaction(pool, tenant_id, "goals_read") as connection:
        total = await connection.scalar(sa.select(sa.func.count()).select_from(tables.goals).where(*wanted))
        rows = await connection.execute(shown.order_by(_GOALS.created_at, _GOALS.goal_id).offset(offset).limit(limit))
        return Page(tuple(map(stored, rows)), total or 0)


async def get_logic(pool: sa_async.AsyncEngine, tenant_id: str, workflow_id: str) -> str:
    """Return a workflow's logic; before anyone sets it, `any`."""
    if not is_valid_text(workflow_id):
        return goals.DEFAULT_LOGIC
    async with connections.tenant_transaction(pool, tenant_id, "goals_read") as connection:
        return await connection.scalar(sa.select(logic_now(tenant_id, workflow_id))) or goals.DEFAULT_LOGIC


def logic_now(tenant_id: str, workflow_id: str) -> sa.ScalarSelect[str]:
    """Return the query for the logic that was set last, NULL where none was."""
    settings = tables.workflow_settings.c
    return (
        sa.select(settings.logic)
        .where(settings.tenant_id == tenant_id, settings.workflow_id == workflow_id)
        .order_by(settings.active_from.desc())
        .limit(1)
        .scalar_subquery()
    )


async def get_audit(
    pool: sa_async.AsyncEngine, tenant_id: str, goal_id: UUID, *, workflow_id: str | None = None
) -> tuple[AuditEntry, ...]:
    """Return every change of a goal, oldest first, also after its deletion; GoalNotFoundError."""
    log = tables.audit_log.c
    wanted = [log.tenant_id == tenant_id, log.goal_id == goal_id]
    wanted += [log.workflow_id == workflow_id] if workflow_id is not None else []
    columns = (log.at, log.actor, log.action, log.version, log.before, log.after)
    async with connections.tenant_transaction(pool, tenant_id, "goals_read") as connection:
        rows = (await connection.execute(sa.select(*columns).where(*wanted).order_by(log.id))).all()
    if not rows:
        raise refusals.GoalNotFoundError(goal_id)
    return tuple(AuditEntry(*row) for row in rows)
