"""Loading for the worker: goals and logics with all their versions, changed since the revision of its index."""

import asyncio
import gc
from bisect import bisect_left
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from msgspec import structs

from goalworker.domain import goals
from goalworker.domain.criteria import criteria_of_text
from goalworker.goal_index import index
from goalworker.postgres import connections

# Rows fetched at a time; other tasks run between chunks.
_CHUNK_ROWS: Final = 2_000

Rows = list[Any]


async def get_revision(connection: connections.Connection) -> int:
    """Return the revision of the last change to a goal or a logic."""
    return int(await connection.fetchval("SELECT revision FROM goal_revision"))


async def refresh_index(
    connection: connections.Connection, goal_index: index.Index, read_cell: Callable[[], Awaitable[None]] | None = None
) -> int:
    """Load all changes since the index's revision into the index, and return its new revision.

    read_cell reads which tenants were moved, which raises the revision too: it is awaited before the revision is taken.
    Needs a READ COMMITTED transaction of the worker's role. Between chunks other tasks may use the index. It keeps the
    old revision until the end, so whatever they match against a part of the changes is matched again.
    """
    since = goal_index.revision
    # Read before the rows: a later change is loaded now or the next time, but never missed.
    current = await get_revision(connection)
    if current == since:
        return current
    if read_cell is not None:
        await read_cell()
    with _without_collector():
        async with aclosing(_chunks(connection, _GOALS_CHANGED, since, _TENANT, _GOAL)) as chunks:
            async for rows in chunks:
                goal_index.replace(_goals_of(rows), {}, since)
        async with aclosing(_chunks(connection, _LOGICS_CHANGED, since, _WORKFLOW)) as chunks:
            async for rows in chunks:
                goal_index.replace((), dict(_logics_of(rows)), since)
    goal_index.replace((), {}, current)
    return current


async def load_workflow(connection: connections.Connection, tenant_id: str, workflow_id: str) -> goals.Workflow:
    """Return a workflow with every goal and every logic that it ever had, deleted ones too."""
    of_workflow = _goals_of(await connection.fetch(_GOALS_OF_WORKFLOW, tenant_id, workflow_id))
    logics = dict(_logics_of(await connection.fetch(_LOGICS_OF_WORKFLOW, tenant_id, workflow_id)))
    return goals.Workflow(tuple(of_workflow), logics.get((tenant_id, workflow_id), ()))


async def load_named(
    connection: connections.Connection, tenant_id: str, workflow_ids: Sequence[str], goal_ids: Collection[UUID]
) -> list[tuple[goals.Goal, str | None]]:
    """Return the goals of some workflows and some other ones, each with its name, deleted ones too."""
    of_tenant = (tenant_id, workflow_ids, list(goal_ids))
    names = dict(await connection.fetch(_NAMES, *of_tenant))
    found = _goals_of(await connection.fetch(_GOALS_CHOSEN, *of_tenant))
    return [(goal, names.get(goal.goal_id)) for goal in found]


@contextmanager
def _without_collector() -> Iterator[None]:
    # A million goals hold no garbage, and looking for it takes a third of the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# Sorted by tenant, so that the goals of a workflow arrive together and are packed once, and then by goal. Both primary
