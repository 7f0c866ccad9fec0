"""The mover of a tenant may crash anywhere: run again, it ends the move, and nothing is lost, doubled or altered."""

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events
from goalworker.pipeline import outbox, phases, worker
from goalworker.postgres import cell_tables, connections, tables
from goalworker.stores import tenant_copy
from goalworker.stores.tenant_moves import MoveRefusedError
from tests.integration import checks, crashes, moving, statements, world
from tests.integration.moving import Cells
from tests.integration.scenes import ONE, TENANT, TWO, ended, logic, paid, purchase, refunded, started, state, tagged

pytestmark = pytest.mark.unmeasured

GOALS, LOGICS = (ONE, TWO, purchase(5, "w2")), logic("all")
BEFORE = (
    *(started(0, f"s{n}", ("w1", f"e{n}", f"c{n}")) for n in range(1, 5)),
    started(0, "s9", ("w2", "e9", "c1")),
    tagged("t1", 3),
    tagged("t2", 4, "tag-2"),
    tagged("u1", 3, contact_id="c2"),
    paid("p1", 3),
    state("workflow.deactivated", 1, "d1", "w2"),
)
UNREAD = (
    tagged("u2", 5, "tag-2", "c2"),
    tagged("v1", 6, contact_id="c3"),
    b'{"specversion": "1.0", "id": "m1", "source": "/crm", "type": "contact.tag.added", "tenantid": "north",'
    b' "time": "2026-05-01T12:00:00Z", "data": {}}',
)
MEANWHILE = (
    tagged("v2", 7, "tag-2", "c3"),
    started(6, "s5", ("w1", "e5", "c5")),
    state("workflow.activated", 8, "a1", "w2"),
    refunded("r1", 9),
    b'{"specversion": "1.0", "id": "m2", "source": "/crm", "type": "contact.tag.added", "tenantid": "north",'
    b' "time": "2026-05-01T12:00:00Z", "data": {}}',
)
AFTER = (
    tagged("w1", 8, contact_id="c5"),
    tagged("w2", 9, "tag-2", "c5"),
    ended(2, "x1", ("w1", "e1", "c1")),
    tagged("z1", 8, contact_id="c4"),
)


Administrators = tuple[connections.Connection, connections.Connection]


@pytest.fixture(autouse=True)
def slices_are_small_and_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_copy, "SLICE_BYTES", 300)
    monkeypatch.setattr(tenant_copy, "SLICE_ROWS", 3)
    monkeypatch.setattr(phases, "STATE_SLICE_CONTACTS", 1)
    monkeypatch.setattr(worker, "DEFER_SECONDS", 0)
    monkeypatch.setattr(outbox, "LEFT_BEHIND_SECONDS", 0)


async def _begin(
    pools: tuple[sa_async.AsyncEngine, sa_async.AsyncEngine],
    administrators: Administrators,
    monkeypatch: pytest.MonkeyPatch,
) -> Cells:
    """Return two cells, the first of which has judged a part of a tenant's events."""
    for administrator in administrators:
        await world.clear(administrator)
    await world.install(administrators[0], GOALS, LOGICS)
    cells = Cells(pools)
    moving.install(monkeypatch, cells)
    await cells.write_cells()
    cells.produce(*BEFORE)
    await cells.work()
    cells.produce(*UNREAD)
    return cells


async def _check(cells: Cells, administrators: Administrators, owner: int = 1) -> None:
    """Assert that one cell has everything, and that both together said what one installation would say."""
    await checks.assert_lawful(administrators[owner], cells.broker, GOALS, LOGICS, cells.messages)
    assert sorted(cells.letters()) == sorted(("invalid_data", value) for value in cells.malformed)
    other = administrators[1 - owner]
    for table in tables.TENANT_TABLES:
        if table not in (tables.goal_hits, cell_tables.moved_tenants):  # hits go with their day
            assert await other.fetchval(f"SELECT count(*) FROM {table.name}") == 0, table.name
    assert await other.fetchval("SELECT count(*) FROM outbox") == 0


