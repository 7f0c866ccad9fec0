"""List of all goals of a tenant, read page by page."""

from typing import Final

from sqlalchemy.ext import asyncio as sa_async

from goalworker.stores import goal_store

# Goals that one query returns at most.
_PAGE_GOALS: Final = 1_000


async def list_all(
    pool: sa_async.AsyncEngine, tenant_id: str, workflow_id: str | None, *, include_deleted: bool
) -> list[goal_store.StoredGoal]:
    """Return the goals of a workflow, or of all workflows, in the order of their creation."""
    found: list[goal_store.StoredGoal] = []
    while True:
        page = await goal_store.list_goals(
            pool, tenant_id, workflow_id, offset=len(found), limit=_PAGE_GOALS, include_deleted=include_deleted
        )
        found += page.goals
        if len(page.goals) < _PAGE_GOALS:
            return found
