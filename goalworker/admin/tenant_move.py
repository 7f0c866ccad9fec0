"""Move of a tenant from this cell to another while its events come: announce, copy, fence, catch up, switch, replay.

goalworker/README.md says why exactly one cell judges each record, and why nothing is lost. A move that was interrupted
anywhere is continued by moving the tenant again, or given up before its switch.
"""

import time
from contextlib import AsyncExitStack
from typing import Final

from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.admin import cell_report, move_arrival, move_sides, tenant_history_move, topic_ends
from goalworker.admin.move_arrival import Arrival, Said
from goalworker.admin.move_sides import OpenSide
from goalworker.domain.phrases import counted
from goalworker.stores import history, tenant_copy, tenant_history, tenant_moves
from goalworker.stores.cell_store import ARRIVING, AWAY, HERE, LEAVING
from goalworker.stores.tenant_moves import MoveRefusedError, Offsets, Placement

# Copies before the fence, at most, each of what changed during the one before; one this small is the last.
COPIES_MAX: Final = 4
SMALL_COPY_ROWS: Final = 1_000


class Estimate(Struct, frozen=True):
    """Rows and bytes that a move would copy, how long the copy takes, and for how long new events would wait."""

    tables: list[tenant_copy.Size]
    rows: int
    bytes: int
    seconds: float
    waiting_seconds: float


async def move(settings: config.Settings, to_url: str, tenant_id: str, said: Said, *, undo: bool = False) -> None:
    """Move a tenant from the database of the settings to another, or continue its move; GoalworkerError.

    undo: give its move up instead.
    """
    async with AsyncExitStack() as stack:
        to_settings = cell_report.with_database(settings, to_url)
        source, target = await move_sides.open_sides(stack, settings, to_settings, tenant_id, undo=undo)
        ends = await stack.enter_async_context(topic_ends.open_ends(settings))
        await (give_up if undo else take_steps)(source, target, tenant_id, ends, said)


async def take_steps(
    source: OpenSide, target: OpenSide, tenant_id: str, ends: topic_ends.TopicEnds, said: Said
) -> None:
    """Take the steps of a move that are left, whichever its mover took before it ended."""
    await _Move(source, target, tenant_id, ends, said).run()


async def give_up(source: OpenSide, target: OpenSide, tenant_id: str, ends: topic_ends.TopicEnds, said: Said) -> None:
    """Leave a tenant where it is, or continue to: the source judges what has come since the fence."""
    await _Move(source, target, tenant_id, ends, said).give_up()


# --- dry run ---


async def estimate(settings: config.Settings, to_url: str, tenant_id: str) -> Estimate:
    """Return what a move would copy, and how long that takes, by a sample that is copied and dropped."""
    async with AsyncExitStack() as stack:
        to_settings = cell_report.with_database(settings, to_url)
        source, target = await move_sides.open_sides(stack, settings, to_settings, tenant_id)
        if source.side.placement is not None and source.side.placement.state in (LEAVING, AWAY):
            raise MoveRefusedError(f"The move of {tenant_id} has begun: run it without --dry-run, and it continues")
        began = time.perf_counter()
        async with tenant_copy.own_transaction(source.pool, "SET LOCAL statement_timeout = 0") as connection:
            sizes = await tenant_copy.sizes(connection, tenant_id)
        scan_seconds = time.perf_counter() - began
        per_row = await _seconds_per_row(source.pool, target.pool, tenant_id, sizes)
    rows = sum(size.rows for size in sizes)
    seconds, waiting = round(rows * per_row, 1), round(scan_seconds + 1, 1)
    return Estimate(sizes, rows, sum(size.bytes for size in sizes), seconds, waiting)


async def _seconds_per_row(
    source: sa_async.AsyncEngine, target: sa_async.AsyncEngine, tenant_id: str, sizes: list[tenant_copy.Size]
) -> float:
    largest = max((size for size in sizes if tenant_copy.is_sampled(size.table)), key=lambda size: size.rows)
    began = time.perf_counter()
    rows = await tenant_copy.copy_sample(source, target, tenant_id, largest.table)
    return (time.perf_counter() - began) / max(rows, 1)


