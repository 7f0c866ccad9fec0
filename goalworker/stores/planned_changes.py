"""Planned changes of a workflow's goals, made only while these are the goals that were planned with."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain import planning
from goalworker.postgres import connections
from goalworker.stores import goal_store

STORED_MAX: Final = 1_000
"""Goals of a workflow that a plan looks at, at most."""


class Present(Struct, frozen=True):
    """Goals of a workflow that are not deleted, by their ids, and its logic."""

    goals: Mapping[UUID, goal_store.StoredGoal]
    logic: str


class ChangedSinceError(errors.GoalworkerError):
    """The goals or the logic of a workflow are no longer those that a plan was made with."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(f"The goals of {workflow_id!r} have changed since they were planned; plan again")


async def read_present(database: connections.Database, tenant_id: str, workflow_id: str) -> Present:
    """Return what a workflow has."""
    page = await goal_store.list_goals(database, tenant_id, workflow_id, limit=STORED_MAX)
    logic = await goal_store.get_logic(database, tenant_id, workflow_id)
    return Present({goal.id: goal for goal in page.goals}, logic)


def hash_of(workflow_id: str, present: Present, request: Mapping[str, Any]) -> str:
    """Return the hash that a plan of a request has while the workflow has these goals."""
    versions = {goal.id: goal.version for goal in present.goals.values()}
    return planning.plan_hash(workflow_id, versions, present.logic, request)


async def make(
    pool: sa_async.AsyncEngine,
    tenant_id: str,
    workflow_id: str,
    request: Mapping[str, Any],
    plan_hash: str,
    *,
    actor: str,
    maximum: int,
) -> tuple[goal_store.StoredGoal, ...]:
    """Make the changes of a request in one transaction, and return the goals that it created or changed.

    ChangedSinceError where the plan of the request would have another hash now, and the errors of each change.
    """
    async with connections.tenant_transaction(pool, tenant_id, "goals_write") as connection:
        await goal_store.lock(connection)  # until the end of the transaction, nobody else changes goals
        present = await read_present(connection, tenant_id, workflow_id)
        if hash_of(workflow_id, present, request) != plan_hash:
            raise ChangedSinceError(workflow_id)
        for goal_id in request["delete"]:
            await goal_store.delete(connection, tenant_id, UUID(goal_id), actor=actor)
        made = [
            await _make(connection, tenant_id, workflow_id, one, actor=actor, maximum=maximum)
            for one in request["goals"]
        ]
        if request["logic"] is not None:
            await goal_store.set_logic(connection, tenant_id, workflow_id, request["logic"], actor=actor)
    return tuple(made)


async def _make(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    workflow_id: str,
    one: Mapping[str, Any],
    *,
    actor: str,
    maximum: int,
) -> goal_store.StoredGoal:
    if "goal_type" in one:
        draft = goal_store.parse_draft(one)
        return await goal_store.create(connection, tenant_id, workflow_id, draft, actor=actor, maximum=maximum)
    return await goal_store.update(
        connection, tenant_id, UUID(one["goal_id"]), one["changes"], actor=actor, workflow_id=workflow_id
    )
