"""The two databases of a tenant's move, and what forbids the move (contract section 10)."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Final

from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config, errors
from goalworker.admin import database_connection
from goalworker.domain.cells import Cell
from goalworker.domain.faults import printable
from goalworker.postgres import connections, migrations, tables
from goalworker.stores import cell_store, move_rights, tenant_copy, tenant_moves
from goalworker.stores.cell_store import ARRIVING, AWAY, HERE, LEAVING, StoredCell
from goalworker.stores.tenant_moves import MoveRefusedError, Placement

# Seconds after which a cell whose workers have written no progress counts as one without workers.
WORKING_SECONDS: Final = 30
# Seconds that a statement of a move may take: a large table takes hours.
STATEMENT_SECONDS: Final = 7 * 86_400
_STATE: Final = """
SELECT (SELECT enrollment_tracking FROM installation),
    EXISTS (SELECT FROM progress WHERE written_at > clock_timestamp() - make_interval(secs => $1)),
    ARRAY(SELECT topic FROM paused_topics WHERE is_paused ORDER BY topic)
"""
THIS, THAT = "the database of this cell", "the database of --to"


class Side(Struct, frozen=True):
    """A database of a move as it says itself; name is how sentences call it.

    is_working: a worker has written progress lately. tracking is None where no worker was ever started.
    """

    name: str
    stored: StoredCell | None
    revision: str | None = None
    tracking: bool | None = None
    is_working: bool = True
    paused: tuple[str, ...] = ()
    placement: Placement | None = None
    has_rows: bool = False

    def owns(self, tenant_id: str) -> bool:
        """Say whether the tenant is this cell's, until a move ends."""
        if self.placement is not None:
            return self.placement.state in (HERE, LEAVING)
        return self.stored is not None and Cell(self.stored.buckets).owns(tenant_id)


class OpenSide(Struct, frozen=True):
    """A side with its pool, and the settings of its cell."""

    pool: sa_async.AsyncEngine
    settings: config.Settings
    side: Side

    @property
    def stored(self) -> StoredCell:
        """The cell, which a side has once the move is permitted."""
        if self.side.stored is None:
            raise MoveRefusedError(f"{self.side.name} is not the database of a cell")
        return self.side.stored


def problems(source: Side, target: Side, tenant_id: str, *, undo: bool = False) -> Iterator[str]:
    """Yield what forbids to begin or to continue a move, or to give it up; the first of them is worth saying."""
    tenant = printable(tenant_id)
    if source.revision != target.revision:
        both = f"{source.revision} in {source.name} and {target.revision} in {target.name}"
        yield f"The cells are of different releases: the schema is {both}. Upgrade both, and all their workers"
    for side in (source, target):
        if side.stored is None:
            yield f"{side.name} is not the database of a cell yet: start the workers of that cell"
    if source.stored is None or target.stored is None:
        return
    if source.stored.cell_id == target.stored.cell_id:
        yield "--to is this cell itself, or a copy of its database: name the database of another cell"
    if source.stored.group_id == target.stored.group_id:
        yield f"Both cells use the consumer group {source.stored.group_id}: give each its GOALWORKER_KAFKA__GROUP_ID"
    if source.stored.trust_keys != target.stored.trust_keys:
        yield "GOALWORKER_CELL__TRUST_KEYS differs between the cells: set it in both or in none"
    if source.tracking != target.tracking:
        yield "GOALWORKER_ENROLLMENTS__TRACKING differs between the cells, and with it what counts: make them alike"
    for side in (source, target):
        if not side.is_working:
            silence = f"No worker of {side.name} has written progress for {WORKING_SECONDS} s"
            yield f"{silence}: start the workers of that cell"
        if side.paused:
            topics = ", ".join(side.paused)
            yield f"{topics} is paused in {side.name}, so its events would wait: see `goalworker topics resume` there"
    yield from (_not_given_up if undo else _owners)(source, target, tenant)


