"""Backfills on a real database: what judging gives where the goal counted earlier, however often they are killed."""

import asyncio
import time
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import criteria, goals
from goalworker.insight import backfills
from goalworker.postgres import connections
from goalworker.stores import goal_store, jobs
from tests.integration import checks, job_runs, kept_events, scenes, world
from tests.integration.scenes import ended, paid, started, tagged
from tests.kit import naive_judge, world_messages, worlds
from tests.kit.strategies import at

KEY = ("north", "w1")
EARLY = at(-5)
TAG = {"goal_type": "tag_added", "criteria": {"tag_id": "tag-1"}}
PAID_50 = {"goal_type": "purchase_made", "criteria": {"min_amount": "50", "currency": "EUR"}}


async def create(
    pool: sa_async.AsyncEngine, draft: dict[str, Any] = TAG, key: tuple[str, str] = KEY
) -> goal_store.StoredGoal:
    parsed = goal_store.parse_draft(draft)
    return await goal_store.create(pool, *key, parsed, actor="ann", maximum=9)


async def begin(
    pool: sa_async.AsyncEngine,
    goal: goal_store.StoredGoal,
    since: datetime = EARLY,
    *,
    exits: bool = False,
    tenant_id: str = "north",
) -> UUID:
    return await goal_store.begin_backfill(pool, tenant_id, goal.workflow_id, goal.id, since, exits=exits, actor="ann")


async def status(pool: sa_async.AsyncEngine, job_id: UUID, key: tuple[str, str] = KEY) -> jobs.Status:
    async with connections.tenant_transaction(pool, key[0], "jobs") as connection:
        return await jobs.find(connection, jobs.JobKey(key[0], jobs.BACKFILL, key[1], job_id))


async def backfill(pool: sa_async.AsyncEngine, goal: goal_store.StoredGoal, **options: Any) -> dict[str, Any]:
    """Run a backfill to its end, and return its result."""
    job_id = await begin(pool, goal, **options)
    assert await job_runs.runner(pool).run_next(jobs.BACKFILL)
    ended_ = await status(pool, job_id, (options.get("tenant_id", "north"), goal.workflow_id))
    assert ended_.result is not None, ended_.error
    return ended_.result


async def live(pool: sa_async.AsyncEngine, broker: world.Broker, *messages: Any) -> None:
    """Let the worker and the history take messages."""
    await world.Worker(pool, broker).take(*messages)
    await kept_events.keep(pool, *messages)


async def sent(pool: sa_async.AsyncEngine, broker: world.Broker) -> list[str]:
    """Return the types of the messages sent, after the worker's sweep."""
    await world.Worker(pool, broker).sweep()
    return [message["type"] for message in checks.messages(broker)]


async def achieved(administrator: connections.Connection, key: tuple[str, str] = KEY) -> dict[tuple[str, UUID], Any]:
    rows = await administrator.fetch(
        "SELECT enrollment_id, goal_id, achieved_at FROM achievements"
        " WHERE tenant_id = $1 AND workflow_id = $2 AND revoked_at IS NULL",
        *key,
    )
    return {(row[0], row[1]): row[2] for row in rows}


# --- achievements and exits ---


