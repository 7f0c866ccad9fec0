"""History as the insight process writes it, without Kafka."""

import datetime as dt

from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events, facts
from goalworker.postgres import connections, insight_tables, tables

DAY = dt.date(2026, 5, 1)


async def keep(pool: sa_async.AsyncEngine, *kept: events.Event, day: dt.date = DAY, first_offset: int = 0) -> None:
    """Keep events and reversals under one day, at the next offsets of one partition."""
    rows = [
        (
            *(event.tenant_id, event.data.contact_id, event.source, event.id, event.type, event.time),
            *(facts.trigger_of(event).data.decode(), "topic", 3, offset, day),
        )
        for offset, event in enumerate(kept, first_offset)
        if isinstance(event.data, events.GoalData | events.ReversalData)
    ]
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        await connection.fetch("SELECT goalworker_make_history_days($1, $1)", day)
        columns = [column.name for column in insight_tables.history_events.c]
        await connection.copy_records_to_table(f"history_events_{day:%Y%m%d}", records=rows, columns=columns)


def moment(text: str) -> dt.datetime:
    """Return a time with an offset from its text."""
    return dt.datetime.fromisoformat(text)


async def cover(pool: sa_async.AsyncEngine, since: dt.datetime, keep_: str = "all") -> None:
    """Say that history holds events since a moment."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        await connection.execute(
            "INSERT INTO history_positions VALUES ('topic', 3, NULL, 0, 9, $1, clock_timestamp())", since
        )
        await connection.execute("INSERT INTO history_coverage VALUES (1, $1, $2, 8640000, NULL)", keep_, since)
