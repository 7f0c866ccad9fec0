"""Records that cannot be stored are dead-lettered with a reason, and others are judged as if they had never come."""

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events
from goalworker.postgres import connections
from tests.integration import checks, statements, world
from tests.integration.scenes import ACTIVATED, ONE, TENANT, TWO, ended, logic, started, state, tagged

ANOTHER_CONTACT, ANOTHER_WORKFLOW = ("w1", "e1", "c2"), ("w2", "e1", "c1")


# --- unstorable ---


@pytest.mark.parametrize("place", range(5))
async def test_one_poisonous_row_is_dead_lettered_and_its_neighbours_are_judged(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, place: int
) -> None:
    await administrator.execute("ALTER TABLE goal_hits ADD CHECK (event_id <> 'poison')")
    await world.install(administrator, [ONE, TWO], logic("all"))
    broker = world.Broker()
    neighbours = [started(0), tagged("h1", 3), tagged("h2", 5, "tag-2"), ended(9)]
    batch = [*neighbours[:place], tagged("poison", 2), *neighbours[place:]]
    taken = await world.Worker(pool, broker).take(*batch)
    assert [reason for reason, _ in broker.letters()] == ["unstorable"]
    assert taken.letters[0].record.value == world.record_of(batch[place], 0).value
    await checks.assert_lawful(administrator, broker, [ONE, TWO], logic("all"), neighbours)


@pytest.mark.parametrize(
    ("table", "poison"),
    [
        ("enrollments", started(0, "poison", ("w1", "poison", "c9"))),
        ("workflow_states", state(ACTIVATED, 0, "poison", "poison")),
    ],
)
async def test_a_poisonous_lifecycle_message_is_dead_lettered_alone(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, table: str, poison: events.Event
) -> None:
    await administrator.execute(f"ALTER TABLE {table} ADD CHECK ('poison' NOT IN ({_ID_OF[table]}))")
    await world.install(administrator, [ONE])
    broker = world.Broker()
    neighbours = [started(0), tagged("h1", 3), state(ACTIVATED, 1)]
    await world.Worker(pool, broker).take(neighbours[0], poison, *neighbours[1:])
    assert [reason for reason, _ in broker.letters()] == ["unstorable"]
    await checks.assert_lawful(administrator, broker, [ONE], {}, neighbours)


_ID_OF = {"enrollments": "enrollment_id", "workflow_states": "workflow_id"}


async def test_every_copy_of_a_poisonous_record_is_dead_lettered(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute("ALTER TABLE goal_hits ADD CHECK (event_id <> 'poison')")
    await world.install(administrator, [ONE])
    broker = world.Broker()
    poison = tagged("poison", 2)
    await world.Worker(pool, broker).take(poison, started(0), poison, tagged("h", 5), poison)
    assert [reason for reason, _ in broker.letters()] == ["unstorable"] * 3
    await checks.assert_lawful(administrator, broker, [ONE], {}, [started(0), tagged("h", 5)])


async def test_an_error_about_a_record_does_not_quote_it(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    broker = world.Broker()
    taken = await world.Worker(pool, broker).take(tagged("secret\0", 5), tagged("h", 5), started(0))
    (letter,) = taken.letters
    assert (letter.reason, "secret" in letter.message) == ("unstorable", False)
    await checks.assert_lawful(administrator, broker, [ONE], {}, [tagged("h", 5), started(0)])


# --- conflicting_enrollment ---


@pytest.mark.parametrize("other", [ANOTHER_CONTACT, ANOTHER_WORKFLOW])
async def test_the_first_of_two_contradicting_records_in_a_batch_stands(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, other: tuple[str, str, str]
) -> None:
    await world.install(administrator, [ONE])
    broker = world.Broker()
    batch = (started(4), started(0, "s2", other), started(3, "s3"), tagged("h", 5))
    taken = await world.Worker(pool, broker).take(*batch)
    assert (taken.records, len(taken.items)) == (4, 3)
    assert [reason for reason, _ in broker.letters()] == ["conflicting_enrollment"]
    await checks.assert_lawful(administrator, broker, [ONE], {}, [started(3), tagged("h", 5)])


@pytest.mark.parametrize("other", [ANOTHER_CONTACT, ANOTHER_WORKFLOW])
async def test_a_record_that_contradicts_an_earlier_batch_is_dead_lettered(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, other: tuple[str, str, str]
) -> None:
    await world.install(administrator, [ONE])
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    await worker.take(started(4))
    await worker.take(ended(1, "x1", other))
    await worker.take(ended(1, "x1", other), tagged("h", 5))
    assert [reason for reason, _ in broker.letters()] == ["conflicting_enrollment"] * 2
    await checks.assert_lawful(administrator, broker, [ONE], {}, [started(4), tagged("h", 5)])


async def test_the_record_that_the_database_knows_stands(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    await worker.take(started(4))
    await worker.take(started(0, "s2", ANOTHER_CONTACT), started(2, "s3"), tagged("h", 3))
    assert [reason for reason, _ in broker.letters()] == ["conflicting_enrollment"]
    await checks.assert_lawful(administrator, broker, [ONE], {}, [started(2), tagged("h", 3)])


async def test_tenants_may_use_the_same_ids(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> None:
    broker = world.Broker()
    there = started(0, "s1", ANOTHER_CONTACT)
    elsewhere = type(there)("south", there.source, there.id, there.type, there.time, there.data)
    await world.Worker(pool, broker).take(started(0), elsewhere)
    assert broker.letters() == []
    assert await administrator.fetchval("SELECT count(*) FROM enrollments WHERE tenant_id <> $1", TENANT) == 1


async def test_one_of_two_concurrent_contradicting_records_is_dead_lettered(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    for steps_of_a in range(8):
        await world.clear(administrator)
        await world.install(administrator, [ONE])
        broker = world.Broker()
        batches = {"c1": (started(0), tagged("h1", 5)), "c2": (started(0, "s2", ANOTHER_CONTACT), tagged("h2", 5))}
        parts = {name: world.Worker(pool, broker).take(*batch) for name, batch in batches.items()}
        await statements.take_turns(administrator, parts, ["c1"] * steps_of_a + ["c2"] * 20, statements.decisive)
        assert [reason for reason, _ in broker.letters()] == ["conflicting_enrollment"]
        stands = await administrator.fetchval("SELECT contact_id FROM enrollments")
        await checks.assert_lawful(administrator, broker, [ONE], {}, batches[stands])
