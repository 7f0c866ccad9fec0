"""Old rows are deleted, and never those of open enrollments or those that are still evidence."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events
from goalworker.postgres import connections
from goalworker.stores import retention
from tests.integration import checks, crashes, hit_days, statements, world
from tests.integration.scenes import DEACTIVATED, ONE, TWO, ended, logic, started, state, tagged
from tests.kit import goal_history, strategies

WEEK = timedelta(days=7)
YEARS = timedelta(days=730)


async def _count(administrator: connections.Connection, table: str) -> int:
    return int(await administrator.fetchval(f"SELECT count(*) FROM {table}"))


async def _age(administrator: connections.Connection, table: str, column: str, age: timedelta, where: str = "") -> None:
    await administrator.execute(f"UPDATE {table} SET {column} = clock_timestamp() - $1::interval {where}", age)


# --- hits (contract rule 3.6) ---


async def test_hits_without_a_day_are_deleted_by_their_time_of_recording(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await goal_history.write(administrator, [ONE], {})
    # Events of this world are from long ago, like late ones.
    await world.Worker(pool, world.Broker()).take(tagged("h1", 5), tagged("h2", 6))
    assert await retention.sweep_hits(pool, WEEK) == 0
    await _age(administrator, "goal_hits", "recorded_at", WEEK - timedelta(minutes=1), "WHERE event_id = 'h1'")
    assert await retention.sweep_hits(pool, WEEK) == 0
    await _age(administrator, "goal_hits", "recorded_at", WEEK, "WHERE event_id = 'h1'")
    assert await retention.sweep_hits(pool, WEEK) == 1
    assert await administrator.fetchval("SELECT event_id FROM goal_hits") == "h2"


async def test_all_old_hits_without_a_day_are_deleted_in_any_number_of_slices(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_SLICE", 2)
    await goal_history.write(administrator, [ONE], {})
    await world.Worker(pool, world.Broker()).take(*(tagged(f"h{number}", 5) for number in range(5)))
    await _age(administrator, "goal_hits", "recorded_at", WEEK)
    assert await retention.sweep_hits(pool, WEEK) == 5


@world.examples(30)
@given(data=st.data(), drawn=strategies.worlds(), tracked=st.booleans())
async def test_neither_a_sweep_nor_a_replay_of_everything_after_it_changes_anything(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    data: st.DataObject,
    drawn: strategies.World,
    tracked: bool,
) -> None:
    drawn = drawn if tracked else drawn.untracked()
    await world.clear(administrator)
    await world.install(administrator, drawn.goals, drawn.logics)
    broker = world.Broker()
    worker = world.Worker(pool, broker, tracked=tracked)
    await worker.take(*drawn.messages)
    said = list(broker.sent)
    await hit_days.age(administrator, WEEK + hit_days.DAY)
    await hit_days.sweep(pool, WEEK)
    # Of messages older than the lateness, a part alone may be judged without what was swept.
    await worker.take(*data.draw(st.permutations(drawn.messages)))
    assert broker.sent == said
    await checks.assert_lawful(administrator, broker, drawn.goals, drawn.logics, drawn.messages, tracked=tracked)


@world.examples(20)
@given(data=st.data(), drawn=strategies.worlds())
async def test_sweeps_between_replays_lose_nothing(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, data: st.DataObject, drawn: strategies.World
) -> None:
    await world.clear(administrator)
    await world.install(administrator, drawn.goals, drawn.logics)
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    for batch in data.draw(strategies.deliveries(drawn.messages)):
        await worker.take(*batch)
        await hit_days.age(administrator, WEEK + hit_days.DAY)
        await hit_days.sweep(pool, WEEK)
    await worker.take(*drawn.messages)
    await checks.assert_lawful(administrator, broker, drawn.goals, drawn.logics, drawn.messages)


async def test_a_hit_deleted_between_its_two_phases_is_judged(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await goal_history.write(administrator, [ONE], {})
    broker = world.Broker()
    messages = [started(0), tagged("h", 5)]
    await crashes.crashes(crashes.after_facts(), world.Worker(pool, broker).take(*messages))
    await _age(administrator, "goal_hits", "recorded_at", WEEK)
    between = _sweep_before_the_lock(pool)
    with statements.hooked(between):
        await world.Worker(pool, broker).take(*messages)
    assert await _count(administrator, "goal_hits") == 0
    await checks.assert_lawful(administrator, broker, [ONE], {}, messages)


def _sweep_before_the_lock(pool: sa_async.AsyncEngine) -> statements.Hook:
    async def hook(statement: statements.Statement) -> object:
        if "FOR UPDATE" in statement.sql:
            assert await retention.sweep_hits(pool, WEEK) == 1
        return await statement.run()

    return hook


async def test_a_correction_after_the_sweep_uses_the_stored_trigger(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE, TWO], logic("never"))
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    messages = [started(4), tagged("h1", 5), tagged("h2", 7, "tag-2")]
    await worker.take(*messages)
    await hit_days.age(administrator, WEEK + hit_days.DAY)
    await hit_days.sweep(pool, WEEK)
    for late in (started(3, "s2"), ended(7), state(DEACTIVATED, 6)):
        messages.append(late)
        await worker.take(late)
        await checks.assert_lawful(administrator, broker, [ONE, TWO], logic("never"), messages)


# --- enrollments (contract rule 3.7) ---


def _run(name: str) -> tuple[str, str, str]:
    return ("w1", name, f"c-{name}")


async def _rows_of(administrator: connections.Connection) -> dict[str, set[str]]:
    """Return the enrollments that each table has rows of."""
    return {
        table: {row[0] for row in await administrator.fetch(f"SELECT enrollment_id FROM {table}")}
        for table in ("enrollments", "achievements", "exits")
    }


async def test_an_ended_or_exited_enrollment_is_deleted_whole_and_an_open_one_never(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    worker = world.Worker(pool, world.Broker())
    names = ("open", "ended", "exited", "ended_later", "exited_later", "ended_lately_after_its_exit")
    exited = {"ended", "exited", "ended_later", "exited_later", "ended_lately_after_its_exit"}
    await worker.take(*(started(0, f"s-{name}", _run(name)) for name in names))
    await worker.take(*(tagged(f"h-{name}", 5, contact_id=f"c-{name}") for name in exited))
    await worker.take(*(ended(9, f"x-{name}", _run(name)) for name in names if name.startswith("ended")))
    later = YEARS - timedelta(minutes=1)
    await _age(administrator, "exits", "created_at", YEARS, "WHERE enrollment_id <> 'exited_later'")
    await _age(administrator, "exits", "created_at", later, "WHERE enrollment_id = 'exited_later'")
    await _age(administrator, "enrollments", "ended_at", YEARS, "WHERE enrollment_id = 'ended'")
    await _age(administrator, "enrollments", "ended_at", later, "WHERE enrollment_id LIKE 'ended\\_l%'")
    assert await retention.sweep_enrollments(pool, YEARS) == 2
    kept = exited - {"ended", "exited"}
    assert await _rows_of(administrator) == {"enrollments": {"open", *kept}, "achievements": kept, "exits": kept}


async def test_all_old_enrollments_are_deleted_in_any_number_of_slices(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_SLICE", 2)
    names = [f"e{number}" for number in range(5)]
    await world.Worker(pool, world.Broker()).take(*(ended(9, f"x-{name}", _run(name)) for name in names))
    await _age(administrator, "enrollments", "ended_at", YEARS)
    assert await retention.sweep_enrollments(pool, YEARS) == 5


async def test_an_enrollment_that_is_being_judged_waits_for_the_next_sweep(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    worker = world.Worker(pool, world.Broker())
    await worker.take(started(0), tagged("h", 5), started(0, "s2", _run("e2")))
    await worker.take(ended(9), ended(9, "x2", _run("e2")))
    await _age(administrator, "enrollments", "ended_at", YEARS)
    swept: list[int] = []

    async def sweep_in_the_midst(statement: statements.Statement) -> object:
        answer = await statement.run()
        if "FOR UPDATE" in statement.sql and "SKIP LOCKED" not in statement.sql:
            swept.append(await asyncio.create_task(retention.sweep_enrollments(pool, YEARS)))
        return answer

    with statements.hooked(sweep_in_the_midst):
        await worker.take(tagged("h", 5))
    assert swept[0] == 1
    assert (await _rows_of(administrator))["enrollments"] == {"e1"}
    assert await retention.sweep_enrollments(pool, YEARS) == 1


async def test_two_concurrent_sweepers_do_the_work_once(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    names = [f"e{number}" for number in range(50)]
    await world.Worker(pool, world.Broker()).take(*(ended(9, f"x-{name}", _run(name)) for name in names))
    await _age(administrator, "enrollments", "ended_at", YEARS)
    assert sum(await asyncio.gather(*(retention.sweep_enrollments(pool, YEARS) for _ in range(4)))) == 50
    assert await _count(administrator, "enrollments") == 0


async def test_a_deleted_enrollment_can_be_judged_again(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    """Outside the guarantee (rule 3.7), but it must not stop the worker."""
    await world.install(administrator, [ONE])
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    messages: list[events.Event] = [started(0), tagged("h", 5), ended(9)]
    await worker.take(*messages)
    await _age(administrator, "enrollments", "ended_at", YEARS)
    await retention.sweep_enrollments(pool, YEARS)
    await worker.take(*messages)
    await checks.assert_lawful(administrator, broker, [ONE], {}, messages)
