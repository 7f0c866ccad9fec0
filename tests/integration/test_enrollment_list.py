"""The rows behind the numbers of reports: as many as a number says, the latest first."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections
from goalworker.stores import achievements, enrollment_list, stats, times_to_goal, workflows
from tests.integration import analyst, stored_runs, world
from tests.integration.stored_runs import MINUTES, RUNS, START, TENANT, WORKFLOW, add_goals, add_run

NAMES_OF_NUMBERS = {"enrolled": "total_enrolled", "converted": "enrollments_converted", "exited": "exits_sent"}
NAMES_OF_TIMES = {"ended": "enrollments_ended", "open": "enrollments_open"}


async def listed(
    pool: sa_async.AsyncEngine, state: str = "enrolled", span: analyst.Span = (None, None), limit: int = 3
) -> list[enrollment_list.Enrollment]:
    """Return all pages of a list."""
    asked = {"state": state, "since": span[0], "until": span[1], "limit": limit}
    found, cursor = await page(pool, asked, None)
    while cursor is not None:
        more, cursor = await page(pool, asked, cursor)
        found += more
    return found


async def page(
    pool: sa_async.AsyncEngine, asked: dict[str, Any], cursor: str | None
) -> tuple[list[enrollment_list.Enrollment], str | None]:
    async with connections.tenant_transaction(pool, TENANT, "stats") as connection:
        return await enrollment_list.list_enrollments(connection, TENANT, WORKFLOW, **asked, cursor=cursor)


@world.examples(20)
@given(runs=RUNS, cuts=st.lists(MINUTES, max_size=1), ended=st.sets(st.integers(0, 8)))
async def test_a_list_has_as_many_rows_as_its_number_says(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    runs: list[Any],
    cuts: list[timedelta],
    ended: set[int],
) -> None:
    await stored_runs.write(administrator, runs, [], tracking=True)
    await administrator.execute(
        "UPDATE enrollments SET ended_at = enrolled_at WHERE enrollment_id = ANY($1)",
        [f"e{number}" for number in ended],
    )
    for span in analyst.spans([None, *(START + cut for cut in cuts)]):
        async with connections.tenant_transaction(pool, TENANT, "stats") as connection:
            numbers = await stats.workflow_stats(connection, TENANT, WORKFLOW, *span, tracking=True)
            times = await times_to_goal.times_to_goal(connection, TENANT, WORKFLOW, *span, tracking=True)
        for state, name in NAMES_OF_NUMBERS.items():
            assert len(await listed(pool, state, span)) == numbers[name]
        for state, name in NAMES_OF_TIMES.items():
            assert len(await listed(pool, state, span)) == times[name]


async def test_enrollments_are_listed_from_the_latest_in_pages(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    for number in range(7):
        await add_run(administrator, f"e{number}", START + timedelta(hours=number // 2))
    await add_run(administrator, "elsewhere", START, tenant_id="south")
    await add_run(administrator, "unknown start", None)
    for limit in (1, 3, 50):
        found = await listed(pool, limit=limit)
        assert [one.enrollment_id for one in found] == [f"e{number}" for number in range(6, -1, -1)]
    assert found[0] == enrollment_list.Enrollment("e6", "c-e6", START + timedelta(hours=3), None, None, None)


@pytest.mark.parametrize("cursor", ["!", "AA", achievements.encode_cursor(b'["2026-05-01T00:00:00","e"]')])
async def test_a_cursor_of_another_list_is_refused(pool: sa_async.AsyncEngine, cursor: str) -> None:
    with pytest.raises(achievements.CursorError):
        await page(pool, {"state": "enrolled", "since": None, "until": None, "limit": 1}, cursor)


async def test_a_workflow_is_described_by_what_is_in_force(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    async def described() -> workflows.Description:
        async with connections.tenant_transaction(pool, TENANT, "stats") as connection:
            return await workflows.describe(connection, TENANT, WORKFLOW)

    with pytest.raises(stats.UnknownWorkflowError):
        await described()
    await add_goals(administrator)
    assert await described() == workflows.Description(is_active=True, logic="any", fresh_as_of=None)
    judged_until = datetime(2026, 1, 5, tzinfo=UTC)
    await administrator.execute("INSERT INTO progress VALUES ('tag-added', 0, $1, now())", judged_until)
    await administrator.execute("INSERT INTO workflow_states VALUES ($1, $2, now(), false)", TENANT, WORKFLOW)
    await administrator.execute("INSERT INTO workflow_settings VALUES ($1, $2, now(), 'all', 1)", TENANT, WORKFLOW)
    assert await described() == workflows.Description(is_active=False, logic="all", fresh_as_of=judged_until)
