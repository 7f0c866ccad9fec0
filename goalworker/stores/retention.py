"""Deletion of old hits, reversals and enrollments, by lateness and retention (contract rules 3.6 and 3.7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker.postgres import arrays, connections, tables
from goalworker.stores import day_partitions

# Rows deleted in one transaction, at most: a larger one would hold its locks for too long.
_SLICE: Final = 2_000

_RETENTION_LOCK: Final = f"SELECT pg_try_advisory_xact_lock({connections.RETENTION_LOCK})"

_HIT_KEY: Final = ("tenant_id", "workflow_id", "contact_id", "goal_id", "event_source", "event_id")
_REVERSAL_KEY: Final = ("tenant_id", "contact_id", "event_source", "event_id")


def _sweep_in_order_sql(table: str, key: Sequence[str], condition: str) -> str:
    """Return SQL that looks at the next rows by their time of recording, and deletes those with a condition.

    By key: a ctid is unique within one partition only.
    """
    return f"""
WITH old AS MATERIALIZED (
    SELECT {", ".join(key)}, recorded_at, {condition} AS goes FROM {table}
    WHERE recorded_at >= $3 AND recorded_at < clock_timestamp() - $1::interval
    ORDER BY recorded_at LIMIT $2
), swept AS (
    DELETE FROM {table} USING {arrays.rows_of("old WHERE goes", key, "due")}
    WHERE {arrays.same(table, "due", key)} RETURNING 1
)
SELECT (SELECT count(*) FROM swept) AS swept, count(*) AS seen, max(recorded_at) AS last FROM old
"""


# By the time of recording, never by the time of the event: an old event must survive until it is judged.
_SWEEP_HITS: Final = _sweep_in_order_sql("goal_hits_kept", _HIT_KEY, "kept_until IS NULL")
_SWEEP_REVERSALS: Final = _sweep_in_order_sql(
    "reversals",
    _REVERSAL_KEY,
    # OFFSET 0 keeps it a look into the index for each row: a join might read all enrollments.
    """NOT EXISTS (
        SELECT FROM enrollments e
        WHERE e.tenant_id = reversals.tenant_id AND e.contact_id = reversals.contact_id OFFSET 0)""",
)
# Where a goal was changed and counts for longer now, its hits stay for longer: those of its earlier versions count
# along (contract rule 3.4).
_SWEEP_KEPT_HITS: Final = f"""
WITH old AS MATERIALIZED (
    SELECT {", ".join(_HIT_KEY)}, recorded_at FROM goal_hits_kept
    WHERE kept_until < clock_timestamp()
    ORDER BY kept_until LIMIT $1
), goal AS MATERIALIZED (
    SELECT tenant_id, goal_id, (
        SELECT make_interval(secs => max(extract(epoch FROM greatest(
            (v.criteria ->> 'within')::interval, (v.criteria ->> 'deadline')::interval)))::float8)
        FROM goal_versions v
        WHERE v.tenant_id = of_old.tenant_id AND v.goal_id = of_old.goal_id
            AND v.criteria ?| ARRAY['times', 'total_amount']
    ) AS counts_for
    FROM (SELECT DISTINCT tenant_id, goal_id FROM old) AS of_old
), judged AS MATERIALIZED (
    SELECT old.*, coalesce(recorded_at + counts_for > clock_timestamp(), false) AS counts
    FROM old LEFT JOIN goal USING (tenant_id, goal_id)
), extended AS (
    UPDATE goal_hits_kept SET kept_until = goal_hits_kept.recorded_at + (
        SELECT counts_for FROM goal WHERE goal.tenant_id = due.tenant_id AND goal.goal_id = due.goal_id)
    FROM {arrays.rows_of("judged WHERE counts", _HIT_KEY, "due")}
    WHERE {arrays.same("goal_hits_kept", "due", _HIT_KEY)}
), swept AS (
    DELETE FROM goal_hits_kept USING {arrays.rows_of("judged WHERE NOT counts", _HIT_KEY, "due")}
    WHERE {arrays.same("goal_hits_kept", "due", _HIT_KEY)} RETURNING 1
)
SELECT (SELECT count(*) FROM swept) AS swept, count(*) AS seen FROM old
"""
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Hits are looked at again for as long: longer than any transaction that recorded one may take to commit.
_LOOK_BACK: Final = timedelta(hours=1)
REVERSALS_KEPT: Final = timedelta(days=365)

_OLD_ENROLLMENTS: Final = """
(SELECT e.tenant_id, e.enrollment_id FROM enrollments e
 WHERE e.ended_at < clock_timestamp() - $1::interval ORDER BY e.ended_at LIMIT $2)
