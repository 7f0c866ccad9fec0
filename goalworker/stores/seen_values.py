"""Seen values: how often a value came on a day, by tenant, type and field (contract section 7)."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker.domain.seen_values import ValueOfTenant
from goalworker.postgres import arrays, connections, tables

KEPT: Final = timedelta(days=90)
# Values of a field of a tenant that today may have before the rare ones are dropped, and how many are left then. Later
# as many are left of a day that is over. The contract promises the 1,000 most frequent ones.
VALUES_OF_TODAY_MAX: Final = 20_000
VALUES_LEFT: Final = 5_000
VALUES_OF_A_DAY: Final = 1_500
# Between values, since a pipeline and its stage are one value with a separator of their own.
_SEPARATOR: Final = "\x1e"


class CountsOfField(NamedTuple):
    """Tally of the values of a field on a day, and when the first and the last of them came."""

    type: str
    field: str
    day: date
    first_seen: datetime
    last_seen: datetime
    numbers: Mapping[ValueOfTenant, int]
    labels: Mapping[ValueOfTenant, str]
    """The latest names of tags, by tenant and tag_id."""


# Two processes lock the same rows in one order.
_ADD: Final = f"""
INSERT INTO seen_values AS s (tenant_id, type, field, value, day, count, label, first_seen, last_seen)
SELECT n.tenant_id, $1, $2, n.value, $3, n.count, n.label, $4, $5
FROM unnest({arrays.array_of_texts(6)}, {arrays.array_of_texts(7, _SEPARATOR)}, $8::text::bigint[], $9::text[])
    AS n (tenant_id, value, count, label)
ORDER BY n.tenant_id COLLATE "C", n.value COLLATE "C"
ON CONFLICT (tenant_id, type, field, value, day) DO UPDATE SET
    count = s.count + excluded.count,
    label = coalesce(excluded.label, s.label),
    first_seen = least(s.first_seen, excluded.first_seen),
    last_seen = greatest(s.last_seen, excluded.last_seen)
"""


async def add(connection: connections.Connection, seen: Iterable[CountsOfField]) -> None:
    """Add counts to the stored ones."""
    for one in sorted(seen, key=lambda one: one[:3]):
        tenants, values = zip(*one.numbers, strict=True)
        await connection.execute(
            _ADD,
            *one[:5],
            arrays.texts(tenants),
            arrays.texts(values, _SEPARATOR),
            arrays.array(list(one.numbers.values())),
            [*map(one.labels.get, one.numbers)] if one.labels else None,
        )


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
