"""Everything that one change writes, as one statement: one round trip while everybody else waits."""

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


class Turn(Struct, frozen=True):
    """Whose turn it is, from which moment on the change holds, and under which revision workers find it."""

    tenant_id: str
    workflow_id: str
    actor: str
    moment: datetime
    revision: int


async def write_goal(
    connection: sa_async.AsyncConnection, turn: Turn, action: str, before: StoredGoal | None, after: StoredGoal
) -> None:
    """Write a goal, created where there is no before, with its versions, its message and the audit."""
    audit = _audit(turn, action, _shown(before), _shown(after), goal_id=after.id, version=after.version)
    await _execute(connection, [*_goal(turn, before, after), _message(turn, action, after), audit])


async def write_logic(connection: sa_async.AsyncConnection, turn: Turn, before: str, after: str) -> None:
    """Write a workflow's logic with the audit."""
    setting = sa.insert(tables.workflow_settings).values(
        tenant_id=turn.tenant_id,
        workflow_id=turn.workflow_id,
        active_from=turn.moment,
        logic=after,
        revision=turn.revision,
    )
    await _execute(connection, [setting, _audit(turn, "logic_set", {"logic": before}, {"logic": after})])


async def _execute(connection: sa_async.AsyncConnection, writes: Iterable[Write]) -> None:
    parts = [write.cte(f"write_{number}") for number, write in enumerate(writes)]
    await connection.execute(sa.select(sa.true()).add_cte(*parts))


def _goal(turn: Turn, before: StoredGoal | None, after: StoredGoal) -> list[Write]:
    key: dict[str, object] = {"tenant_id": turn.tenant_id, "goal_id": after.id}
    row = {
        "name": after.name,
        "version": after.version,
        "updated_at": after.updated_at,
        "updated_by": after.updated_by,
        "deleted_at": after.deleted_at,
        "revision": turn.revision,
    }
    if before is None:
        row |= {name: getattr(after, name) for name in ("workflow_id", "goal_type", "created_at", "created_by")}
        return [sa.insert(tables.goals).values(**key, **row), _version(turn, key, after)]
    goal = sa.update(tables.goals).filter_by(**key).values(**row)
    last = sa.update(tables.goal_versions).filter_by(**key, version=before.version).values(active_to=turn.moment)
    return [goal, last] if after.deleted_at else [goal, last, _version(turn, key, after)]


def _version(turn: Turn, key: dict[str, object], goal: StoredGoal) -> sa.Insert:
    return sa.insert(tables.goal_versions).values(
        **key,
        version=goal.version,
        criteria=goal.criteria,
        is_active=goal.is_active,
        active_from=turn.moment,
    )


def _message(turn: Turn, action: str, goal: StoredGoal) -> sa.Insert:
    description = {name: getattr(goal, name) for name in ("workflow_id", "goal_type", "criteria", "is_active")}
    message = messages.configured(turn.tenant_id, goal.id, goal.version, action, turn.moment, description)
    return sa.insert(tables.outbox).values(topic=message.topic, key=message.key, value=message.value)


def _shown(goal: StoredGoal | None) -> dict[str, Any] | None:
    """Return what the audit says of a goal: nothing before its creation and after its deletion."""
    if goal is None or goal.deleted_at is not None:
        return None
    return {name: getattr(goal, name) for name in ("goal_type", "criteria", "name", "is_active")}


def _audit(
    turn: Turn, action: str, before: dict[str, Any] | None, after: dict[str, Any] | None, **goal: object
) -> sa.Insert:
    return sa.insert(tables.audit_log).values(
        tenant_id=turn.tenant_id,
        workflow_id=turn.workflow_id,
        at=turn.moment,
        actor=turn.actor,
        action=action,
        before=sa.null() if before is None else before,
        after=sa.null() if after is None else after,
        **goal,
    )
