"""API keys: made, found, listed and revoked; of a key itself only the hash is kept (contract section 5)."""

import hashlib
import re
import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain.text import is_valid_text
from goalworker.postgres import connections, tables

SCOPES: Final = ("goals:read", "goals:write", "enrollments:write")

# So that a key is known for one, by people and by scanners for leaked secrets.
_PREFIX: Final = "gw_"
_SECRET_BYTES: Final = 32
_KEY: Final = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{43}}")


class UnknownKeyError(errors.GoalworkerError):
    """There is no such key, or it is revoked already."""

    def __init__(self, key_id: UUID) -> None:
        super().__init__(f"There is no key {key_id} that could be revoked; `goalworker keys list` shows them")


class InvalidKeyError(errors.GoalworkerError):
    """What was asked for can't be a key's."""


class StoredKey(Struct, frozen=True):
    """What is known of a key: everything but the key."""

    id: UUID
    tenant_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None = None


class KeyHolder(Struct, frozen=True):
    """Who a key lets in."""

    tenant_id: str
    name: str
    scopes: tuple[str, ...]


async def create(
    pool: sa_async.AsyncEngine, tenant_id: str, name: str, scopes: Collection[str]
) -> tuple[str, StoredKey]:
    """Make a key and return it, this once, with what is stored; BadKeyError."""
    _check(tenant_id, name, scopes)
    key = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    row = {
        "tenant_id": tenant_id,
        "key_id": uuid4(),
        "name": name,
        "key_hash": _hash(key),
        "scopes": [scope for scope in SCOPES if scope in scopes],
        "created_at": sa.func.clock_timestamp(),
    }
    async with connections.tenant_transaction(pool, tenant_id, "keys") as connection:
        made = await connection.execute(sa.insert(tables.api_keys).values(row).returning(*_COLUMNS))
        return key, _stored(made.one())


async def find(pool: sa_async.AsyncEngine, key: str) -> KeyHolder | None:
    """Return who holds a key that was made and not revoked."""
    if not _KEY.fullmatch(key):
        return None
    async with connections.tenant_transaction(
        pool, "", "keys"
    ) as connection:  # No tenant yet: nothing is seen but by the function.
        row = (await connection.execute(_BY_HASH, {"hash": _hash(key)})).one_or_none()
    return None if row is None else KeyHolder(row.tenant_id, row.name, tuple(row.scopes))


async def list_of_tenant(pool: sa_async.AsyncEngine, tenant_id: str) -> list[StoredKey]:
    """Return a tenant's keys, oldest first, revoked ones included."""
    async with connections.tenant_transaction(pool, tenant_id, "keys") as connection:
        rows = await connection.execute(
            sa.select(*_COLUMNS).where(_KEYS.tenant_id == tenant_id).order_by(_KEYS.created_at, _KEYS.key_id)
        )
        return [_stored(row) for row in rows]


async def list_all(pool: sa_async.AsyncEngine) -> list[StoredKey]:
    """Return the keys of all tenants, which nobody but the schema's owner may see: no role is taken."""
    async with pool.connect() as connection:
        rows = await connection.execute(sa.select(*_COLUMNS).order_by(_KEYS.tenant_id, _KEYS.created_at, _KEYS.key_id))
        return [_stored(row) for row in rows]


async def revoke(pool: sa_async.AsyncEngine, tenant_id: str, key_id: UUID) -> StoredKey:
    """Make a key useless from now on; NoKeyError."""
    revoked = (
        sa.update(tables.api_keys)
        .where(_KEYS.tenant_id == tenant_id, _KEYS.key_id == key_id, _KEYS.revoked_at.is_(None))
        .values(revoked_at=sa.func.clock_timestamp())
        .returning(*_COLUMNS)
    )
    async with connections.tenant_transaction(pool, tenant_id, "keys") as connection:
        row = (await connection.execute(revoked)).one_or_none()
    if row is None:
        raise UnknownKeyError(key_id)
    return _stored(row)


_KEYS: Final = tables.api_keys.c
_COLUMNS: Final = (_KEYS.key_id, _KEYS.tenant_id, _KEYS.name, _KEYS.scopes, _KEYS.created_at, _KEYS.revoked_at)
_BY_HASH: Final = sa.text("SELECT tenant_id, name, scopes FROM goalworker_api_key(:hash)")


def _hash(key: str) -> bytes:
    # 256 random bits cannot be guessed, so that a fast hash without a salt is enough.
    return hashlib.sha256(key.encode()).digest()


def _stored(row: sa.Row[*tuple[Any, ...]]) -> StoredKey:
    key_id, tenant_id, name, scopes, created_at, revoked_at = tuple(row)
    return StoredKey(key_id, tenant_id, name, tuple(scopes), created_at, revoked_at)


def _check(tenant_id: str, name: str, scopes: Collection[str]) -> None:
    for word, text in (("tenant", tenant_id), ("name", name)):
        if not is_valid_text(text):
            raise InvalidKeyError(f"The {word} of a key must be text of 1 to 255 bytes without control characters")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        got = f", not {', '.join(map(repr, unknown))}" if unknown else ""
        raise InvalidKeyError(f"The scopes of a key must be one or more of {', '.join(SCOPES)}{got}")
