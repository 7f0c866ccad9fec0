"""Steps of a tenant's move from one database to another (contract section 10).

Each step is one transaction in one database, and checks that nobody took another step meanwhile: `changed_at` of the
tenant's row is what the mover saw. Fence and switch take the lock of the goals and raise their revision, so workers
notice them before they record another fact (design, Goal freshness). Under the lock they ask for the ends of the
topics: what a worker recorded before lies before these ends, and what it records later it tells apart by them.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
from aiokafka import TopicPartition
from msgspec import Struct, json
from sqlalchemy.ext import asyncio as sa_async

from goalworker.errors import GoalworkerError
from goalworker.postgres import connections, tables
from goalworker.stores import cell_store, goal_store, history, tenant_copy

T = TypeVar("T")

Offsets = Mapping[TopicPartition, int]
ReadEnds = Callable[[], Awaitable[Offsets]]
"""Returns the offset of each partition from which on no consumer can have read a record yet."""


class MoveRefusedError(GoalworkerError):
    """A tenant cannot be moved now."""


class Placement(Struct, frozen=True):
    """Row of a tenant in one database: its state there, and how far its move has come."""

    state: str
    other_cell: UUID
    changed_at: datetime
    copied_until: int | None = None
    bounds: Offsets | None = None
    replay_from: Offsets | None = None
    keep_from: Offsets | None = None
    history_from: datetime | None = None
    all_since: datetime | None = None


_PLACEMENT: Final = """
SELECT state, other_cell, changed_at, copied_until, bounds::text, replay_from::text, keep_from::text,
    history_from, all_since
FROM moved_tenants WHERE tenant_id = $1
"""
_ANNOUNCE: Final = """
INSERT INTO moved_tenants AS known (tenant_id, state, other_cell, changed_at)
VALUES ($1, 'arriving', $2, clock_timestamp())
ON CONFLICT (tenant_id) DO UPDATE SET state = 'arriving', other_cell = excluded.other_cell,
    changed_at = excluded.changed_at, copied_until = NULL, bounds = NULL, replay_from = NULL,
    history_from = NULL, all_since = NULL, kept_since = NULL, keep_from = NULL
    WHERE known.state IN ('arriving', 'away') AND known.bounds IS NULL
RETURNING changed_at
"""
_CLAIM: Final = """
UPDATE moved_tenants SET changed_at = clock_timestamp() WHERE tenant_id = $1 AND changed_at = $2 RETURNING changed_at
"""
_NOTE_COPY: Final = """
UPDATE moved_tenants SET copied_until = $3 WHERE tenant_id = $1 AND state = 'arriving' AND changed_at = $2
RETURNING true
"""
_KEEP: Final = "SELECT true FROM moved_tenants WHERE tenant_id = $1 AND state = $2 AND changed_at = $3 FOR SHARE"
_FENCE: Final = """
INSERT INTO moved_tenants AS known (tenant_id, state, other_cell, changed_at, bounds)
VALUES ($1, 'leaving', $2, clock_timestamp(), $4::jsonb)
ON CONFLICT (tenant_id) DO UPDATE SET state = 'leaving', other_cell = excluded.other_cell,
    changed_at = excluded.changed_at, bounds = excluded.bounds,
    history_from = coalesce(known.history_from, known.changed_at),
    all_since = coalesce(known.all_since, known.changed_at),
    kept_since = coalesce(known.kept_since, known.changed_at)
    WHERE known.state = 'here' AND known.changed_at = $3 AND known.bounds IS NULL AND known.replay_from IS NULL
RETURNING changed_at
"""
_UNFINISHED_JOBS: Final = """
SELECT count(*) FROM jobs WHERE tenant_id = $1 AND kind = 'backfill' AND state IN ('queued', 'running')
"""
_SWITCH: Final = """
UPDATE moved_tenants SET state = 'here', bounds = $3::jsonb, replay_from = $4::jsonb, keep_from = $4::jsonb
WHERE tenant_id = $1 AND state = 'arriving' AND changed_at = $2 RETURNING true
"""
# Moments of the goals that come along are not later than those of the next goals.
_REVISE: Final = """
UPDATE goal_revision SET revision = revision + 1,
    moment = greatest(clock_timestamp(), moment + interval '1 us', $1::timestamptz + interval '1 us')
