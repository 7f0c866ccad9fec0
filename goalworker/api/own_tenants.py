"""Check that a caller's tenant is this cell's (contract section 10)."""

import math
import time
from typing import Final

from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain.cells import REMEMBERED_MAX
from goalworker.stores import cell_store

# Seconds for which an answer is remembered. Writes of a tenant that was moved meanwhile are refused when they are
# written.
REMEMBERED_SECONDS: Final = 1.0


class OwnTenants:
    """The tenants that a cell with these buckets owns."""

    def __init__(self, pool: sa_async.AsyncEngine, buckets: frozenset[int]) -> None:
        self._pool = pool
        self._buckets = buckets
        self._answers: dict[str, tuple[float, bool]] = {}

    async def check(self, tenant_id: str) -> None:
        """Raise ForeignTenantError for a tenant of another cell."""
        now = time.monotonic()
        read_at, is_own = self._answers.get(tenant_id, (-math.inf, False))
        if now - read_at > REMEMBERED_SECONDS:
            is_own = await cell_store.owns(self._pool, tenant_id, self._buckets, "keys")
            if len(self._answers) >= REMEMBERED_MAX:
                self._answers.clear()
            self._answers[tenant_id] = (now, is_own)
        if not is_own:
            raise cell_store.ForeignTenantError(tenant_id)
