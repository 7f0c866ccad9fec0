"""Limits of what the API reads from other systems and serves at a time."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from goalworker.api import middleware, outbound_http
from tests.kit import running_api
from tests.kit.running_api import problem

LIMIT = 1_000


async def test_an_endless_answer_is_read_up_to_its_limit() -> None:
    sent = 0

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        async def parts() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 1
                yield b"x" * 100
                await asyncio.sleep(0)

        await StreamingResponse(parts())(scope, receive, send)

    async with running_api.serve(endless) as url, httpx.AsyncClient() as client:
        async with asyncio.timeout(10):
            assert await outbound_http.get(client, url, LIMIT) == (200, None)
        assert sent > 0


async def test_an_answer_up_to_its_limit_is_read_as_it_is() -> None:
    async with running_api.serve(PlainTextResponse("x" * LIMIT, 404)) as url, httpx.AsyncClient() as client:
        assert await outbound_http.get(client, url, LIMIT) == (404, b"x" * LIMIT)
        assert await outbound_http.get(client, url, LIMIT - 1) == (404, None)


async def test_requests_above_the_limit_are_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "REQUESTS_MAX", 2)
    arrived, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.release()
        await go_on.wait()
        await PlainTextResponse("done")(scope, receive, send)

    async with running_api.serve(middleware.RequestMiddleware(slow)) as url, httpx.AsyncClient() as client:
        under_way = [asyncio.create_task(client.get(url)) for _ in range(2)]
        for _ in under_way:
            await arrived.acquire()
        refused = await client.get(url)
        problem(refused, 503, "unavailable")
        assert int(refused.headers["retry-after"]) > 0
        go_on.set()
        assert [(await each).text for each in under_way] == ["done", "done"]
        assert (await client.get(url)).text == "done"
