"""Proof that a database's advisory locks lock, which they may not on engines that only look like PostgreSQL."""

import asyncio
import secrets
from typing import Final

import asyncpg
from sqlalchemy.ext import asyncio as sa_async

from goalworker.errors import RefusedError
from goalworker.postgres import connections

_KEY_BITS: Final = 62
_TAKE: Final = "SELECT pg_try_advisory_xact_lock($1)"
_SHARE: Final = "SELECT pg_try_advisory_xact_lock_shared($1)"


async def problem(pool: sa_async.AsyncEngine) -> str | None:
    """Return a sentence if two transactions can take the same lock at a time; the pool needs two connections."""
    try:
        async with asyncio.timeout(connections.CONNECT_TIMEOUT_SECONDS):
            do_lock = await _do_lock(pool, secrets.randbits(_KEY_BITS))
    except (asyncpg.UndefinedFunctionError, asyncpg.FeatureNotSupportedError):
        do_lock = False
    if do_lock:
        return None
    return (
        "the database's advisory locks do not lock: two transactions took the same one. Workers would judge by goals "
        "that are just being changed. Use PostgreSQL itself, not an engine that only speaks its protocol"
    )


async def require(pool: sa_async.AsyncEngine) -> None:
    """Raise RefusedError if advisory locks do not lock."""
    if sentence := await problem(pool):
        raise RefusedError(f"{sentence}.")


async def _do_lock(pool: sa_async.AsyncEngine, key: int) -> bool:
    """Take a lock in one transaction, and say whether another one cannot share it until the first ends."""
    async with pool.connect() as first, pool.connect() as second:
        one, other = await connections.driver_of(first), await connections.driver_of(second)
        for connection in (one, other):
            await connection.execute("BEGIN")
        try:
            return bool(await one.fetchval(_TAKE, key)) and not await other.fetchval(_SHARE, key)
        finally:
            for connection in (one, other):
                await connection.execute("ROLLBACK")
