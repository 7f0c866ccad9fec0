"""Days of kept events, made and dropped by functions of the owner; an upgrade of a filled database, and back."""

import asyncio
import datetime as dt
from itertools import product

import asyncpg
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections, insight_tables, migrations, tables

DAY = dt.date(2026, 5, 1)
NEXT = dt.date(2026, 5, 2)
EVENT = ("north", "c", "s", "1", "form.submitted", dt.datetime(2026, 5, 1, tzinfo=dt.UTC), "{}", "t", 0, 5, DAY)
COLUMNS = [column.name for column in insight_tables.history_events.c]

_DAYS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::text::regclass ORDER BY 1"


async def _days(administrator: connections.Connection, table: str = "history_events") -> list[str]:
    return [row[0].removeprefix(f"{table}_") for row in await administrator.fetch(_DAYS, table)]


async def _make(pool: sa_async.AsyncEngine, first: dt.date, last: dt.date) -> list[dt.date]:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        rows = await connection.fetch("SELECT goalworker_make_history_days($1, $2)", first, last)
    return [row[0] for row in rows]


async def _copy(pool: sa_async.AsyncEngine, role: str) -> None:
    async with connections.transaction(pool, role, "test") as connection:
        await connection.copy_records_to_table("history_events_20260501", records=[EVENT], columns=COLUMNS)


async def test_days_are_made_once_however_many_processes_ask(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    made = await asyncio.gather(*(_make(pool, DAY, NEXT) for _ in range(4)))
    assert sorted(day for days in made for day in days) == [DAY, NEXT]
    assert await _days(administrator) == ["20260501", "20260502"]


async def test_only_days_before_the_given_one_are_dropped(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await _make(pool, DAY, dt.date(2026, 5, 4))
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        rows = await connection.fetch("SELECT goalworker_drop_history_days($1)", dt.date(2026, 5, 3))
    assert [row[0] for row in rows] == [DAY, NEXT]
    assert await _days(administrator) == ["20260503", "20260504"]
    assert await _days(administrator, "history_exits") == ["20260503", "20260504"]


async def test_a_day_is_filled_by_copy_and_read_through_the_parent(pool: sa_async.AsyncEngine) -> None:
    await _make(pool, DAY, DAY)
    await _copy(pool, tables.WORKER_ROLE)
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        assert [tuple(row) for row in await connection.fetch("SELECT * FROM history_events")] == [EVENT]
    for tenant_id, found in (("north", 1), ("south", 0)):
        async with connections.tenant_transaction(pool, tenant_id, "test") as api:
            assert len((await api.execute(insight_tables.history_events.select())).all()) == found


async def test_the_api_has_no_right_to_a_day_itself(pool: sa_async.AsyncEngine) -> None:
    await _make(pool, DAY, DAY)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await _copy(pool, tables.API_ROLE)
    async with connections.transaction(pool, tables.API_ROLE, "test") as connection:
        for table, right in product(("history_events", "history_exits"), ("SELECT", "INSERT", "UPDATE", "DELETE")):
            assert not await connection.fetchval("SELECT has_table_privilege($1, $2)", f"{table}_20260501", right)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with connections.transaction(pool, tables.API_ROLE, "test") as connection:
            await connection.fetch("SELECT goalworker_make_history_days($1, $1)", DAY)


async def test_events_of_a_contact_are_found_by_the_index_of_each_day(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await _make(pool, DAY, NEXT)
    await administrator.execute("SET enable_seqscan = off")
    plan = await administrator.fetch(
        "EXPLAIN SELECT * FROM history_events WHERE tenant_id = 'north' AND contact_id = 'c' ORDER BY event_time"
    )
    text = "\n".join(row[0] for row in plan)
    assert text.count("Index Scan") == 2
    assert "contact_id = 'c'" in text


# --- upgrades of a filled database ---


async def test_days_that_events_have_are_made_for_exits_after_an_upgrade_and_left_by_a_downgrade(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, database_url: str
) -> None:
    await asyncio.to_thread(migrations.downgrade, database_url, "0007")
    assert await _make(pool, DAY, DAY) == [DAY]
    await asyncio.to_thread(migrations.upgrade, database_url)
    assert await _make(pool, DAY, DAY) == [DAY]
    assert await _days(administrator, "history_exits") == ["20260501"]
    await asyncio.to_thread(migrations.downgrade, database_url, "0007")
    assert await _make(pool, DAY, NEXT) == [NEXT]
    await asyncio.to_thread(migrations.upgrade, database_url)


async def test_an_upgrade_keeps_rows_and_a_downgrade_drops_insight_alone(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, database_url: str
) -> None:
    await asyncio.to_thread(migrations.downgrade, database_url, "0006")
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id) VALUES ('north', 'e', 'w', 'c');"
        "INSERT INTO goals VALUES ('north', '00000000-0000-0000-0000-000000000001', 'w', 'form_submitted', NULL, 1,"
        " now(), 'ann', now(), 'ann', NULL, 1);"
        "INSERT INTO goal_versions VALUES ('north', '00000000-0000-0000-0000-000000000001', 1, '{}', true, now())"
    )
    await asyncio.to_thread(migrations.upgrade, database_url)
    assert await administrator.fetchval("SELECT exit_withheld FROM enrollments") is False
    assert await administrator.fetchval("SELECT count(*) FROM goal_versions WHERE counts_from IS NULL") == 1
    await _make(pool, DAY, NEXT)
    await _copy(pool, tables.WORKER_ROLE)
    await asyncio.to_thread(migrations.downgrade, database_url, "0006")
    assert await administrator.fetchval("SELECT count(*) FROM enrollments") == 1
    assert await administrator.fetchval("SELECT to_regclass('history_events_20260501')") is None
    assert await administrator.fetchval("SELECT count(*) FROM pg_proc WHERE proname LIKE 'goalworker%days'") == 0
    await asyncio.to_thread(migrations.upgrade, database_url)


async def test_a_goal_has_one_backfill_at_a_time(pool: sa_async.AsyncEngine) -> None:
    insert = (
        "INSERT INTO jobs (tenant_id, job_id, kind, workflow_id, goal_id, request, created_by) VALUES"
        " ('north', gen_random_uuid(), 'backfill', 'w', '00000000-0000-0000-0000-000000000001', '{}', 'ann')"
    )
    async with connections.tenant_transaction(pool, "north", "test") as connection:
        await connection.exec_driver_sql(insert)
    with pytest.raises(Exception, match="jobs_one_backfill"):
        async with connections.tenant_transaction(pool, "north", "test") as connection:
            await connection.exec_driver_sql(insert)
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as worker:
        await worker.execute("UPDATE jobs SET state = 'done', finished_at = now()")
    async with connections.tenant_transaction(pool, "north", "test") as connection:
        await connection.exec_driver_sql(insert)
        await connection.exec_driver_sql("UPDATE jobs SET cancel_requested = true")
