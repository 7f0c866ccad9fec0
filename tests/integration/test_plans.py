"""Plans on a real database: the achievements that judging gives, over the events that are kept when the plan begins."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import criteria, goals
from goalworker.insight import plans
from goalworker.pipeline import fact_reading
from goalworker.postgres import connections
from goalworker.stores import jobs
from tests.integration import job_runs, kept_events, scenes, world
from tests.integration.scenes import failed, paid, started, tagged
from tests.kit import naive_judge, world_messages, worlds
from tests.kit.strategies import at

KEY = ("north", "w1")
NOTHING: dict[str, Any] = {"goals": [], "delete": [], "logic": None, "from": None, "sample": None}
PAID_50 = {"goal_type": "purchase_made", "criteria": {"min_amount": "50", "currency": "EUR"}}


async def plan(
    pool: sa_async.AsyncEngine, *, tracking: bool = True, key: Any = KEY, since: datetime | None = None, **asked: Any
) -> dict[str, Any]:
    """Run a plan to its end, and return its result."""
    asked["from"] = None if since is None else since.isoformat()
    async with connections.tenant_transaction(pool, key[0], "jobs") as connection:
        job_id = await jobs.insert(connection, key[0], jobs.PLAN, key[1], {**NOTHING, **asked}, actor="ann")
    assert await job_runs.runner(pool, tracking=tracking).run_next(jobs.PLAN)
    async with connections.tenant_transaction(pool, key[0], "jobs") as connection:
        status = await jobs.find(connection, jobs.JobKey(key[0], jobs.PLAN, key[1], job_id))
    assert status.result is not None, status.error
    assert status.progress.done == status.progress.of == status.result["enrollments"]
    return status.result


def compared(both: int = 0, only_planned: int = 0, only_live: int = 0, earlier: int = 0, later: int = 0) -> Any:
    return dict(zip(("both", "only_planned", "only_live", "earlier", "later"), locals().values(), strict=True))


async def live(pool: sa_async.AsyncEngine, *messages: Any) -> None:
    """Let the worker and the history take messages."""
    await world.Worker(pool, world.Broker()).take(*messages)
    await kept_events.keep(pool, *messages)


async def test_a_new_goal_is_judged_over_the_kept_events(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [scenes.ONE])
    await kept_events.cover(pool, at(0))
    runs = [started(0, f"s{number}", ("w1", f"e{number}", f"c{number}")) for number in range(4)]
    payments = [paid(f"p{number}", 2, f"p{number}", f"{48 + number}", f"c{number}") for number in range(4)]
    await live(pool, *runs, *payments, tagged("t1", 3, contact_id="c3"))
    result = await plan(pool, goals=[PAID_50])
    (of_new,) = [of_goal for of_goal in result["per_goal"] if of_goal.get("index") == 0]
    assert (of_new["would_achieve"], of_new["more"], of_new["only_by_this"], of_new["matched_events"]) == (2, 2, 1, 2)
    assert of_new["near_misses"] == [
        {"pointer": "/min_amount", "count": 2, "example": {"actual": "49", "contact_ids": ["c1"]}}
    ]
    assert result["compared"] == compared(only_planned=2, only_live=1)  # the payment stops the walk before the tag
    assert (result["enrollments"], result["events"], result["would_exit"], result["sampled"]) == (4, 5, 2, None)
    assert result["revenue"] == {"EUR": {"gross": "101", "reversed": "0", "net": "101"}}
    assert result["coverage"]["complete"]


async def test_achievements_from_before_history_began_stay(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [scenes.ONE])
    await world.Worker(pool, world.Broker()).take(started(0), tagged("t1", 1))
    await kept_events.cover(pool, at(5))
    await kept_events.keep(pool, paid("p1", 6, amount="70"))
    await administrator.execute("DELETE FROM goal_hits")
    result = await plan(pool, goals=[PAID_50])
    assert result["compared"] == compared(both=1)
    assert result["events"] == 1
    assert result["coverage"]["complete"]
    assert not (await plan(pool, since=at(0)))["coverage"]["complete"]


async def test_a_plan_knows_what_reversals_of_a_contact_with_very_many_undo(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fact_reading, "REVERSALS_MAX", 0)
    await world.install(administrator, [scenes.ONE])
    await kept_events.cover(pool, at(0))
    await live(pool, started(0), paid("p1", 1, amount="70"))
    assert (await plan(pool, goals=[PAID_50]))["compared"] == compared(only_planned=1)
    await world.Worker(pool, world.Broker()).take(failed("r1", 2))  # history does not keep it
    assert (await plan(pool, goals=[PAID_50]))["compared"] == compared()


async def test_a_plan_is_not_complete_while_history_is_behind(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [scenes.ONE])
    await world.Worker(pool, world.Broker()).take(started(0), paid("p1", 1, amount="70"))
    await kept_events.cover(pool, at(0))
    assert (await plan(pool, goals=[PAID_50]))["coverage"]["history_until"] is None
    hour_ago = await administrator.fetchval("SELECT date_trunc('second', clock_timestamp() - interval '1 hour')")
    for until in (hour_ago, None):
        await administrator.execute("UPDATE history_positions SET history_until = $1", until)
        coverage = (await plan(pool, goals=[PAID_50]))["coverage"]
        assert datetime.fromisoformat(coverage["history_until"]) == (until or at(0))
        assert not coverage["complete"]


async def test_a_plan_without_history_is_done_and_says_that_nothing_was_kept(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [scenes.ONE])
    await world.Worker(pool, world.Broker()).take(started(0), tagged("t1", 1))
    result = await plan(pool, goals=[PAID_50])
    assert result["coverage"] == {
        "history_from": None,
        "history_until": None,
        "fresh_as_of": None,
        "complete": False,
    }
    assert result["compared"] == compared(both=1)


@pytest.mark.parametrize("slice_enrollments", [1, 3, 2_000])
async def test_every_enrollment_is_judged_once_whatever_the_slices(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    monkeypatch: pytest.MonkeyPatch,
    slice_enrollments: int,
) -> None:
    monkeypatch.setattr(plans, "SLICE_ENROLLMENTS", slice_enrollments)
    await world.install(administrator, [scenes.ONE])
    await kept_events.cover(pool, at(0))
    runs = [started(0, f"s{number}", ("w1", f"e{number}", f"c{number // 3}")) for number in range(10)]
    other = started(0, "other", ("w2", "e-other", "c1"))
    await live(pool, *runs, other, *[paid(f"p{n}", 2, f"p{n}", "60", f"c{n}") for n in range(4)])
    result = await plan(pool, goals=[PAID_50])
    assert (result["enrollments"], result["compared"]) == (10, compared(only_planned=10))


async def test_a_sample_is_drawn_from_all_and_says_so(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [scenes.ONE])
    runs = [started(0, f"s{number}", ("w1", f"e{number}", f"c{number}")) for number in range(20)]
    await live(pool, *runs)
    result = await plan(pool, sample=5)
    assert (result["enrollments"], result["sampled"]) == (5, {"drawn": 5, "of": 20})
    assert (await plan(pool, sample=20))["sampled"] is None


async def test_without_tracking_every_kept_contact_counts(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [scenes.ONE])
    await kept_events.cover(pool, at(0))
    worker = world.Worker(pool, world.Broker(), tracked=False)
    messages = [tagged("t1", 1), paid("p1", 2, amount="60", contact_id="c2"), paid("p2", 2, "p2", "60")]
    await worker.take(*messages)
    await kept_events.keep(pool, *messages)
    result = await plan(pool, tracking=False, goals=[PAID_50], logic="never")
    assert (result["enrollments"], result["compared"]) == (2, compared(both=1, only_planned=2))


async def test_a_plan_sees_the_database_as_it_was_when_it_began(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "SLICE_ENROLLMENTS", 1)
    await world.install(administrator, [scenes.ONE])
    await kept_events.cover(pool, at(0))
    runs = [started(0, f"s{number}", ("w1", f"e{number}", f"c{number}")) for number in range(3)]
    await live(pool, *runs)
    advance = jobs.advance

    async def and_meanwhile(*given_: Any) -> bool:
        await world.Worker(pool, world.Broker()).take(started(0, "late", ("w1", "e-late", "c-late")))
        await administrator.execute("UPDATE enrollments SET ended_at = enrolled_at")
        return await advance(*given_)

    monkeypatch.setattr(jobs, "advance", and_meanwhile)
    assert (await plan(pool))["enrollments"] == 3


@world.examples(12)
@given(seed=st.integers(0, 2**32), since=st.integers(-2, worlds.TICKS))
async def test_a_plan_gives_what_judging_gives_where_the_goal_exists(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, seed: int, since: int
) -> None:
    await world.clear(administrator)
    await administrator.execute("DELETE FROM history_events")
    source = worlds.seeded(seed)
    drawn = world_messages.world(source)
    key, goal_type = (drawn.goals[0].tenant_id, drawn.goals[0].workflow_id), drawn.goals[0].goal_type
    own = worlds.criteria(source, goal_type)
    await world.install(administrator, drawn.goals, drawn.logics)
    await kept_events.cover(pool, at(-9))
    await live(pool, *drawn.messages)
    asked = {"goal_type": goal_type, "criteria": criteria.criteria_to_json(goal_type, own)}
    result = await plan(pool, key=key, goals=[asked], since=at(since))
    version = goals.GoalVersion(1, own, True, at(since))
    new = goals.Goal(*key[:1], UUID(int=99), key[1], goal_type, at(since), (version,))
    before = _achieved(naive_judge.everything(drawn.goals, drawn.logics, drawn.messages), key)
    after = _achieved(naive_judge.everything((*drawn.goals, new), drawn.logics, drawn.messages), key)
    moved = [(before[name], after[name]) for name in before.keys() & after.keys()]
    assert result["compared"] == compared(
        len(moved),
        len(after.keys() - before.keys()),
        len(before.keys() - after.keys()),
        sum(then > now for then, now in moved),
        sum(then < now for then, now in moved),
    )


def _achieved(judged: dict[naive_judge.Enrolled, naive_judge.Answer], key: Any) -> dict[Any, Any]:
    return {
        (enrolled.enrollment_id, goal_id): achieved.at.time
        for enrolled, answer in judged.items()
        if (enrolled.tenant_id, enrolled.workflow_id) == key
        for goal_id, achieved in answer.achieved.items()
    }
