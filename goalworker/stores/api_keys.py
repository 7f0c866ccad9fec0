"""API keys: create, find, list and revoke. Only the hash of a key is stored (contract section 5)."""

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
from goalworker.domain.text import TEXT_RULE, is_valid_text
from goalworker.postgres import connections, tables

SCOPES: Final = ("goals:read", "goals:write", "enrollments:write")

# Lets people and scanners for leaked secrets recognise a key.
_PREFIX: Final = "gw_"
_SECRET_BYTES: Final = 32
_KEY: Final = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{43}}")


class UnknownKeyError(errors.GoalworkerError):
    """The key does not exist, or it is revoked already."""

    def __init__(self, key_id: UUID) -> None:
        super().__init__(f"Key {key_id} does not exist or is revoked already; `goalworker keys list` shows all keys")


class InvalidKeyError(errors.GoalworkerError):
    """A tenant, name or scope of a new key is invalid."""


class StoredKey(Struct, frozen=True):
    """Everything about a key except the key itself."""

    id: UUID
    tenant_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None = None


class KeyHolder(Struct, frozen=True):
    """The tenant, name and scopes that a key stands for."""

    id: UUID
    tenant_id: str
    name: str
    scopes: tuple[str, ...]


async def create(
    pool: sa_async.AsyncEngine, tenant_id: str, name: str, scopes: Collection[str]
) -> tuple[str, StoredKey]:
    """Create a key and return it, this once only, with its stored fields; InvalidKeyError."""
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
        inserted = await connection.execute(sa.insert(tables.api_keys).values(row).returning(*_COLUMNS))
        return key, _stored_key(inserted.one())


async def find(pool: sa_async.AsyncEngine, key: str) -> KeyHolder | None:
    """Return the holder of a key, or None if the key is unknown or revoked."""
    if not _KEY.fullmatch(key):
        return None
    # The tenant is not known yet, so row-level security hides every row except from the function.
    async with connections.tenant_transaction(pool, "", "keys") as connection:
        row = (await connection.execute(_BY_HASH, {"hash": _hash(key)})).one_or_none()
    return None if row is None else KeyHolder(row.key_id, row.tenant_id, row.name, tuple(row.scopes))


async def find_by_id(pool: sa_async.AsyncEngine, tenant_id: str, key_id: UUID) -> KeyHolder | None:
    """Return the holder of a tenant's key, or None if the key is unknown or revoked."""
    found = sa.select(_KEYS.name, _KEYS.scopes).where(
        _KEYS.tenant_id == tenant_id, _KEYS.key_id == key_id, _KEYS.revoked_at.is_(None)
    )
    async with connections.tenant_transaction(pool, tenant_id, "keys") as connection:
        row = (await connection.execute(found)).one_or_none()
    return None if row is None else KeyHolder(key_id, tenant_id, row.name, tuple(row.scopes))


async def list_of_tenant(pool: sa_async.AsyncEngine, tenant_id: str) -> list[StoredKey]:
    """Return a tenant's keys, oldest first, revoked ones included."""
    async with connections.tenant_transaction(pool, tenant_id, "keys") as connection:
        rows = await connection.execute(
            sa.select(*_COLUMNS).where(_KEYS.tenant_id == tenant_id).order_by(_KEYS.created_at, _KEYS.key_id)
        )
        return [_stored_key(row) for row in rows]


async def list_all(pool: sa_async.AsyncEngine) -> list[StoredKey]:
    """Return the keys of all tenants, as the schema's owner: no other role may see them."""
    async with pool.connect() as connection:
        rows = await connection.execute(sa.select(*_COLUMNS).order_by(_KEYS.tenant_id, _KEYS.created_at, _KEYS.key_id))
        return [_stored_key(row) for row in rows]


async def revoke(pool: sa_async.AsyncEngine, tenant_id: str, key_id: UUID) -> StoredKey:
    """Revoke a key from now on; UnknownKeyError."""
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
    return _stored_key(row)


_KEYS: Final = tables.api_keys.c
_COLUMNS: Final = (_KEYS.key_id, _KEYS.tenant_id, _KEYS.name, _KEYS.scopes, _KEYS.created_at, _KEYS.revoked_at)
_BY_HASH: Final = sa.text("SELECT tenant_id, key_id, name, scopes FROM goalworker_api_key(:hash)")


def _hash(key: str) -> bytes:
    # Nobody can guess 256 random bits, so a fast hash without a salt is enough.
    return hashlib.sha256(key.encode()).digest()


def _stored_key(row: sa.Row[*tuple[Any, ...]]) -> StoredKey:
    return StoredKey(row.key_id, row.tenant_id, row.name, tuple(row.scopes), row.created_at, row.revoked_at)


def _check(tenant_id: str, name: str, scopes: Collection[str]) -> None:
    for word, text in (("tenant", tenant_id), ("name", name)):
        if not is_valid_text(text):
            raise InvalidKeyError(f"The {word} of a key {TEXT_RULE}")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        got = f", not {', '.join(map(repr, unknown))}" if unknown else ""
        raise InvalidKeyError(f"The scopes of a key must be one or more of {', '.join(SCOPES)}{got}")
