"""One browser and one server for all tests: a console on a database with a little of everything in it."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import pytest_asyncio
from playwright import async_api

from goalworker.api import live_feed
from tests.browser import seeded
from tests.kit import browser, console, support


@pytest.fixture(scope="session")
def chromium_path() -> str:
    return browser.executable()


@pytest.fixture(scope="session")
def console_database(chromium_path: str, postgres_url: str, template_database: str) -> Iterator[str]:
    with support.fresh_database(postgres_url, f"TEMPLATE {template_database} STRATEGY FILE_COPY") as name:
        yield support.with_database(postgres_url, name)


@pytest.fixture(scope="session")
def impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(live_feed, "POLL_SECONDS", 0.2)
        yield


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def chromium(chromium_path: str) -> AsyncIterator[async_api.Browser]:
    async with browser.running() as running:
        yield running


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def site(console_database: str, impatient: None) -> AsyncIterator[seeded.Site]:
    """The console, with what `seeded` writes, and a key."""
    async with contextlib.AsyncExitStack() as stack:
        connection = await asyncpg.connect(console_database)
        stack.push_async_callback(connection.close)
        api = await stack.enter_async_context(console.running(console_database))
        key, _ = await console.key_of(api)
        yield await seeded.write(api, connection, key)


@pytest_asyncio.fixture(loop_scope="package")
async def tab(chromium: async_api.Browser, site: seeded.Site) -> AsyncIterator[browser.Tab]:
    """A tab that is logged in."""
    async with browser.tab(chromium, site.api.url, site.key) as opened:
        yield opened
