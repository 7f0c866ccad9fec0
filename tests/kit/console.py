"""Browsers of the console, as far as they need no scripts: cookies, redirects, forms."""

import contextlib
import re
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

import httpx

from goalworker.console import mounting
from goalworker.stores import api_keys
from tests.kit import running_api
from tests.kit.support import NO_TLS

CONSOLE = "/console"


@contextlib.asynccontextmanager
async def running(
    database_url: str, variables: Mapping[str, str] = running_api.TOKENS, **options: Any
) -> AsyncIterator[running_api.Api]:
    """Serve the API with its console."""
    async with running_api.running(database_url, variables, extend=mounting.mount, **options) as api:
        yield api


def browser(api: running_api.Api, **headers: str) -> httpx.AsyncClient:
    """Return a client that keeps cookies, and follows no redirect by itself."""
    return httpx.AsyncClient(base_url=api.url, headers=headers, verify=NO_TLS, trust_env=False, timeout=20)


async def key_of(
    api: running_api.Api, tenant_id: str = running_api.TENANT, scopes: Collection[str] = api_keys.SCOPES
) -> tuple[str, api_keys.StoredKey]:
    """Create a key."""
    return await api_keys.create(api.pool, tenant_id, "ann", scopes)


@contextlib.asynccontextmanager
async def logged_in(
    api: running_api.Api, tenant_id: str = running_api.TENANT, scopes: Collection[str] = api_keys.SCOPES
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a browser with a session of a new key."""
    key, _ = await key_of(api, tenant_id, scopes)
    async with browser(api) as client:
        answer = await client.post(f"{CONSOLE}/login", data={"key": key})
        assert (answer.status_code, answer.headers["location"]) == (303, CONSOLE), answer.text
        yield client


def csrf_of(page: httpx.Response) -> str:
    """Return the token that the forms of a page carry."""
    found = re.search(r'name="csrf" (?:content|value)="(\w+)"', page.text)
    assert found, page.text
    return found[1]
