"""Arrival of a tenant in the cell that judges it from now on: the steps after a switch, and after a move given up."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from goalworker import errors
from goalworker.admin import tenant_history_move, tenant_replay
from goalworker.admin.move_sides import OpenSide
from goalworker.admin.topic_ends import TopicEnds
from goalworker.domain.phrases import counted
from goalworker.stores import goal_store, history, tenant_moves
from goalworker.stores.cell_store import HERE
from goalworker.stores.tenant_moves import Offsets, Placement

# Seconds without progress after which a move no longer waits for workers.
STALL_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.2
LOCK_ATTEMPTS: Final = 10

Said = Callable[[str], None]
"""Told each step once it is taken, in a sentence."""


class Arrival:
    """A tenant that a cell judges from the offsets of its row on; what lies between the fence and these is replayed."""

    def __init__(self, side: OpenSide, tenant_id: str, place: Placement, ends: TopicEnds, said: Said) -> None:
        self._side = side
        self._tenant_id = tenant_id
        self._place = place
        self._ends = ends
        self._said = said

    async def replay(self) -> None:
        """Judge what came between fence and switch, which no worker takes."""
        if self._place.replay_from is None:
            return
        until = self._place.bounds or {}
        records = await tenant_replay.replay(
            self._side.settings, self._side.pool, self._tenant_id, self._place.replay_from, until, self._advance
        )
        await self._advance(None)
        self._said(f"replayed: {counted(records, 'record')} that came between fence and switch")

    async def _advance(self, reached: Offsets | None) -> None:
        await tenant_moves.advance(self._side.pool, self._tenant_id, self._place.changed_at, reached)

    async def keep_since(self, fence: Offsets, announced: float, before: history.Coverage) -> int:
        """Keep the events that insight could not know to be kept, and return their number.

        before: what history covered of the tenant up to the fence.
        """
        tenant_id, changed_at = self._tenant_id, self._place.changed_at
        check = tenant_moves.keeping(tenant_id, HERE, changed_at)
        kept = await tenant_history_move.keep_between(self._side, self._ends, tenant_id, fence, announced, check)
        arrived = tenant_history_move.arrived(before, kept)
        await tenant_moves.note_history(self._side.pool, tenant_id, changed_at, arrived)
        return kept.events

    async def finish(self) -> None:
        """Wait until the cell's workers are beyond the switch, and forget the offsets."""
        if self._place.bounds is None:
            return
        await until_passed(self._ends, self._side, self._place.bounds, "the switch")
        await with_lock(lambda: tenant_moves.finish(self._side.pool, self._tenant_id, self._place.changed_at))


async def with_lock(step: Callable[[], Awaitable[None]]) -> None:
    """Take a step that needs the lock of the goals, which workers may hold for a while."""
    for attempt in range(LOCK_ATTEMPTS):
        try:
            await step()
        except goal_store.LockBusyError:
            if attempt == LOCK_ATTEMPTS - 1:
                raise
        else:
            return


async def until_passed(ends: TopicEnds, side: OpenSide, until: Offsets, mark: str) -> None:
    """Wait until a cell's workers have committed all offsets before a mark; GoalworkerError where they stand still."""
    group_id = side.stored.group_id
    if await until_none(lambda: ends.left(group_id, until)):
        return
    left = counted(await ends.left(group_id, until), "record")
    standing = f"Workers of {side.side.name} stand still, {left} before {mark}"
    remedy = "see that they run and that no topic is paused there, then run this again, and the move continues"
    raise errors.GoalworkerError(f"{standing}: {remedy}")


async def until_none(read_left: Callable[[], Awaitable[int]]) -> bool:
    """Wait until nothing is left; return False once it has not become less for STALL_SECONDS."""
    least = await read_left()
    deadline = time.monotonic() + STALL_SECONDS
    while least:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_SECONDS)
        left = await read_left()
        if left < least:
            least, deadline = left, time.monotonic() + STALL_SECONDS
    return True
