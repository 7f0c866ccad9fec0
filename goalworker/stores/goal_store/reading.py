"""Queries for people: one goal, a page of goals, the logic of a workflow, and the audit."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import goals
from goalworker.domain.criteria import criteria_of_json, criteria_to_json
from goalworker.domain.text import is_valid_text
from goalworker.postgres import connections, tables
from goalworker.stores.goal_store import refusals


class StoredGoal(Struct, frozen=True):
    """`goal` of contract section 5: the fields in their order, criteria normalised."""

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
    """A page of goals in the order of their creation, and the total number of goals."""

    goals: tuple[StoredGoal, ...]
    total: int


class AuditEntry(Struct, frozen=True):
    """One change of a goal: time, actor, and the goal before and after."""

    at: datetime
    actor: str
    action: str
    version: int
    before: dict[str, Any] | None
    after: dict[str, Any] | None


_GOALS: Final = tables.goals.c
_VERSIONS: Final = tables.goal_versions.c

# A deletion takes a version number for its message, but has no row in goal_versions.
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


def stored_goal(row: sa.Row[*tuple[Any, ...]]) -> StoredGoal:
    """Return the goal in a row with COLUMNS. JSONB does not keep the order of criteria, so they are put in ours."""
    fields = {name: getattr(row, name) for name in StoredGoal.__struct_fields__}
    return StoredGoal(**fields | {"criteria": criteria_to_json(row.goal_type, criteria_of_json(row.criteria))})


async def get(
    pool: sa_async.AsyncEngine, tenant_id: str, goal_id: UUID, *, workflow_id: str | None = None
) -> StoredGoal:
    """Return a goal, of the given workflow if any; GoalNotFoundError."""
    async with connections.tenant_transaction(pool, tenant_id, "goals_read") as connection:
        return await find(connection, tenant_id, goal_id, workflow_id)


async def find(
    connection: sa_async.AsyncConnection, tenant_id: str, goal_id: UUID, workflow_id: str | None
) -> StoredGoal:
    """Return a goal that is not deleted; GoalNotFoundError."""
    result = await connection.execute(
        sa.select(*COLUMNS)
        .select_from(WITH_VERSION)
        .where(_GOALS.tenant_id == tenant_id, _GOALS.goal_id == goal_id, _GOALS.deleted_at.is_(None))
    )
    row = result.one_or_none()
    if row is None or workflow_id not in (None, row.workflow_id):
        raise refusals.GoalNotFoundError(goal_id)
    return stored_goal(row)


async def list_goals(
    database: connections.Database,
    tenant_id: str,
    workflow_id: str | None,
    *,
    offset: int = 0,
    limit: int = 50,
    include_deleted: bool = False,
) -> Page:
    """Return a page of goals of a workflow, or of the whole tenant for None."""
    if workflow_id is not None and not is_valid_text(workflow_id):
        return Page((), 0)
    conditions = [_GOALS.tenant_id == tenant_id]
    conditions += [_GOALS.workflow_id == workflow_id] if workflow_id is not None else []
    conditions += [] if include_deleted else [_GOALS.deleted_at.is_(None)]
    query = sa.select(*COLUMNS).select_from(WITH_VERSION).where(*conditions)
    async with connections.part_of_tenant_transaction(database, tenant_id, "goals_read") as connection:
        total = await connection.scalar(sa.select(sa.func.count()).select_from(tables.goals).where(*conditions))
        rows = await connection.execute(query.order_by(_GOALS.created_at, _GOALS.goal_id).offset(offset).limit(limit))
        return Page(tuple(map(stored_goal, rows)), total or 0)


async def get_logic(database: connections.Database, tenant_id: str, workflow_id: str) -> str:
    """Return a workflow's logic, `any` by default."""
    if not is_valid_text(workflow_id):
        return goals.DEFAULT_LOGIC
    async with connections.part_of_tenant_transaction(database, tenant_id, "goals_read") as connection:
        return await connection.scalar(sa.select(latest_logic(tenant_id, workflow_id))) or goals.DEFAULT_LOGIC


def latest_logic(tenant_id: str, workflow_id: str) -> sa.ScalarSelect[str]:
    """Return a query for the logic that was set last; it yields NULL before the first."""
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
    """Return every change of a goal, oldest first, even after its deletion; GoalNotFoundError."""
    log = tables.audit_log.c
    conditions = [log.tenant_id == tenant_id, log.goal_id == goal_id]
    conditions += [log.workflow_id == workflow_id] if workflow_id is not None else []
    columns = [log[name] for name in AuditEntry.__struct_fields__]
    async with connections.tenant_transaction(pool, tenant_id, "goals_read") as connection:
        rows = (await connection.execute(sa.select(*columns).where(*conditions).order_by(log.id))).all()
    if not rows:
        raise refusals.GoalNotFoundError(goal_id)
    return tuple(AuditEntry(**row._mapping) for row in rows)
