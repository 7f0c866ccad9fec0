"""What the worker loads: goals and logics with all their versions, since the revision that it knows."""

import gc
import sys
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from msgspec import json

from goalworker import database, errors, goals, index

_CHUNK_ROWS: Final = 10_000
_CRITERIA: Final = json.Decoder(goals.Criteria)

Rows = list[Any]


async def revision(connection: database.Connection) -> int:
    """Return the revision of the last change to a goal or a logic."""
    return int(await connection.fetchval("SELECT revision FROM goal_revision"))


async def refresh(connection: database.Connection, known: index.Index) -> int:
    """Load into the index what has changed since its revision, and return the revision that it is at now.

    For a transaction of the worker's role, READ COMMITTED. Between the chunks other tasks may use the index: until the
    end it is at the old revision, so that what they match by a part of the news is matched again.
    """
    since = known.revision
    # Read before the rows: what is written after it is loaded now or the next time, never missed.
    current = await revision(connection)
    if current == since:
        return current
    with _without_collector():
        async for rows in _chunks(connection, _GOALS_CHANGED, since, itemgetter(0)):
            known.replace(_goals_of(rows), {}, since)
        async for rows in _chunks(connection, _LOGICS_CHANGED, since, itemgetter(0, 1)):
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


# By goal_id alone: it is unique, and sorting after a hash join is faster than reading both tables by their keys.
_GOALS_CHANGED: Final = """
    SELECT g.goal_id, g.tenant_id, g.workflow_id, g.goal_type, g.created_at,
           v.version, v.criteria::text, v.is_active, v.active_from, v.active_to
    FROM goals g JOIN goal_versions v USING (tenant_id, goal_id)
    WHERE g.revision > $1
    ORDER BY g.goal_id, v.version
"""

_LOGICS_CHANGED: Final = """
    SELECT tenant_id, workflow_id, logic, active_from
    FROM workflow_settings
    WHERE (tenant_id, workflow_id) IN (SELECT tenant_id, workflow_id FROM workflow_settings WHERE revision > $1)
    ORDER BY tenant_id, workflow_id, active_from
"""


async def _chunks(
    connection: database.Connection, query: str, since: int, key: Callable[[Any], Any]
) -> AsyncIterator[Rows]:
    """Yield the rows of a query in chunks, those with the same key never apart; the query sorts by it."""
    cursor = await connection.cursor(query, since)
    rows: Rows = []
    while fetched := await cursor.fetch(_CHUNK_ROWS):
        rows += fetched
        # The last key's rows may go on in what is fetched next.
        whole = bisect_left(rows, key(rows[-1]), key=key)
        yield rows[:whole]
        rows = rows[whole:]
    yield rows


def _goals_of(rows: Rows) -> Iterator[goals.Goal]:
    for goal_id, of_goal in groupby(rows, itemgetter(0)):
        versions = list(of_goal)
        _, tenant_id, workflow_id, goal_type, created_at, *_ = versions[0]
        yield goals.Goal(
            # One copy of each text, however many goals say it.
            sys.intern(tenant_id),
            goal_id,
            sys.intern(workflow_id),
            sys.intern(goal_type),
            created_at,
            tuple(map(_version, versions)),
        )


def _version(row: Any) -> goals.GoalVersion:
    _, _, _, _, _, number, criteria, is_active, active_from, active_to = row
    return goals.GoalVersion(number, _CRITERIA.decode(criteria), is_active, active_from, active_to)


def _logics_of(rows: Rows) -> Iterator[tuple[tuple[str, str], tuple[goals.LogicVersion, ...]]]:
    for (tenant_id, workflow_id), versions in groupby(rows, itemgetter(0, 1)):
        logics = tuple([goals.LogicVersion(sys.intern(row[2]), row[3]) for row in versions])
        yield (sys.intern(tenant_id), sys.intern(workflow_id)), logics


async def ensure_tracking(connection: database.Connection, tracking: bool) -> None:
    """Write the mode of enrollment tracking at the first start; SettingsError if it was another (contract rule 3.8)."""
    await connection.execute("INSERT INTO installation VALUES (1, $1) ON CONFLICT DO NOTHING", tracking)
    await check_tracking(connection, tracking)


async def check_tracking(connection: database.Connection, tracking: bool) -> None:
    """Refuse another mode than the one at the first start, if there was one yet; SettingsError."""
    if await connection.fetchval("SELECT enrollment_tracking FROM installation") not in (None, tracking):
        was, is_ = str(not tracking).lower(), str(tracking).lower()
        raise errors.SettingsError(
            f"GOALWORKER_ENROLLMENTS__TRACKING={is_}, but this database was started with {was}, and what it holds "
            f"means nothing in the other mode: set it to {was}, or use another database"
        )
