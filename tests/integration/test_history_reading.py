"""Kept events are read by contact, each once, in the order of judgement; coverage says what history holds."""

import datetime as dt
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events
from goalworker.postgres import connections, tables
from goalworker.stores import history
from tests.integration.kept_events import DAY, keep

MAY = datetime(2026, 5, 1, tzinfo=UTC)


def _event(data: events.GoalData | events.ReversalData, id_: str = "1", at: datetime = MAY) -> events.Event:
    event_type = next(name for name, struct in events.DATA_OF_TYPE.items() if struct is type(data))
    return events.Event("north", "/shop", id_, event_type, at, data)


FORM = events.FormSubmitted("c", "f")
OF_EACH_TYPE = [
    events.TagAdded("c", "t-1", "VIP"),
    events.PaymentCompleted("c", "p", Decimal("1E+2"), "EUR", ("a", "b"), "k"),
    events.AppointmentBooked("c", "a", "cal", "ser", "2026", "before"),
    events.FormSubmitted("c", "f", "s", test=True),
    events.StageChanged("c", "p", "s", "s0", "d"),
    events.PaymentRefunded("c", "p", "r", Decimal("0.50"), "EUR"),
    events.PaymentFailed("c", "p"),
    events.AppointmentCancelled("c", "a"),
    events.FormRejected("c", "s"),
]


async def _read(
    pool: sa_async.AsyncEngine, *contact_ids: str, **bounds: datetime
) -> dict[str, list[history.KeptEvent]]:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        return await history.events_of_contacts(connection, "north", contact_ids, **bounds)


@pytest.mark.parametrize("data", OF_EACH_TYPE, ids=lambda data: type(data).__name__)
async def test_an_event_of_each_type_is_read_as_it_was_kept(
    pool: sa_async.AsyncEngine, data: events.GoalData | events.ReversalData
) -> None:
    await keep(pool, _event(data), first_offset=7)
    assert await _read(pool, "c") == {"c": [history.KeptEvent(_event(data), "topic", 3, 7)]}


async def test_events_are_ordered_by_time_source_and_id_whenever_they_came(pool: sa_async.AsyncEngine) -> None:
    late = MAY + dt.timedelta(hours=1)
    await keep(pool, _event(FORM, "b", late), _event(FORM, "a", late), day=DAY)
    await keep(pool, _event(FORM, "z"), day=DAY + dt.timedelta(days=1))
    assert [kept.event.id for kept in (await _read(pool, "c"))["c"]] == ["z", "a", "b"]


async def test_a_repeated_event_is_read_once_as_it_came_first(pool: sa_async.AsyncEngine) -> None:
    other = events.FormSubmitted("c", "g")
    await keep(pool, _event(other), day=DAY + dt.timedelta(days=1))
    await keep(pool, _event(FORM), _event(other), _event(other))
    (kept,) = (await _read(pool, "c"))["c"]
    assert (kept.event.data, kept.offset) == (FORM, 0)


async def test_bounds_are_times_of_events_and_contacts_are_apart(pool: sa_async.AsyncEngine) -> None:
    hours = [MAY + dt.timedelta(hours=number) for number in range(4)]
    await keep(pool, *(_event(FORM, str(hour), hour) for hour in hours))
    await keep(pool, _event(events.FormSubmitted("d", "f"), "of d"))
    found = await _read(pool, "c", "d", "unknown", since=hours[1], until=hours[3])
    assert [kept.event.time for kept in found["c"]] == hours[1:3]
    assert found["d"] == found["unknown"] == []


async def test_a_repetition_within_bounds_is_not_read_where_the_event_itself_is_without(
    pool: sa_async.AsyncEngine,
) -> None:
    later = MAY + dt.timedelta(hours=1)
    await keep(pool, _event(FORM), _event(FORM, at=later), _event(FORM, "other", later))
    assert [kept.event.id for kept in (await _read(pool, "c", since=later))["c"]] == ["other"]


async def test_the_api_reads_the_events_of_its_own_tenant_alone(pool: sa_async.AsyncEngine) -> None:
    await keep(pool, _event(FORM))
    for tenant_id, found in (("north", 1), ("south", 0)):
        async with connections.tenant_transaction(pool, tenant_id, "test") as connection:
            driver = await connections.driver_of(connection)
            assert len((await history.events_of_contacts(driver, "north", ["c"]))["c"]) == found


async def _coverage(pool: sa_async.AsyncEngine, *setup: str) -> history.Coverage:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        for sql in setup:
            await connection.execute(sql)
    async with connections.tenant_transaction(pool, "north", "test") as api:
        return await history.coverage(await connections.driver_of(api), "north")


POSITIONS = (
    "INSERT INTO history_positions VALUES ('a', 0, NULL, 0, 9, '2026-05-01'), ('b', 0, NULL, 5, 9, '2026-05-02')"
)


async def test_nobody_looked_where_no_process_ever_ran(pool: sa_async.AsyncEngine) -> None:
    assert await _coverage(pool) == history.Coverage(None)


async def test_nobody_looked_where_events_are_not_kept(pool: sa_async.AsyncEngine) -> None:
    nothing = "INSERT INTO history_coverage VALUES (1, 'all', 'epoch', 0, NULL)"
    assert await _coverage(pool, POSITIONS, nothing) == history.Coverage(None)


async def test_coverage_begins_where_the_last_partition_begins(pool: sa_async.AsyncEngine) -> None:
    enrolled = "INSERT INTO history_coverage VALUES (1, 'enrolled', NULL, 86400, NULL)"
    expected = history.Coverage(datetime(2026, 5, 2, tzinfo=UTC), "enrolled", None, dt.timedelta(days=1))
    assert await _coverage(pool, POSITIONS, enrolled) == expected


async def test_coverage_ends_where_the_partition_that_is_furthest_behind_ends(pool: sa_async.AsyncEngine) -> None:
    enrolled = "INSERT INTO history_coverage VALUES (1, 'enrolled', NULL, 86400, NULL)"
    read = "UPDATE history_positions SET history_until = '2026-05-04' WHERE topic = 'a'"
    assert (await _coverage(pool, POSITIONS, enrolled, read)).history_until is None
    read = "UPDATE history_positions SET history_until = '2026-05-05' WHERE topic = 'b'"
    assert (await _coverage(pool, read)).history_until == datetime(2026, 5, 4, tzinfo=UTC)


async def test_coverage_begins_no_earlier_than_the_days_that_are_left(pool: sa_async.AsyncEngine) -> None:
    dropped = "INSERT INTO history_coverage VALUES (1, 'all', '2026-05-04', 86400, '2026-05-03')"
    found = await _coverage(pool, POSITIONS, dropped)
    assert (found.history_from, found.all_since) == (datetime(2026, 5, 3, tzinfo=UTC), datetime(2026, 5, 4, tzinfo=UTC))
