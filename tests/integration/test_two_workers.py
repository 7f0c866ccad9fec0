"""Two workers on the same contacts miss and double nothing, whatever the order of their steps."""

import asyncio
import itertools
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events
from goalworker.domain.goals import Goal
from goalworker.pipeline import fact_reading
from goalworker.postgres import connections, tables
from tests.integration import checks, crashes, scenes, statements, world
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
from tests.kit import naive_judge, strategies

pytestmark = pytest.mark.unmeasured


@dataclass(frozen=True, slots=True)
class Scene:
    a: tuple[events.Event, ...]
    b: tuple[events.Event, ...]
    before: tuple[events.Event, ...] = ()
    logics: naive_judge.Logics | None = None
    tracked: bool = True
    goals: tuple[Goal, ...] = (ONE, TWO)


BOUGHT = (purchase(1),)
TWICE = (purchase(1, times=2, within=60),)


SCENES = {
    "hit_and_enrollment": Scene((tagged("h", 5),), (started(0),)),
    "two_hits_of_one_goal": Scene((tagged("h2", 6),), (tagged("h1", 5),), (started(0),)),
    "two_goals_of_all": Scene((tagged("h1", 5),), (tagged("h2", 6, "tag-2"),), (started(0),), logic("all")),
    "hit_and_earlier_end": Scene((tagged("h", 5),), (ended(4),), (started(0),)),
    "hit_and_deactivation": Scene((tagged("h", 5),), (state(DEACTIVATED, 4),), (started(0),)),
    "hit_and_activation": Scene((tagged("h", 5),), (state(ACTIVATED, 7, "a2"),), (started(0), state(DEACTIVATED, 4))),
    "enrollment_and_activation": Scene(
        (started(0),), (state(ACTIVATED, 7, "a2"),), (tagged("h", 5), state(DEACTIVATED, 4))
    ),
    "hit_and_reversal": Scene((paid("h", 5),), (failed("r", 7),), (started(0),), goals=BOUGHT),
    "enrollment_and_reversal": Scene((started(0),), (failed("r", 7),), (paid("h", 5),), goals=BOUGHT),
    "two_refunds": Scene(
        (refunded("r1", 7, "60"),), (refunded("r2", 8, "40"),), (started(0), paid("h", 5)), goals=BOUGHT
    ),
    "two_occurrences": Scene((paid("h1", 5),), (paid("h2", 7, "p2"),), (started(0),), goals=TWICE),
    "two_starts": Scene((started(0), tagged("h1", 2)), (started(3, "s2"), tagged("h2", 5))),
    "the_same_batch": Scene((started(0), tagged("h", 5)), (started(0), tagged("h", 5))),
    "untracked": Scene((tagged("h2", 6),), (tagged("h1", 5),), tracked=False),
    "untracked_hit_and_reversal": Scene((paid("h", 5),), (failed("r", 7),), tracked=False, goals=BOUGHT),
}


class Stage:
    """Database on which scenarios are played one after the other, each on empty tables."""

    def __init__(self, pool: sa_async.AsyncEngine, administrator: connections.Connection) -> None:
        self._pool, self._administrator = pool, administrator

    async def play(
        self, scene: Scene, order: Iterable[str], gates: statements.Gates, b_ends: statements.Hook | None = None
    ) -> dict[str, int]:
        """Play a scenario in an order, with a hook that may crash worker b, and assert that the results are lawful."""
        broker = world.Broker()
        await world.clear(self._administrator)
        await world.install(self._administrator, scene.goals, scene.logics)
        a, b = (world.Worker(self._pool, broker, tracked=scene.tracked) for _ in range(2))
        await a.take(*scene.before)
        b_works = b.take(*scene.b)
        parts = {"a": a.take(*scene.a), "b": b_works if b_ends is None else crashes.crashes(b_ends, b_works)}
        steps = await statements.take_turns(self._administrator, parts, order, gates)
        messages = [*scene.before, *scene.a, *scene.b]
        await checks.assert_lawful(
            self._administrator, broker, scene.goals, scene.logics or {}, messages, tracked=scene.tracked
        )
        return steps


@pytest.fixture
def stage(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> Stage:
    return Stage(pool, administrator)


every_scene = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())


@every_scene
async def test_every_order_of_two_workers_transactions_gives_the_same_results(stage: Stage, scene: Scene) -> None:
    steps = await stage.play(scene, (), statements.transactions)
    assert steps["a"] >= 2
    both = sum(steps.values())
    for places_of_a in itertools.combinations(range(both), steps["a"]):
        order = ["a" if place in places_of_a else "b" for place in range(both)]
        await stage.play(scene, order, statements.transactions)


@every_scene
async def test_any_two_switches_between_two_workers_give_the_same_results(stage: Stage, scene: Scene) -> None:
    steps = await stage.play(scene, (), statements.decisive)
    assert steps["a"] >= 6
    for of_a, of_b in itertools.product(range(steps["a"]), range(0, steps["b"] + 1, 2)):
        await stage.play(scene, ["a"] * of_a + ["b"] * of_b, statements.decisive)


@pytest.mark.parametrize("name", ["hit_and_reversal", "enrollment_and_reversal", "two_refunds"])
async def test_reversals_that_are_read_after_the_hits_are_missed_by_nobody(
    stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fact_reading, "REVERSALS_MAX", 0)
    steps = await stage.play(SCENES[name], (), statements.decisive)
    for of_a, of_b in itertools.product(range(steps["a"]), range(steps["b"] + 1)):
        await stage.play(SCENES[name], ["a"] * of_a + ["b"] * of_b, statements.decisive)


