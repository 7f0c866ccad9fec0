"""History of a moved tenant goes back as far as what came along, as long as nothing is missing since."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.admin import tenant_history_move
from goalworker.postgres import connections, tables
from goalworker.stores import goal_store, history, tenant_moves
from tests.integration import crashes, goal_steps, kept_events, moving, statements, world
from tests.integration.moving import Cells
from tests.integration.scenes import ONE, TENANT, logic, started, tagged

pytestmark = pytest.mark.unmeasured

Pools = tuple[sa_async.AsyncEngine, sa_async.AsyncEngine]
Administrators = tuple[connections.Connection, connections.Connection]

# When history begins in the source, and in the target, which is younger.
MAY, OCTOBER = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
BEFORE: Final = (started(0), tagged("t1", 3))
# Of a contact whose enrollment comes after the fence, so that no insight process knows it in time.
MEANWHILE: Final = (started(6, "s5", ("w1", "e5", "c5")), tagged("v1", 8, contact_id="c5"))
_POSITIONS: Final = """
INSERT INTO history_positions SELECT topic, 0, NULL, 0, 999, $1 FROM unnest($2::text[]) AS topic
"""


@pytest.fixture(autouse=True)
def nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_history_move, "NOTICE_SECONDS", 0)


async def _keep(pool: sa_async.AsyncEngine, since: datetime, topics: Sequence[str] = moving.TOPICS) -> None:
    """Let history have every event since a moment, as of an insight process that has read to the end."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        await connection.execute("DELETE FROM history_positions")
        await connection.execute(_POSITIONS, since, topics)
        await connection.execute(
            "INSERT INTO history_coverage VALUES (1, 'enrolled', NULL, 86400000, NULL) ON CONFLICT DO NOTHING"
        )


@pytest.fixture
async def cells(pools: Pools, administrators: Administrators, monkeypatch: pytest.MonkeyPatch) -> Cells:
    """Two cells with history, the first of which has judged a tenant's events."""
    return await _begin(pools, administrators, monkeypatch)


async def _begin(pools: Pools, administrators: Administrators, monkeypatch: pytest.MonkeyPatch) -> Cells:
    for administrator in administrators:
        await world.clear(administrator)
    await world.install(administrators[0], [ONE], logic("any"))
    cells = Cells(pools)
    moving.install(monkeypatch, cells)
    await cells.write_cells()
    cells.produce(*BEFORE)
    await cells.work()
    await _keep(pools[0], MAY)
    await _keep(pools[1], OCTOBER)
    await kept_events.keep(pools[0], BEFORE[1])
    return cells


async def _covered(pool: sa_async.AsyncEngine, tenant_id: str = TENANT) -> history.Coverage:
    async with connections.tenant_transaction(pool, tenant_id, "test") as connection:
        return await history.coverage(await connections.driver_of(connection), tenant_id)


async def _history_from(pool: sa_async.AsyncEngine, tenant_id: str = TENANT) -> datetime:
    found = (await _covered(pool, tenant_id)).history_from
    assert found is not None
    return found


async def _kept(administrator: connections.Connection) -> list[str]:
    return [row[0] for row in await administrator.fetch("SELECT DISTINCT event_id FROM history_events ORDER BY 1")]


async def test_history_of_a_moved_tenant_begins_where_it_began_in_the_source(cells: Cells) -> None:
    await cells.move(TENANT)
    assert await _history_from(cells.pools[1]) == MAY
    assert await _history_from(cells.pools[1], "another") == OCTOBER


async def test_history_of_a_moved_tenant_is_no_older_than_that_of_a_younger_source(cells: Cells) -> None:
    await _keep(cells.pools[0], OCTOBER)
    await _keep(cells.pools[1], MAY)
    await cells.move(TENANT)
    assert await _history_from(cells.pools[1]) == OCTOBER
    assert await _history_from(cells.pools[1], "another") == MAY


async def test_a_gap_of_the_target_since_the_move_counts_for_a_moved_tenant(cells: Cells) -> None:
    await cells.move(TENANT)
    gap = datetime.now(UTC) + timedelta(days=1)
    await _keep(cells.pools[1], gap)
    assert await _history_from(cells.pools[1]) == gap


async def test_dropped_days_count_for_a_moved_tenant(cells: Cells, administrators: Administrators) -> None:
    await cells.move(TENANT)
    await administrators[1].execute("UPDATE history_coverage SET dropped_before = '2026-07-01'")
    assert await _history_from(cells.pools[1]) == datetime(2026, 7, 1, tzinfo=UTC)
    await _keep(cells.pools[0], MAY)
    await cells.move(TENANT, source=1)
    assert await _history_from(cells.pools[0]) == datetime(2026, 7, 1, tzinfo=UTC)


async def test_a_tenant_that_moves_back_brings_along_what_both_cells_kept(
    cells: Cells, administrators: Administrators
) -> None:
    await cells.move(TENANT)
    await _keep(cells.pools[0], OCTOBER)
    await cells.move(TENANT, source=1)
    assert await _history_from(cells.pools[0]) == MAY
    assert await _history_from(cells.pools[0], "another") == OCTOBER
    assert await _kept(administrators[0]) == ["t1"]


