"""Statistics equal those that plain Python computes from the rows, and achievements can be read page by page."""

import base64
import itertools
import json
from datetime import timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import ids, messages
from goalworker.postgres import connections
from goalworker.stores import achievements, stats
from tests.integration import analyst, stored_runs, world
from tests.integration.stored_runs import (
    GOAL_TYPES,
    MINUTES,
    RUNS,
    START,
    TENANT,
    WORKFLOW,
    add_achievement,
    add_goals,
    add_run,
    goal_id,
)
from tests.kit import naive_judge, strategies

TILDE = "\uff5e"
"""In code point order before the emoji, in UTF-16 after it."""


async def stats_of(
    pool: sa_async.AsyncEngine,
    span: analyst.Span = (None, None),
    *,
    tenant_id: str = TENANT,
    workflow_id: str = WORKFLOW,
    tracking: bool = True,
    caller: str | None = None,
) -> dict[str, Any]:
    """Return the statistics as a caller of the API sees them, by default those of the tenant."""
    async with connections.tenant_transaction(pool, caller or tenant_id, "stats") as connection:
        return await stats.workflow_stats(connection, tenant_id, workflow_id, *span, tracking=tracking)


# --- the numbers ---


@world.examples(100)
@given(runs=RUNS, cuts=st.lists(MINUTES, max_size=2), deleted=st.sets(st.integers(1, 5)), tracking=st.booleans())
async def test_statistics_equal_those_computed_from_every_row(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    runs: list[Any],
    cuts: list[timedelta],
    deleted: set[int],
    tracking: bool,
) -> None:
    await stored_runs.write(administrator, runs, deleted, tracking=tracking)
    moments = [None, *(START + cut for cut in cuts), *(START + run[0] for run in runs[:1])]
    for span in analyst.spans(moments):
        expected = await analyst.numbers(administrator, TENANT, WORKFLOW, span, tracking=tracking)
        analyst.assert_agrees(await stats_of(pool, span, tracking=tracking), expected)


@world.examples(60)
@given(data=st.data(), drawn=strategies.worlds(), tracked=st.booleans())
async def test_statistics_are_right_after_messages_in_any_order(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    data: st.DataObject,
    drawn: strategies.World,
    tracked: bool,
) -> None:
    drawn = drawn if tracked else drawn.untracked()
    await world.clear(administrator)
    await world.install(administrator, drawn.goals, drawn.logics)
    worker = world.Worker(pool, world.Broker(), tracked=tracked)
    spans: list[analyst.Span] = [(None, None), (strategies.at(2), strategies.at(8))]
    for batch in data.draw(strategies.deliveries(drawn.messages)):
        await worker.take(*batch)
    judged = naive_judge.everything(drawn.goals, drawn.logics, drawn.messages, tracked=tracked)
    revenue = {
        key: {
            currency: dict(zip(analyst.AMOUNTS, map(Fraction, amounts), strict=True))
            for currency, amounts in money.items()
        }
        for key, money in naive_judge.workflow_revenue(judged).items()
    }
    workflows = itertools.product(strategies.TENANTS, strategies.WORKFLOWS, spans)
    for tenant_id, workflow_id, span in workflows:
        expected = await analyst.numbers(administrator, tenant_id, workflow_id, span, tracking=tracked)
        asked = await stats_of(pool, span, tenant_id=tenant_id, workflow_id=workflow_id, tracking=tracked)
        analyst.assert_agrees(asked, expected)
        if span == (None, None):
            assert expected["revenue"] == revenue.get((tenant_id, workflow_id), {})


