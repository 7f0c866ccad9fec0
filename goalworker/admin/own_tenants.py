"""Refusal of commands for a tenant of another cell."""

from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.domain.text import is_valid_text
from goalworker.postgres import connections
from goalworker.stores import cell_store


async def check(pool: sa_async.AsyncEngine, settings: config.Settings, tenant_id: str) -> None:
    """Raise ForeignTenantError for a tenant that is not this cell's; the command itself refuses an invalid one."""
    if not is_valid_text(tenant_id):
        return
    async with connections.tenant_transaction(pool, tenant_id, "cli") as connection:
        cell = await cell_store.owned(await connections.driver_of(connection), settings.cell.buckets)
    if not cell.owns(tenant_id):
        raise cell_store.ForeignTenantError(tenant_id)