async def test_a_goal_counts_what_happened_before_it_and_the_exit_is_withheld(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    await kept_events.cover(pool, at(-9))
    await live(pool, broker, started(0), tagged("t1", 2))
    goal = await create(pool)
    result = await backfill(pool, goal)
    assert result == {"contacts": 1, "hits": 1, "achieved": 1, "exits": 0}
    assert await achieved(administrator) == {("e1", goal.id): at(2)}
    row = await administrator.fetchrow("SELECT satisfied_at, exited_at, exit_withheld FROM enrollments")
    assert tuple(row) == (at(2), None, True)
    assert await sent(pool, broker) == ["workflow.goal.configured", "workflow.goal.achieved"]


async def test_an_exit_that_was_withheld_is_sent_once_exits_are_wanted(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    await kept_events.cover(pool, at(-9))
    await live(pool, broker, started(0), tagged("t1", 2))
    goal = await create(pool)
    await backfill(pool, goal)
    for exits in (1, 0):
        assert (await backfill(pool, goal, exits=True))["exits"] == exits
    assert (await sent(pool, broker)).count("workflow.exit.goal") == 1
    assert not await administrator.fetchval("SELECT exit_withheld FROM enrollments")


async def test_the_worker_withholds_the_exit_of_a_late_event_of_that_time_too(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    await kept_events.cover(pool, at(-9))
    await live(pool, broker, started(0))
    await backfill(pool, await create(pool))
    await live(pool, broker, tagged("late", 3))
    assert await administrator.fetchval("SELECT exit_withheld FROM enrollments")
    assert "workflow.exit.goal" not in await sent(pool, broker)


async def test_what_happens_after_a_backfill_exits_at_once(pool: sa_async.AsyncEngine) -> None:
    broker = world.Broker()
    await kept_events.cover(pool, at(-9))
    await live(pool, broker, started(0))
    await backfill(pool, await create(pool))
    now = await connections.now(pool)
    await live(pool, broker, tagged("new", now))
    assert "workflow.exit.goal" in await sent(pool, broker)


async def test_a_goal_of_all_takes_satisfaction_back_and_withholds_the_exit(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    await world.install(administrator, [scenes.TWO], scenes.logic("all"))
    await kept_events.cover(pool, at(-9))
    runs = [started(0, f"s{n}", ("w1", f"e{n}", f"c{n}")) for n in (1, 2)]
    tags = [tagged("t1", 2), *[tagged(f"two-{n}", 3, "tag-2", f"c{n}") for n in (1, 2)]]
    await live(pool, broker, *runs, ended(5, run=("w1", "e2", "c2")), *tags)
    await backfill(pool, await create(pool))
    rows = await administrator.fetch("SELECT enrollment_id, satisfied_at FROM enrollments ORDER BY 1")
    assert [tuple(row) for row in rows] == [("e1", at(3)), ("e2", None)]


async def test_a_backfill_of_what_the_worker_counted_adds_nothing(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    await world.install(administrator, [scenes.ONE])
    await kept_events.cover(pool, at(-9))
    await live(pool, broker, started(0), tagged("t1", 2), tagged("t2", 3, contact_id="c2"))
    before = await checks.written(administrator)
    goal = (await goal_store.list_goals(pool, "north", "w1")).goals[0]
    for exits in (False, True):
        assert await backfill(pool, goal, since=at(0), exits=exits) == {
            "contacts": 2,
            "hits": 2,
            "achieved": 0,
            "exits": 0,
        }
        assert await checks.written(administrator) == before


async def test_without_tracking_a_kept_contact_is_enrolled_by_its_hit(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await kept_events.cover(pool, at(-9))
    await kept_events.keep(pool, tagged("t1", 2))
    goal = await create(pool)
    await begin(pool, goal)
    assert await job_runs.runner(pool, tracking=False).run_next(jobs.BACKFILL)
    assert [key[1] for key in await achieved(administrator)] == [goal.id]


@world.examples(12)
@given(seed=st.integers(0, 2**32), since=st.integers(-5, worlds.TICKS))
async def test_a_backfill_gives_what_judging_gives_where_the_goal_counted_since(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, seed: int, since: int
) -> None:
    await world.clear(administrator)
    source = worlds.seeded(seed)
    drawn = world_messages.world(source)
    key, goal_type = (drawn.goals[0].tenant_id, drawn.goals[0].workflow_id), drawn.goals[0].goal_type
    own = worlds.criteria(source, goal_type)
    await world.install(administrator, drawn.goals, drawn.logics)
    await kept_events.cover(pool, at(-9))
    await live(pool, world.Broker(), *drawn.messages)
    draft = goal_store.Draft(goal_type, own)
    try:
        goal = await goal_store.create(pool, *key, draft, actor="ann", maximum=9)
    except goal_store.DuplicateGoalError:
        return
    await backfill(pool, goal, since=at(since), exits=source.chance(50), tenant_id=key[0])
    version = goals.GoalVersion(1, own, True, at(since))
    new = goals.Goal(key[0], goal.id, key[1], goal_type, goal.created_at, (version,))
    judged = naive_judge.everything((*drawn.goals, new), drawn.logics, drawn.messages)
    assert await achieved(administrator, key) == {
        (enrolled.enrollment_id, goal_id): one.at.time
        for enrolled, answer in judged.items()
        if (enrolled.tenant_id, enrolled.workflow_id) == key
        for goal_id, one in answer.achieved.items()
    }


# --- interruptions ---


async def _prepared(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> UUID:
    await world.clear(administrator)
    await kept_events.cover(pool, at(-9))
    runs = [started(0, f"s{n}", ("w1", f"e{n}", f"c{n}")) for n in range(3)]
    await live(pool, world.Broker(), *runs, *[tagged(f"t{n}", 2, contact_id=f"c{n}") for n in range(3)])
    goal_id = UUID(int=77)
    version = goals.GoalVersion(1, criteria.Criteria(tag_id="tag-1"), True, at(90))
    await world.install(administrator, [goals.Goal(*KEY[:1], goal_id, KEY[1], "tag_added", at(90), (version,))])
    await goal_store.begin_backfill(pool, *KEY, goal_id, at(-5), exits=True, actor="ann")
    return goal_id


async def test_a_cancelled_backfill_is_resumed_by_asking_again(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfills, "SLICE_CONTACTS", 1)
    goal_id = await _prepared(pool, administrator)

    async def cancel() -> int:
        await administrator.execute("UPDATE jobs SET cancel_requested = true")
        return 0

    await job_runs.runner(pool, lag=cancel).run_next(jobs.BACKFILL)
    assert len(await achieved(administrator)) == 1
    await goal_store.begin_backfill(pool, *KEY, goal_id, at(-5), exits=True, actor="ann")
    await job_runs.runner(pool).run_next(jobs.BACKFILL)
    assert len(await achieved(administrator)) == 3


async def test_a_backfill_waits_while_the_worker_lags(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfills, "WAIT_SECONDS", 0.001)
    await _prepared(pool, administrator)
    lags = iter([5_000, 1_001, *[1_000] * 9])

    async def lag() -> int:
        now = next(lags)
        assert now == 5_000 or await achieved(administrator) == {} or now <= backfills.LAG_MAX
        return now

    await job_runs.runner(pool, lag=lag).run_next(jobs.BACKFILL)
    assert len(await achieved(administrator)) == 3


async def test_a_backfill_rests_after_each_slice_as_long_as_it_took() -> None:
    async def lag() -> int:
        return 0

    began = time.monotonic()
    async with backfills._yielding(lag):
        await asyncio.sleep(0.02)
        took = time.monotonic() - began
    assert time.monotonic() - began >= 1.9 * took


# --- refusals ---


async def test_a_backfill_that_would_not_be_whole_is_refused(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    goal = await create(pool)

    async def refused(since: datetime, reason: str) -> None:
        with pytest.raises(goal_store.BackfillRefusedError, match=reason):
            await begin(pool, goal, since)

    await refused(at(0), "No events are kept here")
    await kept_events.cover(pool, at(-9))
    await refused(at(-10), "History reaches back to 2026-01-01T11:59:50Z only")
    await refused(goal.created_at + timedelta(days=900), "in the future")
    first = await begin(pool, goal)
    await refused(at(0), f"Backfill {first} of this goal has not ended")
    await administrator.execute("UPDATE jobs SET state = 'done'")
    await goal_store.update(pool, "north", goal.id, {"name": "new"}, actor="bob")
    await refused(at(0), "The goal was changed at")
    with pytest.raises(goal_store.GoalNotFoundError):
        await begin(pool, goal, tenant_id="south")


async def test_a_backfill_is_an_entry_of_the_goals_audit(pool: sa_async.AsyncEngine) -> None:
    await kept_events.cover(pool, at(-9))
    goal = await create(pool)
    await begin(pool, goal, at(-5), exits=True)
    entry = (await goal_store.get_audit(pool, "north", goal.id))[-1]
    assert (entry.action, entry.actor, entry.version, entry.before) == ("backfilled", "ann", 1, None)
    assert entry.after == {"from": at(-5).isoformat(), "exits": True}


async def test_a_paid_total_counts_payments_of_before_and_after(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    await kept_events.cover(pool, at(-9))
    now = await connections.now(pool)
    draft = {"goal_type": "purchase_made", "criteria": {"total_amount": "100", "currency": "EUR", "within": "P365D"}}
    await live(pool, broker, started(now - timedelta(days=9)), paid("a", now - timedelta(days=2), "p1", "60"))
    goal = await create(pool, draft)
    assert (await backfill(pool, goal, since=now - timedelta(days=5)))["achieved"] == 0
    await live(pool, broker, paid("b", await connections.now(pool), "p2", "50"))
    assert [key[1] for key in await achieved(administrator)] == [goal.id]
    assert "workflow.exit.goal" in await sent(pool, broker)