async def test_an_example_by_hand(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> None:
    await add_goals(administrator, deleted=[3, 5])
    for number, hours in enumerate((1, 2, 4)):
        done = START + timedelta(hours=hours)
        await add_run(administrator, f"e{number}", START, converted_at=done, exited_at=done)
        await add_achievement(administrator, f"e{number}", 1, done)
    await add_achievement(administrator, "e0", 2, START + timedelta(hours=1), paid=("0.105", "eur"))
    await add_achievement(administrator, "e1", 4, START + timedelta(hours=1), is_revoked=True)
    await add_run(administrator, "e3", START)
    await add_run(administrator, "never started", None)
    answer = await stats_of(pool)
    assert msgspec.json.decode(msgspec.json.encode(answer)) == {
        "workflow_id": WORKFLOW,
        "from": None,
        "to": None,
        "total_enrolled": 4,
        "goals_achieved": 4,
        "enrollments_converted": 3,
        "conversion_rate": 75.0,
        "avg_time_to_goal_hours": 2.33,
        "median_time_to_goal_hours": 2.0,
        "p90_time_to_goal_hours": 3.6,
        "avg_time_to_goal_seconds": 8400.0,
        "median_time_to_goal_seconds": 7200.0,
        "p90_time_to_goal_seconds": 12960.0,
        "exits_sent": 3,
        "by_goal_type": {
            "purchase_made": {"achieved": 4, "conversion_rate": 75.0},
            "tag_added": {"achieved": 0, "conversion_rate": 0.0},
        },
        "by_goal": [
            {
                "goal_id": str(goal_id(number)),
                "goal_type": GOAL_TYPES[number - 1],
                "name": f"goal {number}",
                "achieved": achieved,
                "conversion_rate": rate,
                "revenue": {} if gross is None else {"EUR": unreversed(gross)},
            }
            for number, achieved, rate, gross in (
                (1, 3, 75.0, "59.70"),
                (2, 1, 25.0, "0.105"),
                (4, 0, 0.0, None),
            )
        ],
        "revenue": {"EUR": unreversed("59.805")},
    }


def unreversed(gross: str) -> dict[str, str]:
    """Return the revenue of payments without any reversal."""
    return {"gross": gross, "reversed": "0.00", "net": gross}


async def test_a_workflow_without_achievements_has_zeros_and_no_times(pool: sa_async.AsyncEngine) -> None:
    answer = await stats_of(pool)
    assert (answer["total_enrolled"], answer["conversion_rate"], answer["revenue"]) == (0, 0.0, {})
    assert {answer[name] for name in analyst.TIMES} == {None}


async def test_another_tenant_has_empty_statistics(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await add_goals(administrator)
    await add_run(administrator, "e1", START, converted_at=START)
    await add_achievement(administrator, "e1", 1, START)
    answer = await stats_of(pool, caller="south")
    assert (answer["total_enrolled"], answer["goals_achieved"], answer["by_goal"]) == (0, 0, [])
    assert await page(pool, caller="south") == ([], None)


# --- the list ---


async def page(
    pool: sa_async.AsyncEngine, cursor: str | None = None, limit: int = 50, *, caller: str = TENANT, **wanted: Any
) -> tuple[list[messages.Achieved], str | None]:
    everything: dict[str, Any] = dict.fromkeys(("contact_id", "goal_id", "since", "until"))
    async with connections.tenant_transaction(pool, caller, "stats") as connection:
        return await achievements.list_achievements(
            connection, TENANT, WORKFLOW, cursor=cursor, limit=limit, **everything | wanted
        )


async def pages(pool: sa_async.AsyncEngine, limit: int, **wanted: Any) -> list[list[tuple[str, UUID]]]:
    """Return enrollment and goal of every achievement, page by page."""
    cursor, read = None, []
    while True:
        found, cursor = await page(pool, cursor, limit, **wanted)
        read.append(_keys(found))
        if cursor is None:
            return read


def _keys(found: list[messages.Achieved]) -> list[tuple[str, UUID]]:
    return [(each.enrollment_id, each.goal_id) for each in found]


@pytest.fixture
async def listed(administrator: connections.Connection) -> list[tuple[str, UUID]]:
    """Ten achievements in their order, most at the same moment as others, and a revoked one."""
    await add_goals(administrator)
    for number, enrollment_id in enumerate(("Z", "a", "é", "\U0001f600", TILDE)):
        await add_run(administrator, enrollment_id, START)
        for goal in (1, 4):
            moment = START + timedelta(hours=number // 3)
            await add_achievement(administrator, enrollment_id, goal, moment)
    await add_achievement(administrator, "a", 5, START, is_revoked=True)
    order = ("Z", "a", "é", TILDE, "\U0001f600")
    return [(enrollment_id, goal_id(goal)) for enrollment_id in order for goal in (1, 4)]


@pytest.mark.parametrize("limit", [1, 2, 3, 9, 10, 11])
async def test_pages_of_any_size_give_each_achievement_once_and_in_order(
    pool: sa_async.AsyncEngine, listed: list[tuple[str, UUID]], limit: int
) -> None:
    read = await pages(pool, limit)
    assert list(itertools.chain(*read)) == listed
    assert all(len(each) == limit for each in read[:-1])
    assert read[-1]


async def test_an_achievement_is_shown_as_its_message(
    pool: sa_async.AsyncEngine, listed: list[tuple[str, UUID]]
) -> None:
    shown, _ = await page(pool, limit=1)
    assert msgspec.json.decode(msgspec.json.encode(shown[0])) == {
        "achievement_id": str(ids.achievement_id(TENANT, *listed[0])),
        "revision": 3,
        "workflow_id": WORKFLOW,
        "enrollment_id": "Z",
        "contact_id": "c-Z",
        "goal_id": str(goal_id(1)),
        "goal_version": 1,
        "goal_type": "purchase_made",
        "enrolled_at": "2026-01-01T00:00:00Z",
        "achieved_at": "2026-01-01T00:00:00Z",
        "trigger_event": {
            "id": "ev-Z-1",
            "source": "/shop",
            "type": "payment.completed",
            "time": "2026-01-01T00:00:00Z",
            "data": {"contact_id": "c-Z", "payment_id": "p-Z-1", "amount": "19.90", "currency": "EUR"},
        },
    }


async def test_filters_apply_to_every_page(pool: sa_async.AsyncEngine, listed: list[tuple[str, UUID]]) -> None:
    later = START + timedelta(hours=1)
    wanted: list[tuple[dict[str, Any], list[tuple[str, UUID]]]] = [
        ({"contact_id": "c-a"}, listed[2:4]),
        ({"goal_id": goal_id(4)}, listed[1::2]),
        ({"since": later}, listed[6:]),
        ({"until": later}, listed[:6]),
        ({"since": START, "until": later, "goal_id": goal_id(1), "contact_id": "c-é"}, listed[4:5]),
        ({"contact_id": "nobody"}, []),
        ({"since": later, "until": START}, []),
    ]
    for filters, expected in wanted:
        assert list(itertools.chain(*await pages(pool, 1, **filters))) == expected, filters


async def test_concurrent_changes_move_no_page(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, listed: list[tuple[str, UUID]]
) -> None:
    first, cursor = await page(pool, limit=3)
    await add_run(administrator, "0", START)
    await add_achievement(administrator, "0", 1, START)  # before the current position
    await add_achievement(administrator, TILDE, 2, START + timedelta(hours=9))  # after it
    await administrator.execute("UPDATE achievements SET revoked_at = now() WHERE enrollment_id = 'a'")
    rest, _ = await page(pool, cursor)
    assert _keys(first) == listed[:3]
    assert _keys(rest) == [*listed[4:], (TILDE, goal_id(2))]


def sealed(*place: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


CURSORS_OF_OTHERS = (
    "",
    "a",
    "!",
    "é",
    "\x00",
    "AAAA",
    "bnVsbA",
    "_" * 5_000,
    sealed("[" * 3_000),
    sealed(),
    sealed("2026-01-01T00:00:00", "e1", str(goal_id(1))),
    sealed("yesterday", "e1", str(goal_id(1))),
    sealed("0001-01-01T00:00:00+14:00", "e1", str(goal_id(1))),
    sealed("9999-12-31T23:59:59-14:00", "e1", str(goal_id(1))),
    sealed("2026-01-01T00:00:00Z", "e\x001", str(goal_id(1))),
    sealed("2026-01-01T00:00:00Z", "\ud800", str(goal_id(1))),
    sealed("2026-01-01T00:00:00Z", "", str(goal_id(1))),
    sealed("2026-01-01T00:00:00Z", 1, str(goal_id(1))),
    sealed("2026-01-01T00:00:00Z", "e1", "1"),
)


async def test_a_foreign_cursor_is_refused(pool: sa_async.AsyncEngine) -> None:
    for cursor in CURSORS_OF_OTHERS:
        with pytest.raises(achievements.CursorError):
            await page(pool, cursor)
