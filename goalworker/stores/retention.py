"""Deletion of old hits and enrollments, by lateness and retention (contract section 6)."""

from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker.postgres import arrays, connections, tables

# Rows deleted in one transaction, at most: a larger one would hold its locks for too long.
_SLICE: Final = 2_000

_RETENTION_LOCK: Final = f"SELECT pg_try_advisory_xact_lock({connections.RETENTION_LOCK})"

# By the time of recording, never by the time of the event: an old event must survive until it is judged.
_SWEEP_HITS: Final = """
DELETE FROM goal_hits WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM goal_hits WHERE recorded_at < clock_timestamp() - $1::interval ORDER BY recorded_at LIMIT $2))
"""

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


async def sweep_hits(pool: AsyncEngine, lateness: timedelta) -> int:
    """Delete hits recorded longer ago than `lateness` (contract rule 3.6); return how many."""
    total = 0
    while True:
        async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
            if not await connection.fetchval(_RETENTION_LOCK):
                return total
            deleted = int((await connection.execute(_SWEEP_HITS, lateness, _SLICE)).rpartition(" ")[2])
        total += deleted
        if deleted < _SLICE:
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
