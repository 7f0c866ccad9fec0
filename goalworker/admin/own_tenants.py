"""Refusal of commands for a tenant of another cell."""

from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.domain.text import is_valid_text
from goalworker.stores import cell_store


async def check(pool: sa_async.AsyncEngine, settings: config.Settings, tenant_id: str) -> None:
    """Raise ForeignTenantError for a tenant that is not this cell's; the command itself refuses an invalid one."""
    if is_valid_text(tenant_id) and not await cell_store.owns(pool, tenant_id, settings.cell.buckets, "cli"):
        raise cell_store.ForeignTenantError(tenant_id)
