"""What the worker loads: goals and logics with all their versions, since the revision that it knows."""

import asyncio
import gc
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from msgspec import json, structs

from goalworker import errors
from goalworker.domain import goals
from goalworker.domain.criteria import Criteria
from goalworker.goal_index import index
from goalworker.postgres import connections

_CHUNK_ROWS: Final = 2_000
_CRITERIA: Final = json.Decoder(Criteria)

Rows = list[Any]


async def get_revision(connection: connections.Connection) -> int:
    """Return the revision of the last change to a goal or a logic."""
    return int(await connection.fetchval("SELECT revision FROM goal_revision"))


async def refresh_index(connection: connections.Connection, known: index.Index) -> int:
    """Load into the index what has changed since its revision, and return the revision that it is at now.

    For a transaction of the worker's role, READ COMMITTED. Between the chunks other tasks may use the index: until the
    end it is at the old revision, so that what they match by a part of the news is matched again.
    """
    since = known.revision
    # Read before the rows: what is written after it is loaded now or the next time, never missed.
    current = await get_revision(connection)
    if current == since:
        return current
    with _without_collector():
        async with aclosing(_chunks(connection, _GOALS_CHANGED, since, _TENANT, _GOAL)) as chunks:
            async for rows in chunks:
                known.replace(_goals_of(rows), {}, since)
        async with aclosing(_chunks(connection, _LOGICS_CHANGED, since, _WORKFLOW)) as chunks:
            async for rows in chunks:
                known.replace((), dict(_logics_of(rows)), since)
    known.replace((), {}, current)
    return current


@contextmanager
def _without_collector() -> Iterator[None]:
    # Of a million goals nothing is garbage, and looking for some takes a third of the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# By tenant, so that the goals of a workflow come together and are packed once; and then by goal, which is the order of
# both keys: the first rows come at once, without sorting a million. A goal was created when its first version began,
# and a NULL is read faster than a time.
_GOALS_CHANGED: Final = """
    SELECT g.tenant_id, g.goal_id, g.workflow_id, g.goal_type, nullif(g.created_at, v.active_from),
           v.version, v.criteria::text, v.is_active, v.active_from, v.active_to
    FROM goals g JOIN goal_versions v USING (tenant_id, goal_id)
    WHERE g.revision > $1
    ORDER BY g.tenant_id, g.goal_id, v.version
"""
_TENANT: Final = itemgetter(0)
_GOAL: Final = itemgetter(0, 1)
_WORKFLOW: Final = itemgetter(0, 1)

_LOGICS_CHANGED: Final = """
    SELECT tenant_id, workflow_id, logic, active_from
    FROM workflow_settings
    WHERE (tenant_id, workflow_id) IN (SELECT tenant_id, workflow_id FROM workflow_settings WHERE revision > $1)
    ORDER BY tenant_id, workflow_id, active_from
"""


async def _chunks(
    connection: connections.Connection, query: str, since: int, *keys: Callable[[Any], Any]
) -> AsyncGenerator[Rows, None]:
    """Yield the rows of a query in chunks: those with the same last key never apart, with the same other ones seldom.

    The query sorts by each of the keys.
    """
    cursor = await connection.cursor(query, since)
    rows: Rows = []
    coming = asyncio.create_task(cursor.fetch(_CHUNK_ROWS))
    try:
        while fetched := await coming:
            # The database looks for the next rows while these are taken in.
            coming = asyncio.create_task(cursor.fetch(_CHUNK_ROWS))
            await asyncio.sleep(0)
            rows += fetched
            # The last key's rows may go on in what is fetched next.
            whole = next(filter(None, (bisect_left(rows, key(rows[-1]), key=key) for key in keys)), 0)
            yield rows[:whole]
            rows = rows[whole:]
        yield rows
    finally:
        await asyncio.gather(coming, return_exceptions=True)


def _goals_of(rows: Rows) -> list[goals.Goal]:
    found: list[goals.Goal] = []
    last: goals.Goal | None = None
    for tenant_id, goal_id, workflow_id, goal_type, created_at, number, criteria, is_active, since, until in rows:
        version = goals.GoalVersion(number, _CRITERIA.decode(criteria), is_active, since, until)
        if last is None or goal_id != last.goal_id or tenant_id != last.tenant_id:
            last = goals.Goal(tenant_id, goal_id, workflow_id, goal_type, created_at or since, (version,))
            found.append(last)
        else:
            last = found[-1] = structs.replace(last, versions=(*last.versions, version))
    return found


def _logics_of(rows: Rows) -> Iterator[tuple[tuple[str, str], tuple[goals.LogicVersion, ...]]]:
    for (tenant_id, workflow_id), versions in groupby(rows, itemgetter(0, 1)):
        yield (tenant_id, workflow_id), tuple([goals.LogicVersion(row[2], row[3]) for row in versions])


async def ensure_tracking(connection: connections.Connection, tracking: bool) -> None:
    """Write the mode of enrollment tracking at the first start; SettingsError if it was another (contract rule 3.8)."""
    await connection.execute("INSERT INTO installation VALUES (1, $1) ON CONFLICT DO NOTHING", tracking)
    await check_tracking(connection, tracking)


async def check_tracking(connection: connections.Connection, tracking: bool) -> None:
    """Refuse another mode than the one at the first start, if there was one yet; SettingsError."""
    if await connection.fetchval("SELECT enrollment_tracking FROM installation") not in (None, tracking):
        was, is_ = str(not tracking).lower(), str(tracking).lower()
        raise errors.SettingsError(
            f"GOALWORKER_ENROLLMENTS__TRACKING={is_}, but this database was started with {was}, and what it holds "
            f"means nothing in the other mode: set it to {was}, or use another database"
        )
