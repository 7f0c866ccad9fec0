"""Seen values: counts are added up, dropped when they are old, and bounded where a tenant has too many."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain.seen_values import stage_value
from goalworker.postgres import connections, tables
from goalworker.stores import enrolled_contacts, seen_values, table_statistics
from goalworker.stores.seen_values import CountsOfField

Stored = dict[tuple[str, str], int]


async def add(
    pool: sa_async.AsyncEngine,
    numbers: Mapping[str, int],
    *,
    at: datetime,
    tenant_id: str = "north",
    labels: Mapping[str, str] | None = None,
) -> None:
    """Add how often values came, and the labels of some of them."""
    of_tenant = {(tenant_id, value): number for value, number in numbers.items()}
    named = {(tenant_id, value): label for value, label in (labels or {}).items()}
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        await seen_values.add(
            connection, [CountsOfField("form.submitted", "form_id", at.date(), at, at, of_tenant, named)]
        )


async def stored(administrator: connections.Connection) -> Stored:
    rows = await administrator.fetch("SELECT tenant_id, value, sum(count)::int FROM seen_values GROUP BY 1, 2")
    return {(row[0], row[1]): row[2] for row in rows}


@pytest.fixture
async def now(pool: sa_async.AsyncEngine) -> datetime:
    return await connections.now(pool)


async def test_counts_of_a_day_are_added_and_the_latest_label_stands(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, now: datetime
) -> None:
    earlier, later = now.replace(hour=1), now.replace(hour=2)
    await add(pool, {"a": 2, "b": 1}, at=later, labels={"a": "new"})
    await add(pool, {"a": 3}, at=earlier)
    row = await administrator.fetchrow("SELECT count, label, first_seen, last_seen FROM seen_values WHERE value = 'a'")
    assert tuple(row) == (5, "new", earlier, later)


async def test_a_pipeline_and_its_stage_stay_one_value(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, now: datetime
) -> None:
    stages = {stage_value("p", "s"): 1, stage_value("p", "t"): 2}
    await add(pool, stages, at=now)
    assert await stored(administrator) == {("north", value): number for value, number in stages.items()}


async def test_processes_add_the_same_values_side_by_side(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, now: datetime
) -> None:
    values = [str(number) for number in range(50)]
    orders = (values, values[::-1], values[25:] + values[:25])
    await asyncio.gather(*(add(pool, dict.fromkeys(order, 1), at=now) for order in orders * 3))
    assert set((await stored(administrator)).values()) == {9}


async def test_of_too_many_values_of_today_the_frequent_ones_are_left(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seen_values, "VALUES_OF_TODAY_MAX", 10)
    monkeypatch.setattr(seen_values, "VALUES_LEFT", 3)
    await add(pool, {f"v{number}": number for number in range(1, 11)}, at=now)
    await add(pool, {"theirs": 1}, at=now, tenant_id="south")
    assert await seen_values.prune_today(pool) == 0
    await add(pool, {"v11": 11}, at=now)
    assert await seen_values.prune_today(pool) == 8
    assert set(await stored(administrator)) == {
        ("north", "v11"),
        ("north", "v10"),
        ("north", "v9"),
        ("south", "theirs"),
    }


async def test_days_that_are_over_keep_fewer_values_and_go_after_ninety_days(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seen_values, "VALUES_OF_A_DAY", 2)
    for days in (0, 1, 89):
        await add(pool, {f"d{days}-{number}": number for number in (1, 2, 3)}, at=now - timedelta(days=days))
    await add(pool, {"old": 1}, at=now - timedelta(days=90))
    assert await seen_values.prune_past(pool) == 3
    left = {value for _, value in await stored(administrator)}
    assert left == {"d0-1", "d0-2", "d0-3", "d1-2", "d1-3", "d89-2", "d89-3"}


# --- contacts with an enrollment ---

BOUND = datetime(2026, 5, 1, tzinfo=UTC)


async def test_contacts_are_enrolled_while_open_or_until_their_lateness_is_over(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    for contact_id, ended_at in (("open", None), ("lately", BOUND + timedelta(seconds=1)), ("ended", BOUND)):
        await administrator.execute(
            "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, ended_at)"
            " VALUES ('north', $1, 'w', $1, $2)",
            contact_id,
            ended_at,
        )
    asked = {("north", name) for name in ("open", "lately", "ended", "unknown")} | {("south", "open")}
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        assert await enrolled_contacts.enrolled(connection, set(), BOUND) == set()
        found = await enrolled_contacts.enrolled(connection, asked, BOUND)
    assert found == {("north", "open"), ("north", "lately")}


async def test_contacts_are_looked_up_by_index_however_many_there_are(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id)"
        " SELECT 'north', n, 'w', 'c' || n FROM generate_series(1, 20000) AS n"
    )
    await table_statistics.analyze_grown(pool)
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        sql = enrolled_contacts._ENROLLED
        texts = "\x1f".join(["north"] * 5_000), "\x1f".join(f"c{number}" for number in range(5_000))
        plan = await connection.fetch(f"EXPLAIN {sql}", *texts, BOUND)
    text = "\n".join(row[0] for row in plan)
    assert "enrollments_by_contact" in text
    assert "Seq Scan on enrollments" not in text


async def test_enrollments_are_known_once_every_partition_is_judged_so_far(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, now: datetime
) -> None:
    async def are_known(until: datetime) -> bool:
        async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
            return await enrolled_contacts.are_known(connection, "lifecycle", until)

    assert await are_known(now)  # no worker has ever run
    await administrator.execute("INSERT INTO progress VALUES ('lifecycle', 0, $1, $1), ('other', 0, NULL, $1)", now)
    assert await are_known(now)
    assert not await are_known(now + timedelta(days=1))  # as of now, which is later than the progress
    await administrator.execute("INSERT INTO progress VALUES ('lifecycle', 1, NULL, $1)", now)
    assert not await are_known(now)
