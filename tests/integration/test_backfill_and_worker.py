"""A backfill and a worker on the same contacts miss and double nothing, whatever the order of their steps."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events
from goalworker.domain.goals import Goal
from goalworker.insight import jobs as job_runner
from goalworker.postgres import connections
from goalworker.stores import goal_store, jobs
from tests.integration import checks, crashes, job_runs, kept_events, scenes, statements, world
from tests.integration.scenes import (
    ACTIVATED,
    DEACTIVATED,
    ONE,
    TWO,
    ended,
    failed,
    logic,
    paid,
    purchase,
    refunded,
    started,
    state,
    tagged,
)
from tests.kit import naive_judge, strategies, world_messages, worlds
from tests.kit.strategies import at

pytestmark = pytest.mark.unmeasured

SINCE, MADE = at(-1), at(90)


@dataclass(frozen=True, slots=True)
class Scene:
    """A goal that was made after `before`, and what a worker takes while the goal is backfilled.

    Where history has all of it, the backfill begins meanwhile too: what the worker took before that, only the backfill
    can count. Otherwise it began before the worker.
    """

    meanwhile: tuple[events.Event, ...]
    before: tuple[events.Event, ...] = (started(0), tagged("h", 5))
    goal: Goal = ONE
    others: tuple[Goal, ...] = ()
    logics: naive_judge.Logics | None = None
    history_has_all: bool = True
    tracked: bool = True


BOUGHT, TWICE = purchase(1), purchase(1, times=2, within=60)
PAID = (started(0), paid("h", 5))
SCENES = {
    "an_earlier_hit": Scene((tagged("h1", 4),)),
    "an_earlier_hit_that_history_lacks": Scene((tagged("h1", 4),), history_has_all=False),
    "the_same_hit": Scene((tagged("h", 5),)),
    "the_same_hit_that_is_redelivered": Scene((tagged("h", 5),), history_has_all=False),
    "the_enrollment": Scene((started(0),), (tagged("h", 5),)),
    "an_earlier_end": Scene((ended(4),)),
    "a_deactivation": Scene((state(DEACTIVATED, 4),)),
    "an_activation": Scene((state(ACTIVATED, 7, "a2"),), (started(0), tagged("h", 5), state(DEACTIVATED, 4))),
    "another_goal_of_all": Scene((tagged("h2", 6, "tag-2"),), others=(TWO,), logics=logic("all")),
    "a_reversal": Scene((failed("r", 7),), PAID, BOUGHT),
    "a_reversal_that_history_lacks": Scene((failed("r", 7),), PAID, BOUGHT, history_has_all=False),
    "a_refund": Scene((refunded("r2", 8, "40"),), (*PAID, refunded("r1", 7, "60")), BOUGHT),
    "a_second_occurrence": Scene((paid("h2", 7, "p2"),), PAID, TWICE),
    "untracked": Scene((tagged("h1", 4),), (tagged("h", 5),), tracked=False),
}


@pytest.fixture(autouse=True)
def hearts_are_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "HEARTBEAT_SECONDS", 1_000)


def made_late(goal: Goal) -> Goal:
    """Return a goal as it was made after everything."""
    (version,) = goal.versions
    return structs.replace(goal, created_at=MADE, versions=(structs.replace(version, active_from=MADE),))


class Stage:
    """Database on which scenarios are played one after the other, each on empty tables."""

    def __init__(self, pool: sa_async.AsyncEngine, administrator: connections.Connection) -> None:
        self._pool, self._administrator = pool, administrator

    async def play(self, scene: Scene, order: Iterable[str]) -> dict[str, int]:
        """Play a scenario in an order, and assert that all is as if the goal had been there from the beginning."""
        broker = await self._begin(scene)
        worker = world.Worker(self._pool, broker, tracked=scene.tracked)
        parts = {"worker": worker.take(*scene.meanwhile), "backfill": self._backfill(scene)}
        steps = await statements.take_turns(self._administrator, parts, order, judging)
        await worker.sweep()
        assert await self._administrator.fetchval("SELECT state FROM jobs") == jobs.DONE
        messages, every_goal = [*scene.before, *scene.meanwhile], [scene.goal, *scene.others]
        await checks.assert_lawful(
            self._administrator, broker, every_goal, scene.logics or {}, messages, tracked=scene.tracked
        )
        return steps

    async def _begin(self, scene: Scene) -> world.Broker:
        broker = world.Broker()
        await world.clear(self._administrator)
        await world.install(self._administrator, [made_late(scene.goal), *scene.others], scene.logics)
        await kept_events.cover(self._pool, at(-9))
        await world.Worker(self._pool, broker, tracked=scene.tracked).take(*scene.before)
        await kept_events.keep(self._pool, *scene.before, *(scene.meanwhile if scene.history_has_all else ()))
        if not scene.history_has_all:
            await _ask(self._pool, scene.goal)
        return broker

    async def _backfill(self, scene: Scene) -> None:
        if scene.history_has_all:
            await _ask(self._pool, scene.goal)
        await job_runs.runner(self._pool, tracking=scene.tracked).run_next(jobs.BACKFILL)


async def _ask(pool: sa_async.AsyncEngine, goal: Goal) -> None:
    key = (goal.tenant_id, goal.workflow_id, goal.goal_id)
    await goal_store.begin_backfill(pool, *key, SINCE, exits=True, actor="ann")


def judging(sql: str) -> bool:
    """Step by decisive statements; those of jobs and history concern nobody else."""
    return statements.decisive(sql) and not re.search(r"\bjobs\b|history_", sql)


@pytest.fixture
def stage(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> Stage:
    return Stage(pool, administrator)


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
async def test_any_two_switches_between_a_backfill_and_a_worker_give_the_same_results(
    stage: Stage, scene: Scene
) -> None:
    steps = await stage.play(scene, ())
    assert steps["worker"] >= 2
    assert steps["backfill"] >= 15
    for of_backfill in range(steps["backfill"]):
        for of_worker in (of_backfill % steps["worker"], steps["worker"]):
            await stage.play(scene, ["backfill"] * of_backfill + ["worker"] * of_worker)


# --- whatever the world ---


@world.examples(20)
@given(data=st.data(), seed=st.integers(0, 2**32), tracked=st.booleans())
async def test_any_world_is_lawful_however_its_backfill_and_workers_take_turns_and_crash(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    data: st.DataObject,
    seed: int,
    tracked: bool,
) -> None:
    source = worlds.seeded(seed)
    drawn = world_messages.world(source)
    drawn = drawn if tracked else drawn.untracked()
    goal = structs.replace(scenes.goal(99, "tag-1"), goal_type=drawn.goals[0].goal_type)
    own = worlds.criteria(source, goal.goal_type)
    own = own if tracked else worlds.without_enrollment(own)
    goal = structs.replace(goal, versions=(structs.replace(goal.versions[0], criteria=own),))
    await world.clear(administrator)
    await world.install(administrator, [*drawn.goals, made_late(goal)], drawn.logics)
    await kept_events.cover(pool, at(-9))
    await kept_events.keep(pool, *drawn.messages)
    broker = world.Broker()
    batches = data.draw(strategies.deliveries(drawn.messages))
    order = data.draw(st.lists(st.sampled_from(["worker", "backfill"]), max_size=80))
    killed_at = data.draw(st.lists(st.integers(3, 60), max_size=2))

    async def backfill() -> None:
        await _ask(pool, goal)
        for step in killed_at:
            mortal = job_runs.runner(pool, tracking=tracked)
            await crashes.survives(crashes.after(step), mortal.run_next(jobs.BACKFILL))
            await job_runs.leave_behind(pool)
        await job_runs.runner(pool, tracking=tracked).run_next(jobs.BACKFILL)

    workers = [world.Worker(pool, broker, tracked=tracked) for _ in range(2)]
    await workers[0].take_all(batches[:1])
    parts = {"worker": workers[1].take_all(batches[1:]), "backfill": backfill()}
    await statements.take_turns(administrator, parts, order, judging)
    await workers[0].sweep()
    assert await administrator.fetchval("SELECT state FROM jobs") == jobs.DONE
    await checks.assert_lawful(
        administrator, broker, [*drawn.goals, goal], drawn.logics, drawn.messages, tracked=tracked
    )
