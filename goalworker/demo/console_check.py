"""The demo's console: links that log in once, and a check that they do."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final
from urllib import parse

import httpx
from sqlalchemy.ext import asyncio as sa_async

from goalworker.demo import check
from goalworker.postgres import connections
from goalworker.stores import api_keys, login_codes

_LOGIN: Final = "/console/login"
_TIMEOUT_SECONDS: Final = 30.0


@contextlib.asynccontextmanager
async def connect(database_url: str) -> AsyncIterator[sa_async.AsyncEngine]:
    """Yield a pool of one connection."""
    pool = connections.engine(database_url, pool_size=1, statement_timeout_seconds=30, application="goalworker-demo")
    try:
        yield pool
    finally:
        await pool.dispose()


async def link(pool: sa_async.AsyncEngine, url: str, holder: api_keys.StoredKey) -> str:
    """Return a link that logs the holder of a key in, once."""
    code = await login_codes.create(pool, holder.tenant_id, holder.id)
    return f"{url}{_LOGIN}?{parse.urlencode({'code': code})}"


async def compare(database_url: str, url: str, holder: api_keys.StoredKey) -> check.Row:
    """Compare the logins by a link of its own, of two browsers that follow it, with one."""
    async with connect(database_url) as pool:
        own = await link(pool, url, holder)
    found = [await _logs_in(own) for _ in range(2)]
    return check.compare_counts("logins to the console by a link used twice", 1, sum(found))


async def _logs_in(address: str) -> bool:
    """Follow a link as a browser does, and say whether the console's first page is shown then."""
    code = dict(parse.parse_qsl(parse.urlsplit(address).query))
    async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as browser:
        page = (await browser.get(address)).raise_for_status()
        sent = await browser.post(str(page.url.copy_with(query=None)), data=code)
        console = await browser.get(str(page.url.copy_with(path="/console", query=None)))
        return sent.status_code == 303 and console.status_code == 200
