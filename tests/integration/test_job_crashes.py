"""Insight may crash anywhere in a job, or be frozen: another process ends it, and nothing is lost or doubled."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
import stamina
from msgspec import structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker.insight import backfills, plans
from goalworker.insight import jobs as job_runner
from goalworker.postgres import connections
from goalworker.stores import goal_store, jobs
from tests.integration import checks, crashes, job_runs, kept_events, scenes, statements, world
from tests.integration.scenes import TWO, ended, failed, paid, started, tagged
from tests.kit.strategies import at

pytestmark = pytest.mark.unmeasured

KEY, SINCE, MADE = ("north", "w1"), at(-1), at(90)
BOUGHT = scenes.purchase(1, min_amount=Decimal(50), currency="EUR")
GOALS, LOGICS = (BOUGHT, TWO), scenes.logic("all")
TWICE = ("w1", "e5", "c4")
MESSAGES = (
    *(started(0, f"s{n}", ("w1", f"e{n}", f"c{n}")) for n in range(1, 5)),
    started(1, "s5", TWICE),
    *(tagged(f"t{n}", 3, "tag-2", f"c{n}") for n in range(1, 5)),
    *(paid(f"p{n}", 2, f"p{n}", contact_id=f"c{n}") for n in (1, 2, 4)),
    failed("r2", 6, "p2", "c2"),
    *(ended(5, f"x{n}", ("w1", f"e{n}", f"c{n}")) for n in (2, 3)),
)
"""An exit, a payment that failed, an enrollment whose satisfaction is taken back, and a contact with two of them."""


@pytest.fixture(autouse=True)
def slices_are_small_and_hearts_are_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfills, "SLICE_CONTACTS", 2)
    monkeypatch.setattr(plans, "SLICE_ENROLLMENTS", 2)
    monkeypatch.setattr(job_runner, "HEARTBEAT_SECONDS", 1_000)


async def _begin(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> world.Broker:
    """Let a goal that was made after its events count them, and return the broker of before."""
    await world.clear(administrator)
    (version,) = BOUGHT.versions
    made = structs.replace(BOUGHT, created_at=MADE, versions=(structs.replace(version, active_from=MADE),))
    await world.install(administrator, [made, TWO], LOGICS)
    await kept_events.cover(pool, at(-9))
    broker = world.Broker()
    await world.Worker(pool, broker).take(*MESSAGES)
    await kept_events.keep(pool, *MESSAGES)
    await goal_store.begin_backfill(pool, *KEY, BOUGHT.goal_id, SINCE, exits=True, actor="ann")
    return broker


async def _check(pool: sa_async.AsyncEngine, administrator: connections.Connection, broker: world.Broker) -> None:
    """Assert that the job is done, and that everything is as if the goal had counted from the beginning."""
    assert await administrator.fetchval("SELECT state FROM jobs") == jobs.DONE
    await world.Worker(pool, broker).sweep()
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, MESSAGES)


# --- backfills ---


async def test_a_backfill_killed_at_any_round_trip_is_ended_by_another_process(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await _begin(pool, administrator)
    trips = await crashes.round_trips(job_runs.runner(pool).run_next(jobs.BACKFILL))
    undisturbed = await checks.written(administrator)
    for step, trip in enumerate(trips):
        broker = await _begin(pool, administrator)
        await crashes.crashes(crashes.after(step), job_runs.runner(pool).run_next(jobs.BACKFILL))
        await job_runs.leave_behind(pool)
        await job_runs.runner(pool).run_next(jobs.BACKFILL)
        assert await checks.written(administrator) == undisturbed, f"step {step}: {trip}"
        await _check(pool, administrator, broker)
    assert len(trips) >= 60, "fewer round trips than there are"


async def test_a_backfill_killed_a_little_later_each_time_is_ended(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker, step = await _begin(pool, administrator), 0
    while not await crashes.survives(crashes.after(step), job_runs.runner(pool).run_next(jobs.BACKFILL)):
        await job_runs.leave_behind(pool)
        step += 1
    await _check(pool, administrator, broker)


async def test_a_backfill_whose_connection_is_cut_anywhere_goes_on_with_another_one(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await _begin(pool, administrator)
    trips = await crashes.round_trips(job_runs.runner(pool).run_next(jobs.BACKFILL))
    with stamina.set_testing(True, attempts=9):
        for step in range(len(trips)):
            broker = await _begin(pool, administrator)
            with statements.hooked(crashes.cut(step, administrator)):
                await job_runs.runner(pool).run_next(jobs.BACKFILL)
            await _check(pool, administrator, broker)


async def test_a_process_that_was_frozen_in_a_backfill_doubles_nothing(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    async def played(order: Iterable[str]) -> int:
        broker = await _begin(pool, administrator)
        frozen = job_runs.runner(pool).run_next(jobs.BACKFILL)
        parts = {"frozen": frozen, "other": _taking_over(pool)}
        steps = await statements.take_turns(administrator, parts, order, statements.decisive)
        await _check(pool, administrator, broker)
        return steps["frozen"]

    for step in range(1, await played(["frozen"] * 1_000), 3):
        for of_other in (25, 1_000):
            await played(["frozen"] * step + ["other"] * of_other)


async def _taking_over(pool: sa_async.AsyncEngine) -> None:
    await job_runs.leave_behind(pool)
    await job_runs.runner(pool).run_next(jobs.BACKFILL)


# --- plans ---


async def test_a_plan_killed_at_any_round_trip_says_the_same_afterwards(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    asked: dict[str, Any] = {"goals": [], "delete": [], "logic": "any", "from": SINCE.isoformat(), "sample": None}
    await _begin(pool, administrator)

    async def begin() -> None:
        await administrator.execute("DELETE FROM jobs")
        async with connections.tenant_transaction(pool, KEY[0], "jobs") as connection:
            await jobs.insert(connection, KEY[0], jobs.PLAN, KEY[1], asked, actor="ann")

    await begin()
    trips = await crashes.round_trips(job_runs.runner(pool).run_next(jobs.PLAN))
    undisturbed = await _result(administrator)
    assert undisturbed is not None
    for step in range(len(trips)):
        await begin()
        await crashes.crashes(crashes.after(step), job_runs.runner(pool).run_next(jobs.PLAN))
        await job_runs.leave_behind(pool)
        await job_runs.runner(pool).run_next(jobs.PLAN)
        assert await _result(administrator) == undisturbed, f"step {step}: {trips[step]}"


async def _result(administrator: connections.Connection) -> Any:
    return await administrator.fetchval("SELECT result #- '{coverage,fresh_as_of}' FROM jobs")