UNION
(SELECT x.tenant_id, x.enrollment_id FROM exits x JOIN enrollments e USING (tenant_id, enrollment_id)
 WHERE x.created_at < clock_timestamp() - $1::interval AND e.ended_at IS NULL ORDER BY x.created_at LIMIT $2)
ORDER BY tenant_id, enrollment_id
"""

_KEYS: Final = arrays.plain_keys("tenant_id", "enrollment_id")

# In the order in which the judge locks them; enrollments that are being judged are skipped until the next sweep.
_LOCK_ENROLLMENTS: Final = f"""
SELECT e.tenant_id, e.enrollment_id
FROM {_KEYS.unnested("old")}
JOIN enrollments e USING (tenant_id, enrollment_id)
WHERE e.ended_at IS NULL OR e.ended_at < clock_timestamp() - ${_KEYS.next}::interval
ORDER BY e.tenant_id, e.enrollment_id
FOR UPDATE OF e SKIP LOCKED
"""

_DELETE: Final = f"""
DELETE FROM {{table}} t USING {_KEYS.unnested("old")}
WHERE t.tenant_id = old.tenant_id AND t.enrollment_id = old.enrollment_id
"""


@dataclass(slots=True)
class Progress:
    """The time of recording up to which sweeps of a process found no more hits to delete: the others are kept."""

    since: datetime = _EVER


async def keep_days_of_hits(pool: AsyncEngine, lateness: timedelta) -> list[date]:
    """Make the next days' partitions, drop those with hits older than the lateness alone, and return the dropped days.

    A hit so stays for up to a day longer (contract rule 3.6).
    """
    return await day_partitions.keep(pool, (tables.goal_hits.name,), connections.RETENTION_LOCK, lateness)


async def sweep_hits(pool: AsyncEngine, lateness: timedelta, progress: Progress | None = None) -> int:
    """Delete hits without a day recorded longer ago than `lateness`, and those that count no more (contract rule 3.6).

    Return how many.
    """
    progress = progress or Progress()
    swept, last = await _sweep_in_order(pool, _SWEEP_HITS, lateness, progress.since)
    progress.since = max(progress.since, last - _LOOK_BACK)
    return swept + await _sweep_kept_hits(pool)


async def sweep_reversals(pool: AsyncEngine) -> int:
    """Delete reversals recorded long ago whose contact has no enrollment (contract rule 3.6); return how many."""
    swept, _ = await _sweep_in_order(pool, _SWEEP_REVERSALS, REVERSALS_KEPT, _EVER)
    return swept


async def _sweep_in_order(pool: AsyncEngine, sql: str, age: timedelta, since: datetime) -> tuple[int, datetime]:
    """Sweep rows in slices; return how many were deleted, and the time of recording of the last one."""
    total = 0
    while True:
        async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
            if not await connection.fetchval(_RETENTION_LOCK):
                return total, since
            ((swept, seen, last),) = await connection.fetch(sql, age, _SLICE, since)
        total += swept
        if seen < _SLICE:
            return total, last or since
        # A slice has many moments; if forged times made it one, the rest of that moment waits for another process.
        since = last if swept or last > since else last + timedelta(microseconds=1)


async def _sweep_kept_hits(pool: AsyncEngine) -> int:
    total = 0
    while True:
        async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
            if not await connection.fetchval(_RETENTION_LOCK):
                return total
            ((swept, seen),) = await connection.fetch(_SWEEP_KEPT_HITS, _SLICE)
        total += int(swept)
        if seen < _SLICE:
            return total


async def sweep_enrollments(pool: AsyncEngine, retention: timedelta) -> int:
    """Delete enrollments as a whole, `retention` after their end or exit (contract rule 3.7); return how many."""
    total = 0
    while deleted := await _sweep_some_enrollments(pool, retention):
        total += deleted
    return total


async def _sweep_some_enrollments(pool: AsyncEngine, retention: timedelta) -> int:
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
        if not await connection.fetchval(_RETENTION_LOCK):
            return 0
        old = await connection.fetch(_OLD_ENROLLMENTS, retention, _SLICE)
        if not old:
            return 0
        locked = await connection.fetch(_LOCK_ENROLLMENTS, *_KEYS.arguments(old), retention)
        if locked:
            for table in ("achievements", "exits", "enrollments"):
                await connection.execute(_DELETE.format(table=table), *_KEYS.arguments(locked))
    return len(locked)
