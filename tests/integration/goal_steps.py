"""Steps on goals that several tests share: create, change, delete, load and count them."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import goals
from goalworker.goal_index import index
from goalworker.postgres import connections, tables
from goalworker.stores import goal_store

TENANT, WORKFLOW, ACTOR, MAXIMUM = "acme", "onboarding", "ann", 3


async def create(
    pool: sa_async.AsyncEngine,
    tag_id: str = "t1",
    *,
    tenant_id: str = TENANT,
    workflow_id: str = WORKFLOW,
    given: Mapping[str, Any] | None = None,
) -> goal_store.StoredGoal:
    draft = goal_store.parse_draft(given or {"goal_type": "tag_added", "criteria": {"tag_id": tag_id}})
    return await goal_store.create(pool, tenant_id, workflow_id, draft, actor=ACTOR, maximum=MAXIMUM)


async def update(
    pool: sa_async.AsyncEngine, goal: goal_store.StoredGoal, expected_version: int | None = None, **given: Any
) -> goal_store.StoredGoal:
    return await goal_store.update(pool, TENANT, goal.id, given, actor="bob", expected_version=expected_version)


async def delete(pool: sa_async.AsyncEngine, goal: goal_store.StoredGoal) -> goal_store.StoredGoal:
    return await goal_store.delete(pool, TENANT, goal.id, actor="eve")


async def load(pool: sa_async.AsyncEngine, known: index.Index | None = None) -> index.Index:
    known = index.Index() if known is None else known
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        await goal_store.refresh_index(connection, known)
    return known


async def versions(pool: sa_async.AsyncEngine, goal_id: UUID) -> tuple[goals.GoalVersion, ...]:
    (goal,) = (goal for goal in (await load(pool)).workflow(TENANT, WORKFLOW).goals if goal.goal_id == goal_id)
    return goal.versions


async def traces(administrator: connections.Connection) -> list[int]:
    names = ("goal_versions", "workflow_settings", "audit_log", "outbox")
    return [await administrator.fetchval(f"SELECT count(*) FROM {name}") for name in names]
