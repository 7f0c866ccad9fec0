"""The audit: changes of goals, plans and explanations, with their actors (contract sections 5 and 7)."""

import re
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import tables
from goalworker.stores.achievements import CursorError

EXPLAINED: Final = "explained"
QUESTIONS: Final = ("planned", EXPLAINED)
"""Actions that change nothing."""
ACTIONS: Final = ("created", "updated", "deleted", "logic_set", "backfilled", *QUESTIONS)


class Entry(Struct, frozen=True):
    """One act; before and after are those of a change, and after is also the request of a plan."""

    at: datetime
    actor: str
    action: str
    workflow_id: str
    goal_id: UUID | None
    contact_id: str | None
    version: int | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Page(Struct, frozen=True):
    """A page of the audit, oldest first; next_cursor requests the next one and is None on the last one."""

    entries: tuple[Entry, ...]
    next_cursor: str | None


_LOG: Final = tables.audit_log.c


async def record_explanation(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    workflow_id: str,
    contact_id: str,
    *,
    actor: str,
) -> None:
    """Record an explanation of a contact with its actor."""
    entry = {"tenant_id": tenant_id, "workflow_id": workflow_id, "contact_id": contact_id, "actor": actor}
    at, nothing = sa.func.clock_timestamp(), sa.null()
    await connection.execute(
        sa.insert(tables.audit_log).values(**entry, at=at, action=EXPLAINED, before=nothing, after=nothing)
    )


async def list_entries(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    *,
    cursor: str | None,
    limit: int,
    action: str | None = None,
    contact_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Page:
    """Return a page of a tenant's audit, oldest first; CursorError."""
    conditions = [_LOG.tenant_id == tenant_id]
    conditions += [] if action is None else [_LOG.action == action]
    conditions += [] if contact_id is None else [_LOG.contact_id == contact_id]
    conditions += [] if since is None else [_LOG.at >= since]
    conditions += [] if until is None else [_LOG.at < until]
    if cursor is not None:
        conditions.append(sa.tuple_(_LOG.at, _LOG.id) > sa.tuple_(*map(sa.literal, _decoded(cursor))))
    columns = [_LOG[name] for name in Entry.__struct_fields__]
    query = sa.select(*columns, _LOG.id).where(*conditions).order_by(_LOG.at, _LOG.id).limit(limit + 1)
    rows = (await connection.execute(query)).all()
    page = rows[:limit]
    next_cursor = f"{page[-1].at.isoformat()}_{page[-1].id}" if len(rows) > limit else None
    return Page(tuple([Entry(*row[:-1]) for row in page]), next_cursor)


def _decoded(cursor: str) -> tuple[datetime, int]:
    at, _, id_ = cursor.rpartition("_")
    try:
        moment = datetime.fromisoformat(at).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise CursorError from error
    if not re.fullmatch("[0-9]{1,18}", id_):
        raise CursorError
    return moment, int(id_)
