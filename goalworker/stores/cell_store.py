"""The cell that a database is, and the tenants that were moved (contract section 10)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from msgspec import Struct, json
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.domain.cells import Cell, Handover, format_buckets, parse_buckets
from goalworker.errors import GoalworkerError
from goalworker.postgres import connections

ARRIVING, HERE, LEAVING, AWAY = "arriving", "here", "leaving", "away"

Bounds = dict[str, dict[str, int]]
"""Offsets by topic and partition, as JSON holds them."""


class ForeignTenantError(GoalworkerError):
    """A tenant belongs to another cell, where its goals and everything else of it are."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            f"The tenant {tenant_id} belongs to another cell; use its API, or its database with `goalworker`"
        )


class StoredCell(Struct, frozen=True):
    """The cell that a database is, as its workers were last started."""

    cell_id: UUID
    group_id: str
    buckets: frozenset[int]
    trust_keys: bool
    written_at: datetime


class MovedTenant(Struct, frozen=True):
    """A tenant that was moved, or is being moved; other_cell is where it came from or went to."""

    tenant_id: str
    state: str
    other_cell: UUID
    changed_at: datetime

    @property
    def is_here(self) -> bool:
        """True if the tenant is this database's."""
        return self.state == HERE


_WRITE: Final = """
INSERT INTO cell AS stored VALUES (1, $1, $2, $3, $4, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET group_id = excluded.group_id, buckets = excluded.buckets,
    trust_keys = excluded.trust_keys, written_at = excluded.written_at
RETURNING cell_id, group_id, buckets, trust_keys, written_at
"""
_READ: Final = "SELECT cell_id, group_id, buckets, trust_keys, written_at FROM cell"
_MOVED: Final = "SELECT tenant_id, state, other_cell, changed_at FROM moved_tenants ORDER BY tenant_id"
_WHERE_MOVED: Final = "SELECT tenant_id, state, bounds::text FROM moved_tenants"


async def write(connection: connections.Connection, settings: config.Settings) -> StoredCell:
    """Write what the cell owns, as its settings say, and return the cell."""
    cell, group_id = settings.cell, settings.kafka.group_id
    row = await connection.fetchrow(_WRITE, uuid4(), group_id, format_buckets(cell.buckets), cell.trust_keys)
    return _stored(row)


async def read(connection: connections.Connection) -> StoredCell | None:
    """Return the cell, None if no worker of this release was ever started on the database."""
    row = await connection.fetchrow(_READ)
    return None if row is None else _stored(row)


async def moved_tenants(connection: connections.Connection) -> list[MovedTenant]:
    """Return the tenants that were moved here or away."""
    return [MovedTenant(*row) for row in await connection.fetch(_MOVED)]


async def owned(connection: connections.Connection, buckets: frozenset[int]) -> Cell:
    """Return the tenants that a cell with these buckets owns, moved ones considered: those that its API answers for."""
    return Cell(buckets, {tenant_id: state == HERE for tenant_id, state, _ in await connection.fetch(_WHERE_MOVED)})


async def judged(connection: connections.Connection, buckets: frozenset[int]) -> Cell:
    """Return the tenants whose records a cell judges; of those on the move, the records before or from an offset."""
    rows = await connection.fetch(_WHERE_MOVED)
    moved = {tenant_id: state in (HERE, LEAVING) for tenant_id, state, _ in rows}
    handovers = {
        tenant_id: Handover(offsets_of(bounds), state == LEAVING) for tenant_id, state, bounds in rows if bounds
    }
    return Cell(buckets, moved, handovers)


async def kept(connection: connections.Connection, buckets: frozenset[int]) -> Cell:
    """Return the tenants whose events a cell keeps: also those on the move, since a copy leaves out what it has."""
    return Cell(buckets, {tenant_id: state != AWAY for tenant_id, state, _ in await connection.fetch(_WHERE_MOVED)})


def offsets_of(bounds: str) -> Mapping[tuple[str, int], int]:
    """Return the offsets by partition that JSON holds."""
    found = json.decode(bounds, type=Bounds)
    return {(topic, int(number)): offset for topic, offsets in found.items() for number, offset in offsets.items()}


async def owns(pool: sa_async.AsyncEngine, tenant_id: str, buckets: frozenset[int], operation: str) -> bool:
    """Say whether a tenant is a cell's with these buckets, as the API's role, which sees no other tenant."""
    async with connections.tenant_transaction(pool, tenant_id, operation) as connection:
        return (await owned(await connections.driver_of(connection), buckets)).owns(tenant_id)


def _stored(row: tuple[UUID, str, str, bool, datetime]) -> StoredCell:
    cell_id, group_id, buckets, trust_keys, written_at = row
    return StoredCell(cell_id, group_id, parse_buckets(buckets), trust_keys, written_at)