@pytest.mark.parametrize("topics", [(), moving.TOPICS[1:]])
async def test_history_begins_with_the_move_where_the_source_has_not_kept_all(
    cells: Cells, topics: Sequence[str]
) -> None:
    began = datetime.now(UTC)
    cells.produce(*MEANWHILE)
    await _keep(cells.pools[0], MAY, topics)
    await cells.move(TENANT)
    assert await _history_from(cells.pools[1]) >= began


async def test_history_begins_with_the_move_where_insight_of_the_source_stands_still(
    cells: Cells, administrators: Administrators, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = datetime.now(UTC)
    monkeypatch.setattr("goalworker.admin.move_arrival.STALL_SECONDS", 0)
    await administrators[0].execute("UPDATE history_positions SET next_offset = 0")
    await cells.move(TENANT)
    assert await _history_from(cells.pools[1]) >= began
    assert any("insight of the source stands still" in said for said in cells.said)


async def test_history_begins_with_the_move_where_the_target_kept_nothing_meanwhile(
    cells: Cells, administrators: Administrators
) -> None:
    began = datetime.now(UTC)
    await administrators[1].execute("DELETE FROM history_positions")
    await cells.move(TENANT)
    assert await _covered(cells.pools[1]) == history.Coverage(None)
    await _keep(cells.pools[1], OCTOBER)
    assert await _history_from(cells.pools[1]) >= began


async def test_a_source_that_kept_enrolled_contacts_only_says_nothing_of_others_before_the_move(
    cells: Cells, administrators: Administrators
) -> None:
    await administrators[1].execute("UPDATE history_coverage SET keep = 'all', all_since = 'epoch'")
    began = datetime.now(UTC)
    await cells.move(TENANT)
    found = await _covered(cells.pools[1])
    assert (found.keep, found.history_from) == ("all", MAY)
    assert found.all_since is not None
    assert found.all_since >= began


async def test_a_backfill_reaches_back_as_far_as_the_history_that_came_along(
    cells: Cells, administrators: Administrators
) -> None:
    pool = cells.pools[1]
    await _keep(pool, datetime(2026, 1, 1, tzinfo=UTC))
    await cells.move(TENANT)
    goal = await goal_steps.create(pool, "tag-9", tenant_id=TENANT)
    whose = (TENANT, goal.workflow_id, goal.id)
    with pytest.raises(goal_store.BackfillRefusedError, match="History reaches back to 2026-05-01T00:00:00Z only"):
        await goal_store.begin_backfill(pool, *whose, MAY - timedelta(seconds=1), exits=False, actor="test")
    await goal_store.begin_backfill(pool, *whose, MAY, exits=False, actor="test")


async def test_history_is_whole_wherever_the_mover_was_killed(
    pools: Pools, administrators: Administrators, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, is_over = 0, False
    while not is_over:
        cells = await _begin(pools, administrators, monkeypatch)
        is_over = await crashes.survives(crashes.after_commit(step), cells.move(TENANT))
        cells.produce(*MEANWHILE)
        await cells.work()
        place = await tenant_moves.placement(pools[1], TENANT)
        if place is not None and place.state == "here" and await _history_from(pools[1]) == MAY:
            assert "t1" in await _kept(administrators[1]), f"step {step}"
        await cells.move(TENANT)
        assert await _history_from(pools[1]) == MAY, f"step {step}"
        assert await _kept(administrators[1]) in (["t1"], ["t1", "v1"]), f"step {step}"
        step += 1


async def test_a_move_that_is_given_up_leaves_history_whole_wherever_the_mover_was_killed(
    pools: Pools, administrators: Administrators, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, is_over = 0, False
    while not is_over:
        cells = await _begin(pools, administrators, monkeypatch)
        assert not await crashes.survives(_after_saying(cells, "fenced"), cells.move(TENANT))
        cells.produce(*MEANWHILE)
        is_over = await crashes.survives(crashes.after_commit(step), cells.give_up(TENANT))
        await cells.give_up(TENANT)
        assert await _history_from(pools[0]) == MAY, f"step {step}"
        assert await _kept(administrators[0]) == ["t1", "v1"], f"step {step}"
        step += 1
    assert step >= 5


def _after_saying(cells: Cells, word: str) -> statements.Hook:
    """Return a hook that crashes the mover at its first round trip after a word."""

    async def hook(statement: statements.Statement) -> object:
        if any(word in said for said in cells.said):
            raise crashes.Crash
        return await statement.run()

    return hook


async def test_a_tenant_that_an_older_release_moved_has_history_since_the_move_began(
    cells: Cells, administrators: Administrators
) -> None:
    began = datetime(2026, 11, 1, tzinfo=UTC)
    cell_id = "00000000-0000-0000-0000-000000000007"
    await administrators[1].execute("INSERT INTO moved_tenants VALUES ($1, 'here', $2, $3)", TENANT, cell_id, began)
    assert await _history_from(cells.pools[1]) == began
    await administrators[1].execute("UPDATE history_positions SET history_from = '2026-11-09'")
    assert await _history_from(cells.pools[1]) == datetime(2026, 11, 9, tzinfo=UTC)
