"""Kept events of a tenant on the move: those that the source has, and those that neither insight could keep."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

from aiokafka import TopicPartition
from msgspec import Struct

from goalworker.admin import tenant_replay
from goalworker.admin.move_sides import OpenSide
from goalworker.admin.topic_ends import TopicEnds, sum_left
from goalworker.domain import facts
from goalworker.insight import fetched_events
from goalworker.insight.buffer import Buffer
from goalworker.postgres import connections, tables
from goalworker.stores import enrolled_contacts, history, tenant_copy, tenant_history
from goalworker.stores.tenant_moves import Offsets

# Seconds after which each insight process knows which tenants are on the move: it looks every two.
NOTICE_SECONDS: Final = 5.0

Wait = Callable[[Callable[[], Awaitable[int]]], Awaitable[bool]]
"""Waits until nothing is left, and returns False where it does not become less."""


class Kept(Struct, frozen=True):
    """Events that a mover kept, and since when the cell keeps them by itself; is_whole if it has all between."""

    events: int
    since: datetime
    is_whole: bool


def arrived(before: history.Coverage, kept: Kept) -> history.Arrived:
    """Return how far the history of a tenant goes back: what was covered before, if nothing is missing behind it."""
    if before.history_from is None or not kept.is_whole:
        return history.Arrived(kept.since, kept.since, kept.since)
    return history.Arrived(before.history_from, before.all_since or kept.since, kept.since)


async def covered(side: OpenSide, tenant_id: str) -> history.Coverage:
    """Return what history of a cell covers of a tenant."""
    async with connections.transaction(side.pool, tables.WORKER_ROLE, "cli") as connection:
        return await history.coverage(connection, tenant_id)


async def positions(side: OpenSide) -> Offsets:
    """Return up to where insight has kept the events of each partition; nothing where it keeps none."""
    async with connections.transaction(side.pool, tables.WORKER_ROLE, "cli") as connection:
        found = await tenant_history.positions(connection)
    return {TopicPartition(*partition): offset for partition, offset in found.items()}


async def until_kept(source: OpenSide, fence: Offsets, wait: Wait) -> bool:
    """Wait until insight of the source has kept the events before the fence; False where some of them are missing."""
    lifecycle = source.settings.topics.workflow_lifecycle
    kept = {partition: offset for partition, offset in fence.items() if offset and partition.topic != lifecycle}
    are_read = (await positions(source)).keys() >= kept.keys()

    async def left() -> int:
        reached = await positions(source)
        return sum_left(reached, {}, {partition: offset for partition, offset in kept.items() if partition in reached})

    return await wait(left) and are_read


async def keep_between(
    target: OpenSide, ends: TopicEnds, tenant_id: str, fence: Offsets, announced: float, check: tenant_copy.Check
) -> Kept:
    """Keep the events since the fence, up to where insight of the target surely keeps them itself.

    `announced` is a moment of time.monotonic() after the tenant was announced.
    """
    if not await positions(target):
        return Kept(0, await connections.now(target.pool), is_whole=False)
    await asyncio.sleep(max(announced + NOTICE_SECONDS - time.monotonic(), 0))
    since = await connections.now(target.pool)
    await ends.refresh()
    until = await ends.ends()
    decoder = tenant_replay.decoder_of(target.settings, tenant_id)
    topics = target.settings.topics
    until = {partition: end for partition, end in until.items() if partition.topic != topics.workflow_lifecycle}
    kept = 0
    async with aclosing(tenant_replay.fetched_between(target.settings, fence, until)) as parts:
        async for fetched in parts:
            now, buffer = datetime.now(UTC), Buffer()
            for partition, records in fetched.items():
                for of_day in fetched_events.by_day(records):
                    buffer.add(fetched_events.decode(decoder, partition, of_day, topics, now), now)
            kept += await _keep(target, buffer, now, check)
    return Kept(kept, since, is_whole=True)


async def _keep(target: OpenSide, buffer: Buffer, now: datetime, check: tenant_copy.Check) -> int:
    contacts = buffer.contacts()
    if not contacts:
        return 0
    history, lateness = target.settings.history, target.settings.events.lateness
    async with connections.transaction(target.pool, tables.WORKER_ROLE, "cli") as connection:
        found = await enrolled_contacts.enrolled(connection, contacts, min(buffer.oldest, now) - lateness)

    def is_kept(contact: facts.PersonKey) -> bool:
        return history.keep == "all" or contact in found

    rows = buffer.rows(is_kept)
    return await tenant_history.add(target.pool, rows, check) if rows else 0
