"""Seen values: how often a value came on a day, by tenant, type and field (contract section 7)."""

from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker.postgres import connections, tables

KEPT: Final = timedelta(days=90)
# Values of a field of a tenant that today may have before the rare ones are dropped, and how many are left then. Later
# as many are left of a day that is over. The contract promises the 1,000 most frequent ones.
VALUES_OF_TODAY_MAX: Final = 20_000
VALUES_LEFT: Final = 5_000
VALUES_OF_A_DAY: Final = 1_500
# Rows of one statement.
_SLICE: Final = 5_000


class Count(NamedTuple):
    """Number of times that a value came on a day, and when first and last; label is the latest name of a tag."""

    tenant_id: str
    type: str
    field: str
    value: str
    day: date
    number: int
    label: str | None
    first_seen: datetime
    last_seen: datetime


_ADD: Final = """
INSERT INTO seen_values AS s (tenant_id, type, field, value, day, count, label, first_seen, last_seen)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::date[], $6::bigint[], $7::text[],
    $8::timestamptz[], $9::timestamptz[])
ON CONFLICT (tenant_id, type, field, value, day) DO UPDATE SET
    count = s.count + excluded.count,
    label = coalesce(excluded.label, s.label),
    first_seen = least(s.first_seen, excluded.first_seen),
    last_seen = greatest(s.last_seen, excluded.last_seen)
"""


async def add(connection: connections.Connection, seen: Collection[Count]) -> None:
    """Add counts to the stored ones; two processes lock the same rows in one order."""
    ordered = sorted(seen, key=lambda one: one[:5])
    for start in range(0, len(ordered), _SLICE):
        await connection.execute(_ADD, *map(list, zip(*ordered[start : start + _SLICE], strict=True)))


_LOCK: Final = f"SELECT pg_try_advisory_xact_lock({connections.HISTORY_LOCK})"
_TODAY: Final = "SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date"
_DELETE_OLD: Final = "DELETE FROM seen_values WHERE day <= $1"
_PRUNE: Final = """
WITH large AS (
    SELECT tenant_id, type, field, day FROM seen_values WHERE day BETWEEN $1 AND $2
    GROUP BY tenant_id, type, field, day HAVING count(*) > $3
), ranked AS (
    SELECT s.tenant_id, s.type, s.field, s.day, s.value, row_number() OVER (
        PARTITION BY s.tenant_id, s.type, s.field, s.day ORDER BY s.count DESC, s.last_seen DESC, s.value) AS rank
    FROM seen_values AS s JOIN large USING (tenant_id, type, field, day)
)
DELETE FROM seen_values AS s USING ranked AS r
WHERE r.rank > $4 AND s.tenant_id = r.tenant_id AND s.type = r.type AND s.field = r.field AND s.value = r.value
    AND s.day = r.day
"""


async def prune_today(pool: AsyncEngine) -> int:
    """Drop the rare values of fields that have too many today; return how many."""
    return await _prune(pool, 0, 0, VALUES_OF_TODAY_MAX, VALUES_LEFT)


async def prune_past(pool: AsyncEngine) -> int:
    """Drop what is too old, and the rare values of days that are over; return how many rows."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
        today: date = await connection.fetchval(_TODAY)
        deleted = _rows_of(await connection.execute(_DELETE_OLD, today - KEPT))
    return deleted + await _prune(pool, KEPT.days, 1, VALUES_OF_A_DAY, VALUES_OF_A_DAY)


async def _prune(pool: AsyncEngine, first_ago: int, last_ago: int, maximum: int, left: int) -> int:
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
        if not await connection.fetchval(_LOCK):
            return 0
        today: date = await connection.fetchval(_TODAY)
        days = [today - timedelta(days=ago) for ago in (first_ago, last_ago)]
        return _rows_of(await connection.execute(_PRUNE, *days, maximum, left))


def _rows_of(status: str) -> int:
    return int(status.rpartition(" ")[2])