RETURNING revision
"""
_ADVANCE: Final = """
UPDATE moved_tenants SET replay_from = $3::jsonb WHERE tenant_id = $1 AND state = 'here' AND changed_at = $2
RETURNING true
"""
_NOTE_HISTORY: Final = """
UPDATE moved_tenants SET history_from = $3, all_since = $4, kept_since = $5, keep_from = NULL
WHERE tenant_id = $1 AND state = 'here' AND changed_at = $2 RETURNING true
"""
_FINISH: Final = """
UPDATE moved_tenants SET bounds = NULL, copied_until = NULL
WHERE tenant_id = $1 AND state = 'here' AND changed_at = $2 AND replay_from IS NULL RETURNING true
"""
_DEPART: Final = """
UPDATE moved_tenants SET state = 'away', bounds = NULL WHERE tenant_id = $1 AND state = 'leaving' AND changed_at = $2
RETURNING true
"""
_WITHDRAW: Final = """
UPDATE moved_tenants SET state = 'away', copied_until = NULL
WHERE tenant_id = $1 AND state = 'arriving' AND changed_at = $2 RETURNING changed_at
"""
_TAKE_BACK: Final = """
UPDATE moved_tenants SET state = 'here', bounds = $3::jsonb, replay_from = $4::jsonb, keep_from = $4::jsonb,
    history_from = $5, all_since = $6
WHERE tenant_id = $1 AND state = 'leaving' AND changed_at = $2 RETURNING true
"""
_LOCK: Final = f"SELECT pg_advisory_xact_lock({connections.GOAL_LOCK})"
_MOMENT: Final = "SELECT moment FROM goal_revision"


async def placement(pool: sa_async.AsyncEngine, tenant_id: str) -> Placement | None:
    """Return the row of a tenant, None for one that was never moved here or away."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "cli") as connection:
        row = await connection.fetchrow(_PLACEMENT, tenant_id)
    if row is None:
        return None
    state, other_cell, changed_at, copied_until, bounds, replay_from, keep_from, *times = row
    offsets = (_offsets(bounds), _offsets(replay_from), _offsets(keep_from))
    return Placement(state, other_cell, changed_at, copied_until, *offsets, *times)


def keeping(tenant_id: str, state: str, changed_at: datetime) -> tenant_copy.Check:
    """Return a check that lets nobody move a tenant on before a transaction ends; MoveRefusedError if somebody has."""

    async def check(connection: connections.Connection) -> None:
        _unless_moved(tenant_id, await connection.fetchval(_KEEP, tenant_id, state, changed_at))

    return check


# --- before the fence: the source judges ---


async def announce(target: sa_async.AsyncEngine, tenant_id: str, source_cell: UUID) -> datetime:
    """Let a tenant arrive, which the target does not judge yet; return when."""
    return await _step(target, _ANNOUNCE, tenant_id, source_cell)


async def note_copy(target: sa_async.AsyncEngine, tenant_id: str, changed_at: datetime, copied_until: int) -> None:
    """Note which transactions of the source are copied."""
    await _step(target, _NOTE_COPY, tenant_id, changed_at, copied_until)


async def fence(
    source: sa_async.AsyncEngine, tenant_id: str, target_cell: UUID, seen: Placement | None, read_ends: ReadEnds
) -> None:
    """Leave to the target what comes after the present ends of the topics; the source still judges what lies before."""
    before = None if seen is None else seen.changed_at
    async with tenant_copy.own_transaction(source) as connection:
        await _lock(connection)
        if count := await connection.fetchval(_UNFINISHED_JOBS, tenant_id):
            raise MoveRefusedError(f"{tenant_id} has {count} unfinished backfills: wait for them, or cancel them")
        bounds = _json(await read_ends())
        _unless_moved(tenant_id, await connection.fetchval(_FENCE, tenant_id, target_cell, before, bounds))
        await connection.fetchval(_REVISE, None)


# --- between fence and switch: the source judges what lies before the fence ---


async def claim(pool: sa_async.AsyncEngine, tenant_id: str, changed_at: datetime) -> datetime:
    """Take a move over from the mover that began it, whose next step fails; return the new `changed_at`."""
    return await _step(pool, _CLAIM, tenant_id, changed_at)


async def goal_moment(source: sa_async.AsyncEngine) -> datetime:
    """Return the moment of the source's last change of a goal, or of the fence."""
    async with connections.transaction(source, tables.WORKER_ROLE, "cli") as connection:
        moment: datetime = await connection.fetchval(_MOMENT)
    return moment


