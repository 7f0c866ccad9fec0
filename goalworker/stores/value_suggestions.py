"""Seen values as the API asks for them: the most frequent ones of a field, and warnings about unseen ones."""

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events, unseen_values
from goalworker.domain.criteria import Criteria
from goalworker.domain.faults import Fault
from goalworker.domain.unseen_values import SeenValue, Wanted
from goalworker.stores.seen_values import VALUES_OF_A_DAY

# Values among which the nearest one is looked for.
_NEAREST_AMONG: Final = 5_000

_OF_FIELD: Final = "tenant_id = :tenant_id AND type = :type AND field = :field"
_FREQUENT: Final = sa.text(f"""
SELECT value, (array_agg(label ORDER BY day DESC) FILTER (WHERE label IS NOT NULL))[1] AS label,
    sum(count)::bigint AS number,
    coalesce(sum(count) FILTER (
        WHERE day > (clock_timestamp() AT TIME ZONE 'UTC')::date - {unseen_values.RECENT_DAYS}), 0)::bigint AS recent,
    min(first_seen) AS first_seen, max(last_seen) AS last_seen
FROM seen_values
WHERE {_OF_FIELD} AND value >= :prefix AND starts_with(value, :prefix)
GROUP BY value ORDER BY sum(count) DESC, value LIMIT :limit
""")
_KNOWN: Final = sa.text(
    f"SELECT DISTINCT value FROM seen_values WHERE {_OF_FIELD} AND value = ANY(CAST(:values AS text[]))"
)
_ARE_ALL_KEPT: Final = sa.text(f"""
SELECT coalesce(max(number), 0) < {VALUES_OF_A_DAY}
FROM (SELECT count(*) AS number FROM seen_values WHERE {_OF_FIELD} GROUP BY day) AS days
""")


async def frequent(
    connection: sa_async.AsyncConnection, tenant_id: str, event_type: str, field: str, *, limit: int, prefix: str = ""
) -> list[SeenValue]:
    """Return the most frequent values of a field that begin with a prefix, the most frequent one first."""
    given = {"tenant_id": tenant_id, "type": event_type, "field": field, "limit": limit, "prefix": prefix}
    rows = await connection.execute(_FREQUENT, given)
    return [
        SeenValue(row.value, row.label, row.number, row.recent, row.first_seen, row.last_seen) for row in rows.all()
    ]


async def warnings(
    connection: sa_async.AsyncConnection, tenant_id: str, goal_type: str, criteria: Criteria
) -> list[Fault]:
    """Return a warning for each value of the criteria that no event has had; pointers are relative to the goal.

    A field without counts gets no warning, nor does one whose rare values are dropped.
    """
    event_type = events.GOAL_TYPE_TABLE[goal_type].event_type
    by_field: dict[str, list[Wanted]] = {}
    for one in unseen_values.wanted(goal_type, criteria):
        by_field.setdefault(one.field, []).append(one)
    found: list[Fault] = []
    for field, of_field in by_field.items():
        key = {"tenant_id": tenant_id, "type": event_type, "field": field}
        if unseen := await _unseen(connection, key, of_field):
            found += await _warnings(connection, key, unseen)
    return found


async def _unseen(
    connection: sa_async.AsyncConnection, key: dict[str, str], of_field: Iterable[Wanted]
) -> list[Wanted]:
    asked = list(of_field)
    values = [value for one in asked for value in one.values]
    known = set((await connection.execute(_KNOWN, {**key, "values": values})).scalars())
    return [one for one in asked if known.isdisjoint(one.values)]


async def _warnings(connection: sa_async.AsyncConnection, key: dict[str, Any], unseen: Iterable[Wanted]) -> list[Fault]:
    seen = await frequent(connection, key["tenant_id"], key["type"], key["field"], limit=_NEAREST_AMONG)
    if not seen or not (await connection.execute(_ARE_ALL_KEPT, key)).scalar_one():
        return []
    return [unseen_values.warning(one, seen) for one in unseen if not unseen_values.is_named(one, seen)]
