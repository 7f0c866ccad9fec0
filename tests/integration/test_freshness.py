"""Goals change while events arrive: a version applies to every event from its start on, and to none before."""

import asyncio
import random
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events
from goalworker.postgres import connections, tables
from goalworker.stores import goal_store
from tests.integration import checks, crashes, statements, world
from tests.integration.goal_steps import TENANT, WORKFLOW, create, delete, load, update
from tests.kit import naive_judge, support

MICROSECOND = timedelta(microseconds=1)
RUN = (WORKFLOW, "e1", "c1")


def tagged(id_: str, time: datetime, tag_id: str = "t1", contact_id: str = "c1") -> events.Event:
    return events.Event(TENANT, "/crm", id_, "contact.tag.added", time, events.TagAdded(contact_id, tag_id))


def started(time: datetime, enrollment_id: str = "e1", contact_id: str = "c1") -> events.Event:
    data = events.EnrollmentChanged(WORKFLOW, enrollment_id, contact_id)
    return events.Event(TENANT, "/engine", f"s-{enrollment_id}", events.ENROLLMENT_STARTED, time, data)


async def hits(administrator: connections.Connection) -> list[tuple[str, UUID, int]]:
    rows = await administrator.fetch("SELECT event_id, goal_id, goal_version FROM goal_hits ORDER BY event_id, goal_id")
    return [tuple(row) for row in rows]


# --- the moment ---


