"""Kept events of a tenant that moves from one database to another (contract sections 7 and 10).

They have no key. A record's position tells which are there already; a row that is there twice is read once.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections, insight_tables
from goalworker.stores import day_partitions, tenant_copy

_EVENTS: Final = insight_tables.history_events
_EXITS: Final = insight_tables.history_exits
_NAMES: Final = tenant_copy.columns_of(_EVENTS)
_ADD: Final = f"""
INSERT INTO history_events ({tenant_copy.quoted(_NAMES)})
SELECT {tenant_copy.quoted(_NAMES)} FROM incoming i
WHERE NOT EXISTS (
    SELECT FROM history_events h
    WHERE h.tenant_id = i.tenant_id AND h.contact_id = i.contact_id AND h.event_time = i.event_time
        AND h.topic = i.topic AND h.partition = i.partition AND h."offset" = i."offset"
)
"""
_ADD_EXITS: Final = f"""
INSERT INTO history_exits ({tenant_copy.quoted(tenant_copy.columns_of(_EXITS))})
SELECT {tenant_copy.quoted(tenant_copy.columns_of(_EXITS))} FROM incoming i
WHERE NOT EXISTS (
    SELECT FROM history_exits h
    WHERE h.tenant_id = i.tenant_id AND h.exit_id = i.exit_id AND h.published_at = i.published_at
)
"""


async def copy(
    source: sa_async.AsyncEngine, target: sa_async.AsyncEngine, tenant_id: str, check: tenant_copy.Check
) -> int:
    """Copy a tenant's kept events and exits that the target does not have; return how many were read."""
    for table in (_EVENTS, _EXITS):
        await tenant_copy.copy_days(source, target, table)
    copied = 0
    async with tenant_copy.own_transaction(source, tenant_copy.UNLIMITED) as reading:
        for table, add_sql in ((_EVENTS, _ADD), (_EXITS, _ADD_EXITS)):

            async def write(rows: bytes, table: sa.Table = table, add_sql: str = add_sql) -> None:
                async with tenant_copy.own_transaction(target) as connection:
                    await check(connection)
                    await tenant_copy.take_in(connection, table, rows)
                    await connection.execute(add_sql)

            copied += await tenant_copy.read_slices(reading, tenant_copy.selected(table, tenant_id), tenant_id, write)
    return copied


async def add(pool: sa_async.AsyncEngine, rows: Sequence[tuple[Any, ...]], check: tenant_copy.Check) -> int:
    """Add events that are not there yet; return how many. Rows have all columns but the day, which is today."""
    async with tenant_copy.own_transaction(pool) as connection:
        await check(connection)
        day = await connection.fetchval("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
        await day_partitions.make_between(connection, [_EVENTS.name, _EXITS.name], day, day)
        await tenant_copy.take_in(connection, _EVENTS, b"")
        records = [(*row, day) for row in rows]
        await connection.copy_records_to_table("incoming", records=records, columns=_NAMES)
        return int((await connection.execute(_ADD)).rpartition(" ")[2])


_POSITIONS: Final = """
SELECT p.topic, p.partition, p.next_offset FROM history_positions p, history_coverage c WHERE c.retention_seconds > 0
"""


async def positions(connection: connections.Connection) -> dict[tuple[str, int], int]:
    """Return up to where insight has kept the events of each partition; nothing where it keeps none."""
    return {(topic, number): offset for topic, number, offset in await connection.fetch(_POSITIONS)}
