"""Warnings about goals: criteria that seldom mean what they say, and values that no event has had (contract 5)."""

from collections.abc import Iterable, Sequence

from sqlalchemy.ext import asyncio as sa_async

from goalworker import logs
from goalworker.domain.criteria import Criteria
from goalworker.domain.faults import Fault
from goalworker.postgres import connections, database_errors
from goalworker.stores import goal_store, value_suggestions

log = logs.get("goals")


async def about(pool: sa_async.AsyncEngine, tenant_id: str, goals: Iterable[tuple[str, Criteria]]) -> list[list[Fault]]:
    """Return the warnings about each goal, given by its type and criteria; pointers are relative to the goal."""
    asked = list(goals)
    unseen = await _about_unseen_values(pool, tenant_id, asked)
    return [[*goal_store.warnings(criteria), *of_goal] for (_, criteria), of_goal in zip(asked, unseen, strict=True)]


async def _about_unseen_values(
    pool: sa_async.AsyncEngine, tenant_id: str, goals: Sequence[tuple[str, Criteria]]
) -> list[list[Fault]]:
    try:
        async with connections.tenant_transaction(pool, tenant_id, "seen_values") as connection:
            return [
                await value_suggestions.warnings(connection, tenant_id, goal_type, criteria)
                for goal_type, criteria in goals
            ]
    except Exception as error:
        # The goal is stored already: an answer without the warning beats one that says that it failed.
        if not database_errors.is_unavailable(error):
            raise
        log.warning("seen_values_unavailable", error=logs.summarize_error(error))
        return [[] for _ in goals]
