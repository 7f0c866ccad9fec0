"""One-time codes that log in to the console as the holder of a key. Only the hash of a code is stored."""

import hashlib
import re
import secrets
from datetime import timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections, tables
from goalworker.stores import api_keys

LIFETIME: Final = timedelta(hours=1)
# Short enough for a link on a terminal of 80 columns.
_BYTES: Final = 16
_CODE: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_TAKE: Final = sa.text("SELECT tenant_id, key_id FROM goalworker_take_login_code(:hash)")


async def create(pool: sa_async.AsyncEngine, tenant_id: str, key_id: UUID, lifetime: timedelta = LIFETIME) -> str:
    """Return a new code for the holder of a key, this once only."""
    code = secrets.token_urlsafe(_BYTES)
    row = {
        "tenant_id": tenant_id,
        "code_hash": _hash(code),
        "key_id": key_id,
        "expires_at": sa.func.clock_timestamp() + lifetime,
    }
    async with connections.tenant_transaction(pool, tenant_id, "keys") as connection:
        await connection.execute(sa.insert(tables.login_codes).values(row))
    return code


async def take(pool: sa_async.AsyncEngine, code: str) -> api_keys.KeyHolder | None:
    """Use a code up, and return the holder of its key; None if it was used, is too old, or its key is revoked."""
    if not _CODE.fullmatch(code):
        return None
    async with connections.tenant_transaction(pool, "", "keys") as connection:
        row = (await connection.execute(_TAKE, {"hash": _hash(code)})).one_or_none()
    return None if row is None else await api_keys.find_by_id(pool, row.tenant_id, row.key_id)


def _hash(code: str) -> bytes:
    # As with keys, nobody can guess 128 random bits.
    return hashlib.sha256(code.encode()).digest()