# keys have this order, so the first rows arrive at once, without sorting a million. A goal was created when its first
# version began; a NULL in place of that time decodes faster.
#
# A version that was backfilled is in force from its counts_from on (contract rule 3.1).
_GOALS: Final = """
    SELECT g.tenant_id, g.goal_id, g.workflow_id, g.goal_type,
           nullif(g.created_at, least(v.active_from, v.counts_from)) AS created_at,
           v.version, v.criteria::text AS criteria, v.is_active, least(v.active_from, v.counts_from) AS active_from,
           v.active_to, v.exits_withheld_until, v.active_from AS written_at
    FROM goals g JOIN goal_versions v USING (tenant_id, goal_id)
    WHERE {condition}
    ORDER BY g.tenant_id, g.goal_id, v.version
"""
_GOALS_CHANGED: Final = _GOALS.format(condition="g.revision > $1")
_GOALS_OF_WORKFLOW: Final = _GOALS.format(condition="g.tenant_id = $1 AND g.workflow_id = $2")
_CHOSEN: Final = "g.tenant_id = $1 AND (g.workflow_id = ANY ($2::text[]) OR g.goal_id = ANY ($3::uuid[]))"
_GOALS_CHOSEN: Final = _GOALS.format(condition=_CHOSEN)
_NAMES: Final = f"SELECT g.goal_id, g.name FROM goals g WHERE {_CHOSEN}"
_TENANT: Final = itemgetter("tenant_id")
_GOAL: Final = itemgetter("tenant_id", "goal_id")
_WORKFLOW: Final = itemgetter("tenant_id", "workflow_id")

_LOGICS: Final = """
    SELECT tenant_id, workflow_id, logic, active_from
    FROM workflow_settings
    WHERE {condition}
    ORDER BY tenant_id, workflow_id, active_from
"""
_LOGICS_CHANGED: Final = _LOGICS.format(
    condition="(tenant_id, workflow_id) IN (SELECT tenant_id, workflow_id FROM workflow_settings WHERE revision > $1)"
)
_LOGICS_OF_WORKFLOW: Final = _LOGICS.format(condition="tenant_id = $1 AND workflow_id = $2")


async def _chunks(
    connection: connections.Connection, query: str, since: int, *keys: Callable[[Any], Any]
) -> AsyncGenerator[Rows, None]:
    """Yield the rows of a query in chunks; it sorts by each of the keys.

    Rows with the same last key are always in one chunk, rows with the same other keys usually.
    """
    cursor = await connection.cursor(query, since)
    rows: Rows = []
    fetching = asyncio.create_task(cursor.fetch(_CHUNK_ROWS))
    try:
        while fetched := await fetching:
            # The database reads the next rows while these are processed.
            fetching = asyncio.create_task(cursor.fetch(_CHUNK_ROWS))
            await asyncio.sleep(0)
            rows += fetched
            # The next fetch may continue the rows of the last key.
            whole = next(filter(None, (bisect_left(rows, key(rows[-1]), key=key) for key in keys)), 0)
            yield rows[:whole]
            rows = rows[whole:]
        yield rows
    finally:
        await asyncio.gather(fetching, return_exceptions=True)


def _goals_of(rows: Rows) -> list[goals.Goal]:
    # Unpacked in the order of the columns of _GOALS_CHANGED.
    found: list[goals.Goal] = []
    last: goals.Goal | None = None
    for tenant_id, goal_id, workflow_id, goal_type, created_at, *of_version in rows:
        version = _version_of(*of_version)
        since = version.active_from
        if last is None or goal_id != last.goal_id or tenant_id != last.tenant_id:
            last = goals.Goal(tenant_id, goal_id, workflow_id, goal_type, created_at or since, (version,))
            found.append(last)
        else:
            last = found[-1] = structs.replace(last, versions=(*last.versions, version))
    return found


def _version_of(
    number: int,
    criteria: str,
    is_active: bool,
    since: datetime,
    until: datetime | None,
    withheld_until: datetime | None,
    written_at: datetime,
) -> goals.GoalVersion:
    withheld = None if withheld_until is None else goals.Withheld(written_at, withheld_until)
    return goals.GoalVersion(number, criteria_of_text(criteria), is_active, since, until, withheld)


def _logics_of(rows: Rows) -> Iterator[tuple[tuple[str, str], tuple[goals.LogicVersion, ...]]]:
    for (tenant_id, workflow_id), versions in groupby(rows, _WORKFLOW):
        yield (
            (tenant_id, workflow_id),
            tuple([goals.LogicVersion(row["logic"], row["active_from"]) for row in versions]),
        )
