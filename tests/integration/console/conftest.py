"""A console, and browsers of two tenants that are logged in."""

from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import httpx
import pytest
import structlog

from tests.integration import scenes
from tests.kit import console, running_api


@pytest.fixture(autouse=True)
def said() -> Iterator[list[MutableMapping[str, Any]]]:
    """Lines logged by the test."""
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        yield lines


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[running_api.Api]:
    async with console.running(database_url) as api:
        yield api


@pytest.fixture
async def stranger(api: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without a session."""
    async with console.browser(api) as client:
        yield client


@pytest.fixture
async def client(api: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that may read and write."""
    async with console.logged_in(api) as client:
        yield client


@pytest.fixture
async def reader(api: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that may only read."""
    async with console.logged_in(api, scopes=["goals:read"]) as client:
        yield client


@pytest.fixture
async def other(api: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of another tenant."""
    async with console.logged_in(api, running_api.OTHER) as client:
        yield client


@pytest.fixture
async def visitor(api: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of the tenant of scenes that may only read."""
    async with console.logged_in(api, scenes.TENANT, ["goals:read"]) as client:
        yield client