async def switch(
    target: sa_async.AsyncEngine,
    tenant_id: str,
    changed_at: datetime,
    moment: datetime,
    replay_from: Offsets,
    read_ends: ReadEnds,
) -> None:
    """Let the target judge a tenant by the goals that were copied; what comes after the present ends by its workers."""
    async with tenant_copy.own_transaction(target) as connection:
        await _begin_here(connection, _SWITCH, tenant_id, changed_at, replay_from, read_ends)
        revision = await connection.fetchval(_REVISE, moment)
        await tenant_copy.goals_are_new(connection, tenant_id, revision)


# --- after the switch: the target judges ---


async def advance(
    target: sa_async.AsyncEngine, tenant_id: str, changed_at: datetime, replay_from: Offsets | None
) -> None:
    """Note from which offsets the events before the switch are still to be read, None once all are."""
    await _step(target, _ADVANCE, tenant_id, changed_at, None if replay_from is None else _json(replay_from))


async def note_history(
    target: sa_async.AsyncEngine, tenant_id: str, changed_at: datetime, arrived: history.Arrived
) -> None:
    """Note how far the history of a tenant goes back, once all its events of the move are kept."""
    times = (arrived.history_from, arrived.all_since, arrived.kept_since)
    await _step(target, _NOTE_HISTORY, tenant_id, changed_at, *times)


async def finish(target: sa_async.AsyncEngine, tenant_id: str, changed_at: datetime) -> None:
    """Forget where the target's workers began, once all of them are beyond."""
    await _revised_step(target, _FINISH, tenant_id, changed_at)


async def depart(source: sa_async.AsyncEngine, tenant_id: str, changed_at: datetime) -> None:
    """Let the source skip every record of a tenant, whatever its offset."""
    await _revised_step(source, _DEPART, tenant_id, changed_at)


# --- giving up before the switch ---


async def withdraw(target: sa_async.AsyncEngine, tenant_id: str, changed_at: datetime) -> None:
    """Let a tenant not arrive; no mover can switch to the target any more."""
    await _step(target, _WITHDRAW, tenant_id, changed_at)


async def take_back(
    source: sa_async.AsyncEngine,
    tenant_id: str,
    changed_at: datetime,
    replay_from: Offsets,
    covered: history.Coverage,
    read_ends: ReadEnds,
) -> None:
    """Let the source judge a tenant that was withdrawn, what comes after the present ends by its workers.

    covered is what its history covers of the tenant up to the fence.
    """
    times = (covered.history_from, covered.all_since)
    async with tenant_copy.own_transaction(source) as connection:
        await _begin_here(connection, _TAKE_BACK, tenant_id, changed_at, replay_from, read_ends, *times)
        await connection.fetchval(_REVISE, None)


async def _begin_here(
    connection: connections.Connection,
    sql: str,
    tenant_id: str,
    changed_at: datetime,
    replay_from: Offsets,
    read_ends: ReadEnds,
    *times: datetime | None,
) -> None:
    """Let this cell judge a tenant: its workers from the present ends on, a replay what came before them."""
    await _lock(connection)
    bounds = _json(await read_ends())
    _unless_moved(tenant_id, await connection.fetchval(sql, tenant_id, changed_at, bounds, _json(replay_from), *times))


async def _step(pool: sa_async.AsyncEngine, sql: str, tenant_id: str, *values: object) -> datetime:
    async with connections.transaction(pool, tables.WORKER_ROLE, "cli") as connection:
        found: datetime = _unless_moved(tenant_id, await connection.fetchval(sql, tenant_id, *values))
    return found


async def _revised_step(pool: sa_async.AsyncEngine, sql: str, tenant_id: str, changed_at: datetime) -> None:
    """Take a step that workers notice; whether they do so at once makes no difference."""
    async with tenant_copy.own_transaction(pool) as connection:
        await _lock(connection)
        _unless_moved(tenant_id, await connection.fetchval(sql, tenant_id, changed_at))
        await connection.fetchval(_REVISE, None)


async def _lock(connection: connections.Connection) -> None:
    try:
        await connection.execute(_LOCK)
    except asyncpg.LockNotAvailableError:
        raise goal_store.LockBusyError from None


def _unless_moved(tenant_id: str, found: T | None) -> T:
    if found is None:
        raise MoveRefusedError(f"Somebody else moves {tenant_id}: look with `goalworker cells`, then run this again")
    return found


def _offsets(text: str | None) -> Offsets | None:
    if text is None:
        return None
    return {TopicPartition(*partition): offset for partition, offset in cell_store.offsets_of(text).items()}


def _json(offsets: Offsets) -> str:
    by_topic: cell_store.Bounds = {}
    for partition, offset in offsets.items():
        by_topic.setdefault(partition.topic, {})[str(partition.partition)] = offset
    return json.encode(by_topic).decode()
