"""One-time codes log in once, in time, as the holder of a key that is not revoked."""

import asyncio
from datetime import timedelta

from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections, migrations, tables
from goalworker.stores import api_keys, console_secret, login_codes


async def _holder(pool: sa_async.AsyncEngine) -> api_keys.StoredKey:
    _, key = await api_keys.create(pool, "acme", "ann", ["goals:read"])
    return key


async def test_a_code_stands_for_the_holder_of_its_key_once(pool: sa_async.AsyncEngine) -> None:
    key = await _holder(pool)
    code = await login_codes.create(pool, "acme", key.id)
    assert await login_codes.take(pool, code) == api_keys.KeyHolder(key.id, "acme", "ann", ("goals:read",))
    assert await login_codes.take(pool, code) is None


async def test_of_many_who_use_a_code_at_once_one_logs_in(pool: sa_async.AsyncEngine) -> None:
    key = await _holder(pool)
    code = await login_codes.create(pool, "acme", key.id)
    found = await asyncio.gather(*(login_codes.take(pool, code) for _ in range(8)))
    assert sum(holder is not None for holder in found) == 1


async def test_a_code_whose_time_is_over_is_none_and_goes_with_the_next_use(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    key = await _holder(pool)
    old = [await login_codes.create(pool, "acme", key.id, timedelta(0)) for _ in range(3)]
    assert await login_codes.take(pool, old[0]) is None
    assert await administrator.fetchval("SELECT count(*) FROM login_codes") == 0


async def test_a_code_of_a_revoked_key_is_none(pool: sa_async.AsyncEngine) -> None:
    key = await _holder(pool)
    code = await login_codes.create(pool, "acme", key.id)
    await api_keys.revoke(pool, "acme", key.id)
    assert await login_codes.take(pool, code) is None


async def test_what_is_no_code_is_none(pool: sa_async.AsyncEngine) -> None:
    for text in ("", "x", "é" * 22, "a" * 22, "a" * 10_000):
        assert await login_codes.take(pool, text) is None


async def test_a_code_is_stored_nowhere(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> None:
    key = await _holder(pool)
    code = await login_codes.create(pool, "acme", key.id)
    row = await administrator.fetchval("SELECT row_to_json(c)::text FROM login_codes c")
    assert code not in row
    assert code.encode().hex() not in row


# --- the secret ---


async def test_the_secret_is_the_same_for_all_processes_and_only_the_api_reads_it(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    secret = await console_secret.read(pool)
    assert (len(secret), await console_secret.read(pool)) == (32, secret)
    for role, may in ((tables.API_ROLE, True), (tables.WORKER_ROLE, False), ("public", False)):
        assert await administrator.fetchval("SELECT has_table_privilege($1, 'console_secret', 'SELECT')", role) is may
    for right in ("INSERT", "UPDATE", "DELETE"):
        assert not await administrator.fetchval(
            "SELECT has_table_privilege($1, 'console_secret', $2)", tables.API_ROLE, right
        )


async def test_each_installation_has_a_secret_of_its_own(pool: sa_async.AsyncEngine, database_url: str) -> None:
    first = await console_secret.read(pool)
    await asyncio.to_thread(migrations.downgrade, database_url, "0014")
    await asyncio.to_thread(migrations.upgrade, database_url)
    second = await console_secret.read(pool)
    assert (len(second), first != second) == (32, True)
