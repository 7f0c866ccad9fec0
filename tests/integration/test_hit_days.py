"""Days of hits: each hit goes into today's, a day goes as a whole, and a hit of two days counts once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events, ids
from goalworker.postgres import connections, database_errors, tables
from goalworker.stores import contact_facts, day_partitions, retention
from tests.integration import checks, hit_days, world
from tests.integration.scenes import ONE, TENANT, logic, paid, purchase, started, tagged
from tests.kit import goal_history
from tests.kit.strategies import at

WEEK = timedelta(days=7)
BOUGHT, THREE_TIMES = purchase(1), purchase(2, times=3, within=60)

_DAYS = """
SELECT inhrelid::regclass::text FROM pg_inherits
WHERE inhparent = 'goal_hits'::regclass AND inhrelid <> 'goal_hits_kept'::regclass ORDER BY 1
"""


def _name(days_ago: int) -> str:
    return f"goal_hits_{datetime.now(UTC).date() - timedelta(days=days_ago):%Y%m%d}"


async def _days(administrator: connections.Connection) -> list[str]:
    return [row[0] for row in await administrator.fetch(_DAYS)]


async def _where(administrator: connections.Connection) -> list[tuple[str, str]]:
    rows = await administrator.fetch("SELECT event_id, tableoid::regclass::text FROM goal_hits ORDER BY 1, 2")
    return [(row[0], row[1]) for row in rows]


# --- recording ---


async def test_a_hit_goes_into_the_day_on_which_it_is_recorded(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(tagged("h", 5))
    assert await _where(administrator) == [("h", _name(0))]
    assert await administrator.fetchval("SELECT recorded_at FROM goal_hits") is None


async def test_only_hits_of_goals_that_count_have_no_day(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [BOUGHT, THREE_TIMES])
    worker = world.Worker(pool, world.Broker())
    await worker.take(paid("h", 5))
    assert await _where(administrator) == [("h", _name(0)), ("h", "goal_hits_kept")]
    assert await administrator.fetchval("SELECT kept_until > recorded_at FROM goal_hits_kept")


async def test_a_day_without_a_partition_stops_nobody(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await goal_history.write(administrator, [ONE], {})
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    messages = [started(0), tagged("h1", 5)]
    await worker.take(*messages)
    await retention.keep_days_of_hits(pool, WEEK)
    messages.append(tagged("h2", 4))
    await worker.take(messages[-1])
    assert await _where(administrator) == [("h1", "goal_hits_kept"), ("h2", _name(0))]
    await checks.assert_lawful(administrator, broker, [ONE], {}, messages)


async def test_a_partition_that_a_statement_does_not_know_yet_is_an_error_that_passes(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await goal_history.write(administrator, [ONE], {})
    await administrator.execute(f"CREATE TABLE {_name(0)} (LIKE goal_hits)")  # not attached yet
    worker = world.Worker(pool, world.Broker())
    with pytest.raises(database_errors.PartitionMadeError) as caught:
        await worker.take(tagged("h", 5))
    assert database_errors.is_transient(caught.value)
    await administrator.execute(f"DROP TABLE {_name(0)}")
    batch = await worker.take(tagged("h", 5))
    assert batch.letters == []


# --- duplicates ---


async def test_a_hit_that_is_found_again_on_another_day_counts_once(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    twice = purchase(1, times=2, within=600)
    await world.install(administrator, [twice])
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    messages: list[events.Event] = [started(0), paid("h1", at(5), "p1")]
    await worker.take(*messages)
    # As recorded when the goal did not count yet: of a day, and there again on the next one.
    for days in (1, 2):
        await hit_days.make(administrator, days)
        await administrator.execute(
            "INSERT INTO goal_hits SELECT event_time, contact_hash, goal_version, (now() - $1::interval)::date,"
            " goal_id, tenant_id, workflow_id, contact_id, event_source, event_id, data FROM goal_hits_kept",
            timedelta(days=days),
        )
    await worker.take(messages[0])
    assert await administrator.fetchval("SELECT count(*) FROM goal_hits") == 3
    await checks.assert_lawful(administrator, broker, [twice], {}, messages)
    assert await administrator.fetchval("SELECT count(*) FROM achievements") == 0
    messages.append(paid("h2", at(6), "p2"))
    await worker.take(messages[-1])
    await checks.assert_lawful(administrator, broker, [twice], {}, messages)
    assert await administrator.fetchval("SELECT count(*) FROM achievements") == 1


@pytest.mark.parametrize("first", [0, 1])
async def test_of_a_hit_with_two_payloads_that_of_the_earlier_day_stands(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, first: int
) -> None:
    await world.install(administrator, [BOUGHT], logic("never"))
    worker = world.Worker(pool, world.Broker())
    for amount in ("1", "2"):
        await worker.take(paid("h", 5, amount=amount))
        await hit_days.age(administrator, hit_days.DAY)
    # Two days and one day ago by now; which of the two has which payload must not matter, nor which was written first.
    amounts = [row[0] for row in await administrator.fetch(_AMOUNTS)]
    assert amounts == ["1", "2"]
    if first:
        await hit_days.make(administrator, 3)
        await administrator.execute(f"UPDATE goal_hits SET recorded_on = recorded_on - 2 WHERE {_AMOUNT} = '2'")
    await worker.take(started(0))
    assert await administrator.fetchval("SELECT data ->> 'amount' FROM achievements") == amounts[first]
    async with connections.tenant_transaction(pool, TENANT, "test") as connection:
        known = await contact_facts.read(connection, TENANT, "w1", "c1", lateness=WEEK, tracking=True)
    assert [hit.trigger.data.count(f'"amount":"{amounts[first]}"'.encode()) for hit in known.hits] == [1, 0]


_AMOUNT = "data ->> 'amount'"
_AMOUNTS = f"SELECT {_AMOUNT} FROM goal_hits ORDER BY recorded_on"


async def test_contacts_of_one_hash_keep_their_hits_apart(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "contact_hash", lambda *_: 7)
    await world.install(administrator, [ONE])
    broker = world.Broker()
    runs = [("w1", f"e{number}", f"c{number}") for number in range(3)]
    messages: list[events.Event] = [tagged(f"h-{contact}", 5, contact_id=contact) for *_, contact in runs[:2]]
    messages += [started(0, f"s-{run[1]}", run) for run in runs]
    worker = world.Worker(pool, broker)
    await worker.take(*messages[:2])
    await worker.take(*messages[2:])
    await checks.assert_lawful(administrator, broker, [ONE], {}, messages)
    assert await administrator.fetchval("SELECT count(*) FROM achievements") == 2


def test_the_contacts_of_a_tenant_are_one_range_of_hashes() -> None:
    prefixes = {ids.contact_hash("acme", "w", f"c{number}") >> 40 for number in range(100)}
    assert len(prefixes) == 1
    assert prefixes != {ids.contact_hash("other", "w", "c1") >> 40}
    assert ids.contact_hashes("acme") == (min(prefixes) << 40, (min(prefixes) + 1 << 40) - 1)
    assert ids.contact_hash("acme", "w", "c1") != ids.contact_hash("acme", "w", "c2")
    assert ids.contact_hash("acme", "w", "c1") == -3772626128027897152  # for ever, as rows have it


# --- days that come and go ---


async def test_a_day_goes_once_its_last_hit_is_older_than_the_lateness(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(tagged("h", 5))
    await hit_days.age(administrator, WEEK)
    assert await hit_days.sweep(pool, WEEK) == 0
    await hit_days.age(administrator, hit_days.DAY)
    assert await hit_days.sweep(pool, WEEK) == 1


async def test_days_are_made_and_dropped_after_a_database_was_off_for_a_week(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    for days_ago in (16, 14, 8):
        await hit_days.make(administrator, days_ago)
    assert len(await retention.keep_days_of_hits(pool, WEEK)) == 5
    assert await _days(administrator) == [_name(7), _name(0), _name(-1), _name(-2)]
    assert await day_partitions.last(pool, "goal_hits") == datetime.now(UTC).date() + timedelta(days=2)
    assert await retention.keep_days_of_hits(pool, WEEK) == []


async def test_days_of_a_clock_that_was_ahead_stay_until_they_are_due(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await hit_days.make(administrator, -400)
    await retention.keep_days_of_hits(pool, WEEK)
    assert _name(-400) in await _days(administrator)
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(tagged("h", 5))
    assert await _where(administrator) == [("h", _name(0))]


async def test_a_day_that_somebody_reads_stays_until_the_next_time_and_nobody_waits_for_long(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await hit_days.make(administrator, 9)
    worker = world.Worker(pool, world.Broker())
    began = asyncio.get_running_loop().time()
    async with administrator.transaction():  # type: ignore[attr-defined]
        await administrator.fetch("SELECT count(*) FROM goal_hits")
        dropped, *_ = await asyncio.gather(retention.keep_days_of_hits(pool, WEEK), worker.take(tagged("h", 5)))
    assert dropped == []
    assert asyncio.get_running_loop().time() - began < connections.LOCK_TIMEOUT_SECONDS
    assert len(await retention.keep_days_of_hits(pool, WEEK)) == 2


async def test_several_processes_keep_the_days_at_once(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    for days_ago in (20, 18):
        await hit_days.make(administrator, days_ago)
    done = await asyncio.gather(*(retention.keep_days_of_hits(pool, WEEK) for _ in range(5)))
    await retention.keep_days_of_hits(pool, WEEK)
    assert sum(map(len, done)) <= 4
    assert await _days(administrator) == [_name(0), _name(-1), _name(-2)]


async def test_a_day_of_hits_is_read_through_the_whole_table_alone(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await hit_days.make(administrator)
    for role in (tables.WORKER_ROLE, tables.API_ROLE):
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            assert not await administrator.fetchval("SELECT has_table_privilege($1, $2, $3)", role, _name(0), right)


async def test_a_day_of_hits_has_one_index(administrator: connections.Connection) -> None:
    await hit_days.make(administrator)
    rows = await administrator.fetch("SELECT indexname::text FROM pg_indexes WHERE tablename = $1", _name(0))
    assert [row[0] for row in rows] == [f"{_name(0)}_by_contact"]


async def test_only_tables_with_days_get_some(pool: sa_async.AsyncEngine) -> None:
    for call in (
        "goalworker_make_days(ARRAY['goals'], now()::date, now()::date)",
        "goalworker_drop_day('{exits}', now()::date)",
    ):
        with pytest.raises(Exception, match="tables without days"):
            async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
                await connection.fetch(f"SELECT {call}")
