"""An API with tokens, and clients with all scopes for two tenants."""

from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import httpx
import pytest
import structlog

from tests.kit import running_api


@pytest.fixture(autouse=True)
def said() -> Iterator[list[MutableMapping[str, Any]]]:
    """Lines logged by the test."""
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        yield lines


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[running_api.Api]:
    async with running_api.running(database_url) as api:
        yield api


@pytest.fixture
async def client(api: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    async with api.holder() as client:
        yield client


@pytest.fixture
async def other(api: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another tenant."""
    async with api.holder(tenant_id=running_api.OTHER, sub="bob") as client:
        yield client