async def test_each_version_counts_from_its_start_to_the_microsecond(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    worker = world.Worker(pool, world.Broker())
    goal = await create(pool, "t1")
    renamed = await update(pool, goal, criteria={"tag_id": "t2"})
    paused = await update(pool, goal, is_active=False)
    resumed = await update(pool, goal, is_active=True)
    deleted = await delete(pool, goal)
    moments = [goal.created_at, renamed.updated_at, paused.updated_at, resumed.updated_at, deleted.updated_at]
    for number, moment in enumerate(moments):
        times = {"before": moment - MICROSECOND, "from": moment}
        await worker.take(
            *(tagged(f"{number}-{name}-{tag}", time, tag) for name, time in times.items() for tag in ("t1", "t2"))
        )
    assert await hits(administrator) == [
        ("0-from-t1", goal.id, 1),
        ("1-before-t1", goal.id, 1),
        ("1-from-t2", goal.id, 2),
        ("2-before-t2", goal.id, 2),
        ("3-from-t2", goal.id, 4),
        ("4-before-t2", goal.id, 4),
    ]


async def test_a_batch_decoded_before_a_goal_was_created_is_matched_again(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    worker = world.Worker(pool, world.Broker())
    other = await create(pool, "t2")
    await worker.take(tagged("other", other.created_at, "t2"))
    goal = await create(pool)
    batch = world.batch_of([tagged("h", goal.created_at)], worker.goal_index)
    assert batch.hits == []
    await world.through(worker.phases, batch)
    assert await hits(administrator) == [("h", goal.id, 1), ("other", other.id, 1)]


# --- two phases, two locks ---


class Pause:
    """Hook that waits before the first statement that contains a text, after skipping some of them."""

    def __init__(self, words: str, skip: int = 0) -> None:
        self._words, self._skip = words, skip
        self.reached, self.over = asyncio.Event(), asyncio.Event()

    async def hook(self, statement: statements.Statement) -> Any:
        if self._words in statement.sql:
            self._skip -= 1
            if self._skip == -1:
                self.reached.set()
                await self.over.wait()
        return await statement.run()

    async def run(self, part: Awaitable[Any]) -> Any:
        with statements.hooked(self.hook):
            return await part


async def test_an_event_waits_for_a_goal_that_is_being_written(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    await worker.take(started(await _now(pool)))
    before_its_commit = Pause("COMMIT")
    async with asyncio.TaskGroup() as tasks:
        creating = tasks.create_task(before_its_commit.run(create(pool)))
        await before_its_commit.reached.wait()
        tasks.create_task(worker.take(tagged("h", await _now(pool))))
        await statements.until_blocked(administrator)
        before_its_commit.over.set()
    assert await hits(administrator) == [("h", creating.result().id, 1)]
    assert len(checks.latest_achievements(broker)) == 1


async def test_a_new_goal_waits_for_facts_that_are_being_recorded(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    worker = world.Worker(pool, world.Broker())
    await worker.take(started(await _now(pool)))
    before_its_commit = Pause("COMMIT")
    async with asyncio.TaskGroup() as tasks:
        taking = tasks.create_task(before_its_commit.run(worker.take(tagged("h", await _now(pool)))))
        await before_its_commit.reached.wait()
        creating = tasks.create_task(create(pool))
        await statements.until_blocked(administrator)
        recorded = await _now(pool)
        before_its_commit.over.set()
    assert taking.result().hits == []
    assert creating.result().created_at > recorded


async def test_a_judgement_loads_goals_that_are_newer_than_its_facts(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    late, other = world.Worker(pool, broker), world.Worker(pool, broker)
    await goal_store.set_logic(pool, TENANT, WORKFLOW, "never", actor="ann")
    first = await create(pool, "t1")
    messages = [started(first.created_at), tagged("h1", first.created_at)]
    before_it_judges = Pause("BEGIN", skip=1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(before_it_judges.run(late.take(*messages)))
        await before_it_judges.reached.wait()
        second = await create(pool, "t2")
        messages.append(tagged("h2", second.created_at, "t2"))
        await other.take(messages[-1])
        before_it_judges.over.set()
    await _assert_lawful(pool, administrator, broker, messages)


async def test_a_judgement_loads_goals_created_after_its_lock(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    last, other = world.Worker(pool, broker), world.Worker(pool, broker)
    await goal_store.set_logic(pool, TENANT, WORKFLOW, "never", actor="ann")
    first = await create(pool, "t1")
    messages = [started(first.created_at), tagged("h1", first.created_at)]
    before_its_hits = Pause("JOIN goal_hits")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(before_its_hits.run(last.take(*messages)))
        await before_its_hits.reached.wait()
        second = await create(pool, "t2")
        messages.append(tagged("h2", second.created_at, "t2"))
        await crashes.crashes(crashes.after_facts(), other.take(messages[-1]))
        before_its_hits.over.set()
    await _assert_lawful(pool, administrator, broker, messages)


async def _assert_lawful(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    broker: world.Broker,
    messages: list[events.Event],
) -> None:
    """Assert the laws as if every goal and logic had been known from the beginning."""
    await administrator.execute("DELETE FROM outbox WHERE topic = 'goal_configured'")
    known = await load(pool)
    workflow = known.workflow(TENANT, WORKFLOW)
    logics = {(TENANT, WORKFLOW): workflow.logics}
    await checks.assert_lawful(administrator, broker, workflow.goals, logics, messages)


# --- everything at once ---


async def test_concurrent_events_and_goal_changes_count_by_their_times(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    chance = random.Random(7)
    began = await _now(pool)
    messages = [started(began, f"e{number}", f"c{number}") for number in range(8)]
    await world.Worker(pool, broker).take(*messages)
    await goal_store.set_logic(pool, TENANT, WORKFLOW, "never", actor="ann")
    changing = asyncio.create_task(_change(pool, chance, messages))

    async def work(worker: world.Worker, name: str) -> None:
        number = 0
        while not changing.done():
            batch = [
                await _happened(pool, chance, f"{name}-{number}-{event}") for event in range(chance.randrange(1, 6))
            ]
            messages.extend(batch)
            await worker.take(*batch)
            number += 1

    async with asyncio.TaskGroup() as tasks:
        for name in "abc":
            tasks.create_task(work(world.Worker(pool, broker), name))
    await changing
    known = (await load(pool)).workflow(TENANT, WORKFLOW).goals
    expected = {
        (event.id, goal.goal_id, version.number)
        for event in messages
        for goal in known
        if naive_judge.hits(event, goal) and (version := naive_judge.in_force(goal, event.time))
    }
    assert set(await hits(administrator)) == expected
    await _assert_lawful(pool, administrator, broker, messages)


async def _happened(pool: sa_async.AsyncEngine, chance: random.Random, id_: str) -> events.Event:
    return tagged(id_, await _now(pool), f"t{chance.randrange(3)}", f"c{chance.randrange(8)}")


async def _now(pool: sa_async.AsyncEngine) -> datetime:
    """Return the time of the clock that goals use."""
    async with pool.connect() as connection:
        moment: datetime = (await connection.execute(sa.text("SELECT clock_timestamp()"))).scalar_one()
    return moment


async def _change(pool: sa_async.AsyncEngine, chance: random.Random, messages: list[events.Event]) -> None:
    """Create three goals, change, pause and resume them, and delete one, while messages arrive."""

    async def more() -> None:
        enough = len(messages) + chance.randrange(5, 20)
        await support.until(lambda: len(messages) >= enough)

    live = [await create(pool, f"t{number}") for number in range(3)]
    for round_ in range(12):
        await more()
        goal = chance.choice(live)
        if round_ % 4 == 0:
            await update(pool, goal, criteria={"tag_id": f"t{chance.randrange(3)}", "tag_name": f"r{round_}"})
        else:
            await update(pool, goal, is_active=bool(round_ % 2))
    await delete(pool, live[0])
    await more()


async def test_two_batches_of_a_worker_load_goals_one_after_the_other(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await create(pool, "t1")
    worker = world.Worker(pool, world.Broker())
    loading: list[int] = [0]
    at_once = 0

    async def hook(statement: statements.Statement) -> Any:
        nonlocal at_once
        at_once += 1
        loading.append(at_once)
        for _ in range(20):  # lets the other task run as far as it can
            await asyncio.sleep(0)
        answer = await statement.run()
        at_once -= 1
        return answer

    async with (
        connections.transaction(pool, tables.WORKER_ROLE, "facts") as one,
        connections.transaction(pool, tables.WORKER_ROLE, "judge") as other,
    ):
        with statements.hooked(hook):
            await asyncio.gather(worker.phases.refresh(one), worker.phases.refresh(other))
    assert max(loading) == 1
    assert worker.goal_index.revision == 1
