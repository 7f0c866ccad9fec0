"""API in the test's own event loop, and HTTP clients for it."""

import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
from sqlalchemy.ext import asyncio as sa_async
from starlette.types import ASGIApp

from goalworker import api, config
from goalworker.postgres import connections
from goalworker.runtime import http_server
from goalworker.stores import api_keys
from tests.kit.support import NO_TLS

TENANT, OTHER = "acme", "other"
SECRET, ISSUER, AUDIENCE = "a secret of at least thirty-two bytes", "https://login.example.com/", "goalworker"
TOKENS = {
    "GOALWORKER_API__JWT_SECRET": SECRET,
    "GOALWORKER_API__JWT_ISSUER": ISSUER,
    "GOALWORKER_API__JWT_AUDIENCE": AUDIENCE,
}
PATH = "/api/v1/workflows/onboarding"
GOALS = f"{PATH}/goals"
TAG = {"goal_type": "tag_added", "criteria": {"tag_id": "t1"}}
FORM = {"goal_type": "form_submitted", "criteria": {"form_id": "f1"}}
UNKNOWN = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Api:
    """Running API: its URL, and the pool of its database."""

    url: str
    pool: sa_async.AsyncEngine

    def client(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=headers, verify=NO_TLS, trust_env=False, timeout=20)

    def holder(self, **claims: object) -> httpx.AsyncClient:
        """Return a client whose token has these claims, and by default the tenant and all scopes."""
        return self.client(Authorization=f"Bearer {token(**claims)}")


@contextlib.asynccontextmanager
async def running(database_url: str, variables: Mapping[str, str] = TOKENS, **options: Any) -> AsyncIterator[Api]:
    """Serve the API with the pool that its settings describe."""
    given = {**variables, "GOALWORKER_DATABASE__URL": database_url}
    known = config.load(given, env_file=None, secrets_dir=None)
    pool = connections.engine(
        known.database_url(),
        pool_size=known.database.pool_size,
        statement_timeout_seconds=known.database.statement_timeout_seconds,
        application="test",
    )
    async with httpx.AsyncClient(timeout=known.references.timeout_seconds, verify=NO_TLS, trust_env=False) as outward:
        try:
            async with serve(api.application(known, pool, outward, **options)) as url:
                yield Api(url, pool)
        finally:
            await pool.dispose()


@contextlib.asynccontextmanager
async def serve(application: ASGIApp) -> AsyncIterator[str]:
    address = http_server.Address("127.0.0.1", 0, "A test's server", "TEST")
    async with http_server.serve(application, address, drain_seconds=1) as port:
        yield f"http://127.0.0.1:{port}"


def claims(**changed: object) -> dict[str, object]:
    """Return the claims of a valid token, some of them replaced; None removes a claim."""
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "tenant_id": TENANT,
        "exp": int(time.time()) + 600,
        "scope": " ".join(api_keys.SCOPES),
    }
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def token(**changed: object) -> str:
    return jwt.encode(claims(**changed), SECRET, "HS256")


async def create(client: httpx.AsyncClient, given: Mapping[str, Any] = TAG, path: str = GOALS) -> dict[str, Any]:
    """Create a goal, and return it without the warnings about it, as GET shows it."""
    return changed(await client.post(path, json=given), 201)


def changed(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    """Return the goal in the answer to a POST or a PATCH, without the warnings about it."""
    assert answer.status_code == status, answer.text
    goal: dict[str, Any] = answer.json()
    del goal["warnings"]
    return goal


def problem(answer: httpx.Response, status: int, slug: str, detail: str | None = None) -> dict[str, Any]:
    """Assert that a response is this problem, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert set(found) - {"errors", "fresh_as_of"} == {"type", "title", "status", "detail"}
    assert (found["type"], found["status"]) == (f"urn:goalworker:problem:{slug}", status)
    if detail is not None:
        assert found["detail"] == detail
    return found


def pointers(found: Mapping[str, Any]) -> Collection[str]:
    return [error["pointer"] for error in found["errors"]]
