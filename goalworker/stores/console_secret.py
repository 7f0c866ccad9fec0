"""The secret behind the console's sessions and links to contacts: one of an installation, made by a migration."""

from typing import Final

from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections, tables

_READ: Final = "SELECT secret FROM console_secret"


async def read(pool: sa_async.AsyncEngine) -> bytes:
    """Return the secret."""
    async with connections.transaction(pool, tables.API_ROLE, "keys") as connection:
        return bytes(await connection.fetchval(_READ))