async def _judged_by(cells: Cells) -> list[list[int]]:
    """Return which cells judge each record, and one that is yet to come, of each topic."""
    return await moving.owners(
        cells,
        TENANT,
        [
            (partition, offset)
            for partition in moving.PARTITIONS
            for offset in range(len(cells.logs[0].records[partition]) + 1)
        ],
    )


async def test_a_tenant_moves_with_all_its_facts_and_what_comes_meanwhile(
    pools: tuple[sa_async.AsyncEngine, sa_async.AsyncEngine],
    administrators: Administrators,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = await _begin(pools, administrators, monkeypatch)
    await cells.move(TENANT)
    cells.produce(*MEANWHILE, *AFTER)
    await cells.work()
    await _check(cells, administrators)
    await cells.move(TENANT, source=1)
    await _check(cells, administrators, owner=0)


async def test_a_mover_killed_after_any_commit_is_continued_by_another_one(
    pools: tuple[sa_async.AsyncEngine, sa_async.AsyncEngine],
    administrators: Administrators,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step, is_over = 0, False
    while not is_over:
        cells = await _begin(pools, administrators, monkeypatch)
        is_over = await crashes.survives(crashes.after_commit(step), cells.move(TENANT))
        judged_by = await _judged_by(cells)
        assert all(len(by) <= 1 for by in judged_by), f"step {step}: {judged_by}"
        cells.produce(*MEANWHILE)
        await cells.work()
        await cells.move(TENANT)
        assert await _judged_by(cells) == [[1] for _ in await _judged_by(cells)]
        cells.produce(*AFTER)
        await cells.work()
        await _check(cells, administrators)
        step += 1
    assert step >= 30, "fewer commits than there are"


async def test_a_mover_that_crashes_a_little_later_each_time_ends_the_move(
    pools: tuple[sa_async.AsyncEngine, sa_async.AsyncEngine],
    administrators: Administrators,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells, step = await _begin(pools, administrators, monkeypatch), 0
    later: list[events.Event | bytes] = [*MEANWHILE, *AFTER]
    while not await crashes.survives(crashes.after_commit(step), cells.move(TENANT)):
        step += 1
        if later and step % 5 == 0:
            cells.produce(later.pop(0))
            await cells.work_of(step % 2)
    cells.produce(*later)
    await cells.work()
    await _check(cells, administrators)


async def test_a_move_is_given_up_wherever_its_mover_was_killed_before_the_switch(
    pools: tuple[sa_async.AsyncEngine, sa_async.AsyncEngine],
    administrators: Administrators,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step, has_switched = 0, False
    while not has_switched:
        cells = await _begin(pools, administrators, monkeypatch)
        await crashes.survives(crashes.after_commit(step), cells.move(TENANT))
        cells.produce(*MEANWHILE)
        await cells.work()
        has_switched = bool(await administrators[1].fetchval("SELECT count(*) FROM moved_tenants WHERE state = 'here'"))
        if not has_switched:
            await crashes.survives(crashes.after_commit(step % 12), cells.give_up(TENANT))
            await cells.give_up(TENANT)
            cells.produce(*AFTER)
            await cells.work()
            await _check(cells, administrators, owner=0)
            step += 1
    assert step >= 12, "fewer commits than there are"


async def test_of_two_movers_one_stops_and_the_other_ends_the_move(
    pools: tuple[sa_async.AsyncEngine, sa_async.AsyncEngine],
    administrators: Administrators,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for of_first in range(1, 30, 3):
        cells = await _begin(pools, administrators, monkeypatch)
        refused: list[str] = []

        async def moves(name: str, cells: Cells = cells, refused: list[str] = refused) -> None:
            try:
                await cells.move(TENANT)
            except MoveRefusedError:
                refused.append(name)

        order = ["first"] * of_first + ["second"] * 1_000
        parts = {"first": moves("first"), "second": moves("second")}
        await statements.take_turns(administrators[1], parts, order, statements.transactions)
        assert len(refused) <= 1
        await cells.move(TENANT)
        cells.produce(*MEANWHILE, *AFTER)
        await cells.work()
        await _check(cells, administrators)