# --- steps ---


class _Move:
    """A move under way, step by step."""

    def __init__(
        self, source: OpenSide, target: OpenSide, tenant_id: str, ends: topic_ends.TopicEnds, said: Said
    ) -> None:
        self._source = source
        self._target = target
        self._tenant_id = tenant_id
        self._ends = ends
        self._said = said
        self._began = time.monotonic()

    async def run(self) -> None:
        """Take the steps that are left."""
        left = self._source.side.placement
        if left is None or left.state == HERE:
            await self._prepare()
        elif left.state == LEAVING:
            await self._claim()
        fence = await self._placement(self._source, LEAVING, AWAY)
        if fence.state == LEAVING:
            await self._go_over(fence)
        there = await self._placement(self._target, HERE)
        await Arrival(self._target, self._tenant_id, there, self._ends, self._said).finish()
        await self._clear_source()

    async def _go_over(self, fence: Placement) -> None:
        """Take the steps between the fence and the departure."""
        before = fence.bounds or {}
        there = await self._placement(self._target, ARRIVING, HERE)
        if there.state == ARRIVING:
            await move_arrival.until_passed(self._ends, self._source, before, "the fence")
            self._said("drained: the source has judged and published everything before the fence")
            await self._catch_up(there)
            await self._switch(there, before)
            there = await self._placement(self._target, HERE)
        arrival = Arrival(self._target, self._tenant_id, there, self._ends, self._said)
        await arrival.replay()
        await self._keep_history(arrival, there, before)
        # Before the target forgets its offsets: a group that is rewound would judge what the other cell has judged.
        await self._depart(fence)

    async def _placement(self, side: OpenSide, *states: str) -> Placement:
        found = await tenant_moves.placement(side.pool, self._tenant_id)
        if found is None or found.state not in states:
            raise MoveRefusedError(f"Somebody else moves {self._tenant_id}: look with `goalworker cells`")
        return found

    async def _claim(self) -> None:
        """Take the move over from its mover, in case that one is only slow."""
        there = self._target.side.placement
        if there is not None and there.state in (ARRIVING, HERE):
            await tenant_moves.claim(self._target.pool, self._tenant_id, there.changed_at)

    # --- before the fence: the source judges ---

    async def _prepare(self) -> None:
        """Copy while the source judges, then fence it."""
        changed_at = await tenant_moves.announce(self._target.pool, self._tenant_id, self._source.stored.cell_id)
        self._said("announced to the target")
        check = tenant_moves.keeping(self._tenant_id, ARRIVING, changed_at)
        if self._target.side.has_rows:
            cleared = await tenant_copy.clear(self._target.pool, self._tenant_id, check, keys_too=True)
            self._said(f"cleared in the target: {counted(cleared, 'row')} of a former move")
        since: int | None = None
        for _ in range(COPIES_MAX):
            async with tenant_copy.own_transaction(self._source.pool) as connection:
                horizon = await tenant_copy.horizon(connection)
            copied = await tenant_copy.copy(self._source.pool, self._target.pool, self._tenant_id, since, check)
            since = horizon
            await tenant_moves.note_copy(self._target.pool, self._tenant_id, changed_at, horizon)
            self._said(f"copied {counted(copied, 'row')}")
            if copied <= SMALL_COPY_ROWS:
                break
        await self._fence()

    async def _fence(self) -> None:
        await self._ends.refresh()
        seen, cell_id = self._source.side.placement, self._target.stored.cell_id
        await move_arrival.with_lock(
            lambda: tenant_moves.fence(self._source.pool, self._tenant_id, cell_id, seen, self._ends.ends)
        )
        self._said("fenced: the source judges what has come so far, and nothing that comes from now on")

    # --- between fence and switch: the source judges what lies before the fence ---

    async def _catch_up(self, there: Placement) -> None:
        check = tenant_moves.keeping(self._tenant_id, ARRIVING, there.changed_at)
        source, target = self._source.pool, self._target.pool
        copied = await tenant_copy.copy(source, target, self._tenant_id, there.copied_until, check)
        self._said(f"caught up: {counted(copied, 'row')} that had changed")

    async def _switch(self, there: Placement, before: Offsets) -> None:
        await self._ends.refresh()
        moment = await tenant_moves.goal_moment(self._source.pool)
        target, tenant_id = self._target.pool, self._tenant_id
        await move_arrival.with_lock(
            lambda: tenant_moves.switch(target, tenant_id, there.changed_at, moment, before, self._ends.ends)
        )
        self._said("switched: the target judges its events")

    # --- after the switch: the target judges ---

    async def _keep_history(self, arrival: Arrival, there: Placement, before: Offsets) -> None:
        source, target, tenant_id = self._source, self._target, self._tenant_id
        check = tenant_moves.keeping(tenant_id, HERE, there.changed_at)
        is_whole = await tenant_history_move.until_kept(source, before, move_arrival.until_none)
        kept = await tenant_history.copy(source.pool, target.pool, tenant_id, check)
        covered = await tenant_history_move.covered(source, tenant_id)
        if not is_whole and covered.history_from is not None:
            self._said("insight of the source stands still: what it has not kept yet is missing in the history")
            covered = history.Coverage(None)
        kept += await arrival.keep_since(before, self._began, covered)
        if kept:
            self._said(f"kept: {counted(kept, 'event')} for explanations and backfills")

    async def _depart(self, fence: Placement) -> None:
        source = self._source.pool
        await move_arrival.with_lock(lambda: tenant_moves.depart(source, self._tenant_id, fence.changed_at))
        self._said("departed: the source knows where the tenant is now")

    async def _clear_source(self) -> None:
        gone = await self._placement(self._source, AWAY)
        check = tenant_moves.keeping(self._tenant_id, AWAY, gone.changed_at)
        cleared = await tenant_copy.clear(self._source.pool, self._tenant_id, check, keys_too=False)
        self._said(f"cleared in the source: {counted(cleared, 'row')}")

    # --- giving up ---

    async def give_up(self) -> None:
        """Take the tenant back: first from the target, which can no longer switch then."""
        there = self._target.side.placement
        if there is not None and there.state == ARRIVING:
            await tenant_moves.withdraw(self._target.pool, self._tenant_id, there.changed_at)
            self._said("withdrawn from the target")
        fence = self._source.side.placement
        if fence is not None and fence.state == LEAVING:
            await self._ends.refresh()
            await move_arrival.with_lock(lambda: self._take_back(fence))
            self._said("taken back: the source judges its events")
        await self._judge_since()
        await self._clear_target()

    async def _take_back(self, fence: Placement) -> None:
        source, before = self._source.pool, fence.bounds or {}
        covered = await tenant_history_move.covered(self._source, self._tenant_id)
        await tenant_moves.take_back(source, self._tenant_id, fence.changed_at, before, covered, self._ends.ends)

    async def _judge_since(self) -> None:
        """Judge what has come since the fence, if there was one."""
        here = await tenant_moves.placement(self._source.pool, self._tenant_id)
        if here is None or here.bounds is None:
            return
        arrival = Arrival(self._source, self._tenant_id, here, self._ends, self._said)
        await arrival.replay()
        if here.keep_from is not None:
            before = history.Coverage(here.history_from, all_since=here.all_since)
            await arrival.keep_since(here.keep_from, self._began, before)
        await arrival.finish()

    async def _clear_target(self) -> None:
        there = await tenant_moves.placement(self._target.pool, self._tenant_id)
        if there is None or there.state != AWAY:
            return
        check = tenant_moves.keeping(self._tenant_id, AWAY, there.changed_at)
        cleared = await tenant_copy.clear(self._target.pool, self._tenant_id, check, keys_too=True)
        self._said(f"cleared in the target: {counted(cleared, 'row')}")
