"""A worker may crash anywhere: its successor repeats the batch, and nothing is lost or doubled."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker.pipeline import outbox, phases, waiting, worker
from goalworker.postgres import connections
from tests.integration import checks, crashes, flow, statements, world
from tests.integration.scenes import (
    ACTIVATED,
    DEACTIVATED,
    ONE,
    TWO,
    ended,
    failed,
    goal,
    logic,
    paid,
    purchase,
    started,
    state,
    tagged,
)
from tests.kit import strategies

pytestmark = pytest.mark.unmeasured

OTHER, ABSENT = ("w1", "e2", "c2"), ("w1", "e4", "c4")
BEFORE = (
    started(0),
    started(0, "s2", OTHER),
    started(0, "s4", ABSENT),
    tagged("h0", 6, contact_id="c2"),
    tagged("h5", 8, contact_id="c4"),
    started(0, "s5", ("w2", "e5", "c5")),
    started(0, "s6", ("w2", "e6", "c6")),
    paid("p2", 6, "p2", contact_id="c6"),
    state(DEACTIVATED, 2, workflow_id="w3"),
    started(0, "s7", ("w3", "e7", "c7")),
    tagged("h7", 6, "tag-3", "c7"),
)
BATCH = (
    tagged("h1", 5),
    tagged("h2", 5, "tag-2"),
    tagged("h3", 4, contact_id="c2"),
    ended(3, "x2", OTHER),
    started(0, "s3", ("w1", "e3", "c3")),
    tagged("h4", 7, contact_id="c3"),
    paid("p1", 6, contact_id="c5"),
    failed("r1", 8, contact_id="c5"),
    failed("r2", 8, "p2", "c6"),
    state(DEACTIVATED, 3, "a2"),
    state(ACTIVATED, 9, "a3", "w3"),
)
"""An exit, a correction, revocations, a reversal and an activation that concern contacts with nothing else."""
GOALS, LOGICS = (ONE, TWO, purchase(5, "w2"), goal(6, "tag-3", "w3")), logic("all")

How = Callable[[int], statements.Hook]


@pytest.fixture(autouse=True)
def nothing_is_left_behind_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LEFT_BEHIND_SECONDS", 0)
    monkeypatch.setattr(phases, "STATE_SLICE_CONTACTS", 1)
    monkeypatch.setattr(worker, "DEFER_SECONDS", 0)


async def _begin(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> world.Broker:
    await world.clear(administrator)
    await world.install(administrator, GOALS, LOGICS)
    broker = world.Broker()
    await world.Worker(pool, broker).take(*BEFORE)
    return broker


# --- a batch ---


@pytest.mark.parametrize("end", [crashes.before, crashes.after], ids=["before", "after"])
async def test_a_crash_at_any_round_trip_is_repaired_by_a_replay(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, end: How
) -> None:
    step, is_over = 0, False
    while not is_over:
        broker = await _begin(pool, administrator)
        is_over = await crashes.survives(end(step), world.Worker(pool, broker).take(*BATCH))
        successor = world.Worker(pool, broker)
        await successor.take(*BATCH)
        await successor.sweep()
        await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*BEFORE, *BATCH])
        step += 1
    assert step >= 25, "fewer round trips than there are"


async def test_a_worker_that_crashes_a_little_later_each_time_finishes(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = await _begin(pool, administrator)
    step = 0
    while not await crashes.survives(crashes.after(step), world.Worker(pool, broker).take(*BATCH)):
        step += 1
    await world.Worker(pool, broker).sweep()
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*BEFORE, *BATCH])


async def test_a_killed_connection_or_a_silent_broker_is_retried_with_the_same_batch(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    steps = len(await crashes.round_trips(world.Worker(pool, await _begin(pool, administrator)).take(*BATCH)))
    for step in range(0, steps, 2):
        broker = await _begin(pool, administrator)
        same = world.Worker(pool, broker)
        batch = world.batch_of(BATCH, same.goal_index)
        with pytest.raises(Exception) as failed, statements.hooked(crashes.cut(step, administrator)):  # noqa: PT011 - is_transient says which
            await world.through(same.phases, batch)
        assert waiting.is_transient(failed.value), failed.value
        await world.through(same.phases, batch)
        await same.sweep()
        await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*BEFORE, *BATCH])


# --- any world ---


@world.examples(30)
@given(data=st.data(), drawn=strategies.worlds(), tracked=st.booleans())
async def test_any_world_is_lawful_however_often_its_workers_crash(
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
    for batch in data.draw(strategies.deliveries(drawn.messages)):
        for step in data.draw(st.lists(st.integers(0, 25), max_size=2)):
            mortal = world.Worker(pool, broker, tracked=tracked)
            await crashes.survives(crashes.after(step), mortal.take(*batch))
        await world.Worker(pool, broker, tracked=tracked).take(*batch)
    await world.Worker(pool, broker, tracked=tracked).sweep()
    await checks.assert_lawful(administrator, broker, drawn.goals, drawn.logics, drawn.messages, tracked=tracked)


# --- the whole flow, offsets included ---


@pytest.mark.parametrize("end", [crashes.before, crashes.after], ids=["before", "after"])
async def test_a_worker_that_crashes_anywhere_resumes_from_its_committed_offsets(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, end: How
) -> None:
    messages = [started(0), tagged("none", 5, "tag-9"), tagged("h1", 5), tagged("h2", 6, "tag-2"), ended(9)]
    step, is_over = 0, False
    while not is_over:
        await world.clear(administrator)
        await world.install(administrator, GOALS, LOGICS)
        broker, log = world.Broker(), flow.Log([*messages, b"{"])
        is_over = await crashes.survives(end(step), flow.run(pool, broker, log))
        await flow.run(pool, broker, log)
        assert set(log.lag.values()) == {0}
        assert {reason for reason, _ in broker.letters()} == {"invalid_json"}
        await world.Worker(pool, broker).sweep()
        await checks.assert_lawful(administrator, broker, GOALS, LOGICS, messages)
        step += 1
    assert step >= 25, "fewer round trips than there are"