# --- the last judgement sees every committed fact ---


def locks(sql: str) -> bool:
    return sql.startswith("BEGIN") or "FOR UPDATE" in sql


@pytest.mark.parametrize("name", [name for name in SCENES if name != "hit_and_deactivation"])  # judged by nobody
async def test_a_judgement_sees_facts_of_a_worker_that_crashed_before_judging(stage: Stage, name: str) -> None:
    scene = SCENES[name]
    facts_and_until_it_locks = ["a", "a"]
    await stage.play(scene, [*facts_and_until_it_locks, "b"], locks, b_ends=crashes.after_facts())


async def test_a_judgement_sees_facts_recorded_while_it_waited_for_its_lock(stage: Stage) -> None:
    scene = Scene((tagged("h2", 6),), (ended(20), tagged("h1", 5)), (started(0),))
    up_to_the_commit, locking = ["b"] * 4, ["a"] * 5
    await stage.play(scene, [*up_to_the_commit, *locking, "b"], statements.decisive, b_ends=crashes.after_facts())


# --- whatever the world ---


@world.examples(25)
@given(data=st.data(), drawn=strategies.worlds(), tracked=st.booleans(), reversals_max=st.sampled_from((0, 100)))
async def test_two_workers_in_any_order_of_statements_are_lawful(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    data: st.DataObject,
    drawn: strategies.World,
    tracked: bool,
    reversals_max: int,
) -> None:
    drawn = drawn if tracked else drawn.untracked()
    await world.clear(administrator)
    await world.install(administrator, drawn.goals, drawn.logics)
    broker = world.Broker()
    shares: dict[str, list[list[events.Event]]] = {"a": [], "b": []}
    for batch in data.draw(strategies.deliveries(drawn.messages)):
        shares[data.draw(st.sampled_from("ab"))].append(batch)
    order = data.draw(st.lists(st.sampled_from("ab"), max_size=80))  # before coroutines that a draw might abandon
    parts = {name: world.Worker(pool, broker, tracked=tracked).take_all(share) for name, share in shares.items()}
    with mock.patch.object(fact_reading, "REVERSALS_MAX", reversals_max):
        await statements.take_turns(administrator, parts, order, statements.decisive)
    await checks.assert_lawful(administrator, broker, drawn.goals, drawn.logics, drawn.messages, tracked=tracked)


# --- deadlocks ---


async def test_many_workers_on_the_same_keys_never_deadlock(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    chance = random.Random(1)
    runs = [(f"w{chance.randrange(5)}", f"e{number}", f"c{number}") for number in range(200)]
    goals = [scenes.goal(number, "tag-1", f"w{number}") for number in range(5)]
    hits = [tagged(f"h-{run[1]}", 5, contact_id=run[2]) for run in runs]
    lifecycle = [
        *(started(0, f"s-{run[1]}", run) for run in runs),
        *(ended(9, f"x-{run[1]}", run) for run in runs),
        *(state(DEACTIVATED, 20 + number, f"a-{number}", f"w{number}") for number in range(5)),
    ]
    await world.install(administrator, goals)
    broker = world.Broker()
    workers = [world.Worker(pool, broker) for _ in range(5)]
    # Nothing is retried here, so an error such as a deadlock fails the test.
    for messages in (hits, lifecycle, [*hits, *lifecycle], hits):
        await asyncio.gather(*(worker.take(*chance.sample(messages, len(messages))) for worker in workers))
    await checks.assert_lawful(administrator, broker, goals, {}, [*hits, *lifecycle])


async def test_rows_are_written_in_the_order_of_their_keys(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    """Statements that lock the same rows in different orders deadlock only by chance, so test the order itself."""
    goals = [scenes.goal(number, "tag-1", f"w{number}") for number in range(4)]
    runs = [(f"w{number % 4}", f"e{number}", f"c{number}") for number in range(40)]
    messages = [
        *(started(0, f"s-{run[1]}", run) for run in runs),
        *(tagged(f"h-{run[1]}", 5, contact_id=run[2]) for run in runs),
        *(state(DEACTIVATED, 40 - number, f"a-{number}", f"w{number % 4}") for number in range(20)),
    ]
    await world.install(administrator, goals)
    written: dict[str, list[tuple[object, ...]]] = {}

    async def hook(statement: statements.Statement) -> object:
        for table, number in re.findall(r"INSERT INTO (\w+).*?unnest\(\$(\d+)", statement.sql, re.DOTALL):
            first, key = int(number) - 1, len(tables.metadata.tables[table].primary_key)
            written[table] = list(zip(*cast("list[list[object]]", statement.args[first : first + key]), strict=True))
        texts = [str(argument).split("\x1f") for argument in statement.args]
        uuids = [str(argument).strip("{}").split(",") for argument in statement.args]
        if "INSERT INTO goal_hits" in statement.sql:
            written["goal_hits"] = list(zip(*texts[:3], uuids[6], *texts[3:5], strict=True))
        if "WITH judged" in statement.sql:
            written["exits"] = list(zip(*texts[:2], strict=True))
            written["achievements"] = list(zip(*texts[10:12], uuids[18], strict=True))
        return await statement.run()

    random.Random(1).shuffle(messages)
    with statements.hooked(hook):
        await world.Worker(pool, world.Broker()).take(*messages)
    assert [len(written[name]) for name in ("goal_hits", "achievements", "exits")] == [160, 40, 40]
    assert written.keys() == {"enrollments", "goal_hits", "workflow_states", "achievements", "exits"}
    assert {name: sorted(rows) for name, rows in written.items()} == written
