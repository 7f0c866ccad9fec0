"""Check that a caller's tenant is this cell's (contract section 10)."""

import time
from typing import Final

from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain.cells import Cell
from goalworker.postgres import connections, tables
from goalworker.stores import cell_store

# Seconds for which moved tenants are remembered. Writes of a tenant that was moved meanwhile are refused when they are
# written.
REMEMBERED_SECONDS: Final = 1.0


class OwnTenants:
    """The tenants that a cell with these buckets owns."""

    def __init__(self, pool: sa_async.AsyncEngine, buckets: frozenset[int]) -> None:
        self._pool = pool
        self._buckets = buckets
        self._cell: Cell | None = None
        self._read_at = 0.0

    async def check(self, tenant_id: str) -> None:
        """Raise ForeignTenantError for a tenant of another cell."""
        if not (await self._read()).owns(tenant_id):
            raise cell_store.ForeignTenantError(tenant_id)

    async def _read(self) -> Cell:
        now = time.monotonic()
        if self._cell is None or now - self._read_at > REMEMBERED_SECONDS:
            async with connections.transaction(self._pool, tables.API_ROLE, "keys") as connection:
                self._cell = await cell_store.owned(connection, self._buckets)
            self._read_at = now
        return self._cell
