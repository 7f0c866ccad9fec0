"""`goalworker goals plan`, `apply --plan` and `backfill` as called from a shell."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections
from goalworker.stores import goal_store
from tests.integration import job_runs, kept_events, statements, world
from tests.integration.scenes import paid, started
from tests.kit import shells
from tests.kit.strategies import at

TENANT = ("--tenant", "north")
PAID_50 = {"goal_type": "purchase_made", "criteria": {"min_amount": "50", "currency": "EUR"}}


@pytest.fixture
async def insight(pool: sa_async.AsyncEngine) -> AsyncIterator[None]:
    """Run plans and backfills, as `goalworker insight` does."""
    running = asyncio.create_task(job_runs.runner(pool).run())
    yield
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def write(shell: shells.Shell, *workflows: dict[str, Any]) -> None:
    (shell.folder / "goals.json").write_text(json.dumps({"workflows": workflows}), encoding="utf-8")


@pytest.mark.usefixtures("insight")
async def test_a_file_is_planned_and_then_applied_as_planned(
    pool: sa_async.AsyncEngine, with_database: shells.Shell
) -> None:
    await kept_events.cover(pool, at(-9))
    runs = [started(0, f"s{n}", ("w1", f"e{n}", f"c{n}")) for n in range(3)]
    await world.Worker(pool, world.Broker()).take(*runs)
    payments = [paid(f"p{n}", 2, f"p{n}", f"{49 + n}", f"c{n}") for n in range(3)]
    await kept_events.keep(pool, *payments)
    write(with_database, {"workflow_id": "w1", "goals": [PAID_50]})
    planned = await asyncio.to_thread(
        with_database, "goals", "plan", *TENANT, "--from", "2025-01-01T00:00Z", "goals.json"
    )
    assert planned.code == 0, planned.err
    said = " ".join(planned.out.split())
    assert "w1: 3 enrollments, 3 kept events, history since" in said
    assert "+ 2 more achieve, 2 of them only by this goal" in said
    assert "1 payment missed `min_amount`, nearest 49" in said
    plan_hash = planned.out.rpartition("--plan ")[2].strip()
    applied = await asyncio.to_thread(with_database, "goals", "apply", *TENANT, "goals.json", "--plan", plan_hash)
    assert applied.code == 0, applied.err
    again = await asyncio.to_thread(with_database, "goals", "apply", *TENANT, "goals.json", "--plan", plan_hash)
    shells.assert_one_sentence(again, 1, "have changed since", "goalworker goals plan")
    nothing = await asyncio.to_thread(with_database, "goals", "plan", *TENANT, "goals.json")
    assert nothing.out == "nothing to plan: the goals are as the file says\n"


@pytest.mark.usefixtures("insight")
async def test_a_plan_of_another_state_of_the_goals_changes_nothing(
    pool: sa_async.AsyncEngine, with_database: shells.Shell
) -> None:
    write(with_database, {"workflow_id": "w1", "goals": [PAID_50]})
    planned = await asyncio.to_thread(with_database, "goals", "plan", *TENANT, "--json", "goals.json")
    plan_hash = json.loads(planned.out)["plan_hash"]
    draft = goal_store.parse_draft({"goal_type": "tag_added", "criteria": {"tag_id": "t1"}})
    await goal_store.create(pool, "north", "w1", draft, actor="bob", maximum=3)
    applied = await asyncio.to_thread(with_database, "goals", "apply", *TENANT, "goals.json", "--plan", plan_hash)
    shells.assert_one_sentence(applied, 1, f"Plan {plan_hash} is of other goals")
    assert (await goal_store.list_goals(pool, "north", "w1")).total == 1


@pytest.mark.usefixtures("insight")
async def test_goals_that_change_after_the_check_of_a_plan_are_left_as_they_are(
    pool: sa_async.AsyncEngine, with_database: shells.Shell, administrator: connections.Connection
) -> None:
    write(with_database, {"workflow_id": "w1", "logic": "all", "goals": [PAID_50]})
    planned = await asyncio.to_thread(with_database, "goals", "plan", *TENANT, "--json", "goals.json")
    words = ("goals", "apply", *TENANT, "goals.json", "--plan", json.loads(planned.out)["plan_hash"])
    draft = goal_store.parse_draft({"goal_type": "tag_added", "criteria": {"tag_id": "t1"}})
    async with connections.tenant_transaction(pool, "north", "test") as connection:
        await goal_store.create(connection, "north", "w1", draft, actor="bob", maximum=3)
        applying = asyncio.create_task(asyncio.to_thread(with_database, *words))
        await statements.until_blocked(administrator)  # it has found the goals as they were planned
    shells.assert_one_sentence(await applying, 1, "The goals of 'w1' have changed since they were planned")
    assert (await goal_store.list_goals(pool, "north", "w1")).total == 1
    assert await goal_store.get_logic(pool, "north", "w1") == "any"


async def test_a_plan_that_nobody_runs_says_so_and_ends_with_the_command(
    pool: sa_async.AsyncEngine, with_database: shells.Shell, administrator: connections.Connection
) -> None:
    write(with_database, {"workflow_id": "w1", "goals": [PAID_50]})
    process = with_database.started("goals", "plan", *TENANT, "goals.json")
    assert process.stderr is not None
    line = await asyncio.to_thread(process.stderr.readline)
    assert b"start `goalworker insight`" in line
    process.send_signal(signal.SIGINT)
    await asyncio.to_thread(process.communicate, None, 20)
    assert process.returncode == 130
    assert await administrator.fetchval("SELECT cancel_requested FROM jobs")


@pytest.mark.usefixtures("insight")
async def test_a_goal_is_backfilled_from_the_shell(
    pool: sa_async.AsyncEngine, with_database: shells.Shell, administrator: connections.Connection
) -> None:
    await kept_events.cover(pool, at(-9))
    await world.Worker(pool, world.Broker()).take(started(0))
    await kept_events.keep(pool, paid("p1", 2, amount="60"))
    goal = await goal_store.create(pool, "north", "w1", goal_store.parse_draft(PAID_50), actor="ann", maximum=3)
    words = ("goals", "backfill", *TENANT, str(goal.id), "--exits", "--from")
    done = await asyncio.to_thread(with_database, *words, at(-5).isoformat())
    assert (done.code, done.out) == (0, "1 hit among 1 contact: 1 achievement more, 1 exit\n"), done.err
    assert await administrator.fetchval("SELECT count(*) FROM exits") == 1
    refused = await asyncio.to_thread(with_database, *words, "2020-01-01T00:00Z")
    shells.assert_one_sentence(refused, 1, "History reaches back to 2026-01-01T11:59:50Z only")
