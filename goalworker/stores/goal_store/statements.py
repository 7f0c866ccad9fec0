"""One statement for everything that a change writes, so that the lock is held for one round trip."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import messages
from goalworker.postgres import tables
from goalworker.stores.goal_store.reading import StoredGoal

Write = sa.Insert | sa.Update


class ChangeContext(Struct, frozen=True):
    """Tenant, workflow and actor of a change, the moment it takes effect, and the revision that workers load it by."""

    tenant_id: str
    workflow_id: str
    actor: str
    moment: datetime
    revision: int


async def write_goal(
    connection: sa_async.AsyncConnection,
    change: ChangeContext,
    action: str,
    before: StoredGoal | None,
    after: StoredGoal,
) -> None:
    """Write a goal with its versions, its message and the audit; without `before` it is created."""
    audit = _audit(change, action, _audited(before), _audited(after), goal_id=after.id, version=after.version)
    await _execute(connection, [*_goal(change, before, after), _message(change, action, after), audit])


async def write_logic(connection: sa_async.AsyncConnection, change: ChangeContext, before: str, after: str) -> None:
    """Write a workflow's logic and the audit."""
    setting = sa.insert(tables.workflow_settings).values(
        tenant_id=change.tenant_id,
        workflow_id=change.workflow_id,
        active_from=change.moment,
        logic=after,
        revision=change.revision,
    )
    await _execute(connection, [setting, _audit(change, "logic_set", {"logic": before}, {"logic": after})])


async def write_backfill(
    connection: sa_async.AsyncConnection, change: ChangeContext, goal: StoredGoal, since: datetime, *, exits: bool
) -> None:
    """Let a goal's version count from a moment on, unless it does already, and write the audit.

    Without exits, those of satisfactions before the change are withheld where they rest on hits before the version.
    """
    key: dict[str, object] = {"tenant_id": change.tenant_id, "goal_id": goal.id}
    version = sa.update(tables.goal_versions).filter_by(**key, version=goal.version)
    counted = version.where(tables.goal_versions.c.active_from > since).values(
        counts_from=sa.func.least(tables.goal_versions.c.counts_from, since),  # NULL is ignored
        exits_withheld_until=None if exits else change.moment,
    )
    revised = sa.update(tables.goals).filter_by(**key).values(revision=change.revision)
    asked = {"from": since.isoformat(), "exits": exits}
    audit = _audit(change, "backfilled", None, asked, goal_id=goal.id, version=goal.version)
    await _execute(connection, [counted, revised, audit])


async def _execute(connection: sa_async.AsyncConnection, writes: Iterable[Write]) -> None:
    parts = [write.cte(f"write_{number}") for number, write in enumerate(writes)]
    await connection.execute(sa.select(sa.true()).add_cte(*parts))


def _goal(change: ChangeContext, before: StoredGoal | None, after: StoredGoal) -> list[Write]:
    key: dict[str, object] = {"tenant_id": change.tenant_id, "goal_id": after.id}
    row = {
        "name": after.name,
        "version": after.version,
        "updated_at": after.updated_at,
        "updated_by": after.updated_by,
        "deleted_at": after.deleted_at,
        "revision": change.revision,
    }
    if before is None:
        row |= {name: getattr(after, name) for name in ("workflow_id", "goal_type", "created_at", "created_by")}
        return [sa.insert(tables.goals).values(**key, **row), _version(change, key, after)]
    goal = sa.update(tables.goals).filter_by(**key).values(**row)
    last = sa.update(tables.goal_versions).filter_by(**key, version=before.version).values(active_to=change.moment)
    return [goal, last] if after.deleted_at else [goal, last, _version(change, key, after)]


def _version(change: ChangeContext, key: dict[str, object], goal: StoredGoal) -> sa.Insert:
    return sa.insert(tables.goal_versions).values(
        **key,
        version=goal.version,
        criteria=goal.criteria,
        is_active=goal.is_active,
        active_from=change.moment,
    )


def _message(change: ChangeContext, action: str, goal: StoredGoal) -> sa.Insert:
    description = {name: getattr(goal, name) for name in ("workflow_id", "goal_type", "criteria", "is_active")}
    message = messages.configured(change.tenant_id, goal.id, goal.version, action, change.moment, description)
    return sa.insert(tables.outbox).values(topic=message.topic, key=message.key, value=message.value)


def _audited(goal: StoredGoal | None) -> dict[str, Any] | None:
    """Return the fields of a goal in the audit; None before its creation and after its deletion."""
    if goal is None or goal.deleted_at is not None:
        return None
    return {name: getattr(goal, name) for name in ("goal_type", "criteria", "name", "is_active")}


def _audit(
    change: ChangeContext, action: str, before: dict[str, Any] | None, after: dict[str, Any] | None, **goal: object
) -> sa.Insert:
    return sa.insert(tables.audit_log).values(
        tenant_id=change.tenant_id,
        workflow_id=change.workflow_id,
        at=change.moment,
        actor=change.actor,
        action=action,
        before=sa.null() if before is None else before,
        after=sa.null() if after is None else after,
        **goal,
    )