def _not_given_up(source: Side, target: Side, tenant: str) -> Iterator[str]:
    place, there = source.placement, target.placement
    if source.stored is None or target.stored is None:
        return
    if place is not None and place.state == LEAVING and place.other_cell != target.stored.cell_id:
        yield f"{tenant} is moving to another cell, {place.other_cell}: name its database with --to"
    elif there is not None and there.state == HERE:
        yield f"{tenant} is in {target.name} already: move it back, with the settings of that cell"
    elif not source.owns(tenant):
        yield str(cell_store.ForeignTenantError(tenant))


def _owners(source: Side, target: Side, tenant: str) -> Iterator[str]:
    owns, place, there = source.owns(tenant), source.placement, target.placement
    if source.stored is None or target.stored is None:
        return
    if place is not None and place.other_cell == target.stored.cell_id and place.state in (LEAVING, AWAY):
        # Such a move is continued.
        if place.state == LEAVING and (there is None or there.state not in (ARRIVING, HERE)):
            unknown = f"{target.name} does not know that {tenant} is on its way there"
            yield f"{unknown}: name the database that it was sent to, or give the move up with --undo"
        elif place.state == AWAY and (there is None or there.state != HERE):
            yield str(cell_store.ForeignTenantError(tenant))
        return
    if not owns:
        yield str(cell_store.ForeignTenantError(tenant))
    elif place is not None and place.state == LEAVING:
        yield f"{tenant} is moving to another cell, {place.other_cell}: continue that move with the same --to"
    elif place is not None and (place.bounds is not None or place.replay_from is not None):
        yield (
            f"The move of {tenant} to this cell is unfinished: run it again where it began, or, if it was given up, "
            "run --undo again"
        )
    elif target.owns(tenant):
        yield f"Both cells own {tenant}: see `goalworker cells check`"
    elif target.has_rows and there is None:
        rows = f"{target.name} has rows of {tenant} although it was never moved there, and they would be overwritten"
        yield f"{rows}: find out which are right, and delete them there"


async def open_sides(
    stack: AsyncExitStack, source: config.Settings, target: config.Settings, tenant_id: str, *, undo: bool = False
) -> tuple[OpenSide, OpenSide]:
    """Return both sides of a move; MoveRefusedError where they do not fit together, or the tenant cannot be moved."""
    opened = (
        await read(await _pool(stack, source, THIS), source, tenant_id, THIS),
        await read(await _pool(stack, target, THAT), target, tenant_id, THAT),
    )
    for problem in problems(opened[0].side, opened[1].side, tenant_id, undo=undo):
        raise MoveRefusedError(problem)
    return opened


async def _pool(stack: AsyncExitStack, settings: config.Settings, name: str) -> sa_async.AsyncEngine:
    patient = {"statement_timeout_seconds": STATEMENT_SECONDS}
    settings = settings.model_copy(update={"database": settings.database.model_copy(update=patient)})
    try:
        return await stack.enter_async_context(database_connection.pool(settings))
    except errors.MigrationsBehindError as error:
        raise errors.MigrationsBehindError(f"{name}: {error}") from None


async def read(pool: sa_async.AsyncEngine, settings: config.Settings, tenant_id: str, name: str) -> OpenSide:
    """Return what a database says about itself and the tenant."""
    async with tenant_copy.own_transaction(pool) as connection:
        if problem := await move_rights.problem(connection, name):
            raise MoveRefusedError(problem)
        has_rows = await tenant_copy.has_rows(connection, tenant_id)
    async with connections.transaction(pool, tables.WORKER_ROLE, "cli") as connection:
        stored = await cell_store.read(connection)
        tracking, is_working, paused = await connection.fetchrow(_STATE, float(WORKING_SECONDS))
    side = Side(
        name=name,
        stored=stored,
        revision=await migrations.current(pool),
        tracking=tracking,
        is_working=is_working,
        paused=tuple(paused),
        placement=await tenant_moves.placement(pool, tenant_id),
        has_rows=has_rows,
    )
    return OpenSide(pool, _of_group(settings, stored), side)


def _of_group(settings: config.Settings, stored: StoredCell | None) -> config.Settings:
    """Return the settings with the consumer group of a cell."""
    if stored is None:
        return settings
    group = {"group_id": stored.group_id}
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=group)})
