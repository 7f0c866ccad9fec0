"""The live feed over HTTP: server-sent events of one's own tenant."""

import asyncio
import json
from uuid import UUID

import httpx
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker import api as http_api
from goalworker import config, metrics
from goalworker.api import feed_routes, live_feed, middleware
from goalworker.postgres import connections
from goalworker.stores import api_keys
from tests.integration.api.test_api_reports import PURCHASE, converted
from tests.kit import running_api
from tests.kit.running_api import create, problem

FEED = "/api/v1/feed"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_feed, "POLL_SECONDS", 0.05)


class Stream:
    """Events of an open feed."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def line(self) -> str:
        """Return the next line, a comment where nothing is new."""
        return await anext(self._lines)

    async def event(self) -> dict[str, str]:
        """Return the next event's fields, without those before it that have no data."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(30):
            async for line in self._lines:
                if not line and "data" in fields:
                    return fields
                name, _, value = line.partition(": ")
                fields |= {name: value} if line else {}
        raise AssertionError("the feed has ended")


async def opened(client: httpx.AsyncClient, **headers: str) -> Stream:
    answer = await client.send(client.build_request("GET", FEED, headers=headers), stream=True)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.headers["cache-control"] == "no-store"
    return Stream(answer)


async def exited(administrator: connections.Connection, goal: UUID, number: int) -> None:
    await administrator.execute(
        "INSERT INTO exits VALUES ('acme', $1, 'onboarding', $2, $3, 'purchase_made', 'any', $4, now())",
        *(f"e{number}", f"c{number}", goal, [goal]),
    )


@pytest.fixture
async def goal(client: httpx.AsyncClient) -> UUID:
    return UUID((await create(client, PURCHASE))["id"])


async def test_achievements_and_exits_arrive_as_they_are_recorded_and_only_ones_own(
    client: httpx.AsyncClient, other: httpx.AsyncClient, administrator: connections.Connection, goal: UUID
) -> None:
    await converted(administrator, goal, 1)
    stream, foreign = await opened(client), await opened(other)
    await converted(administrator, goal, 2)
    event = await stream.event()
    assert event["event"] == "achievement"
    listed = (await client.get(f"{running_api.PATH}/achievements", params={"contact_id": "c2"})).json()
    assert [json.loads(event["data"])] == listed["achievements"]
    await exited(administrator, goal, 2)
    event = await stream.event()
    assert event["event"] == "exit"
    assert json.loads(event["data"])["enrollment_id"] == "e2"
    await administrator.execute("UPDATE exits SET tenant_id = 'other', created_at = clock_timestamp()")
    assert json.loads((await foreign.event())["data"])["enrollment_id"] == "e2"


async def test_a_client_that_comes_back_goes_on_where_it_was(
    client: httpx.AsyncClient, administrator: connections.Connection, goal: UUID
) -> None:
    stream = await opened(client)
    await converted(administrator, goal, 1)
    last = (await stream.event())["id"]
    await stream.answer.aclose()
    await converted(administrator, goal, 2)
    again = await opened(client, **{"Last-Event-ID": last})
    assert json.loads((await again.event())["data"])["enrollment_id"] == "e2"


async def test_an_open_feed_takes_no_place_of_a_request_and_has_no_deadline(
    client: httpx.AsyncClient, administrator: connections.Connection, goal: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "REQUESTS_MAX", 1)
    monkeypatch.setattr(middleware, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(live_feed, "HEARTBEAT_SECONDS", 0.1)
    streams = [await opened(client) for _ in range(3)]
    loop = asyncio.get_running_loop()
    until = loop.time() + 1.2
    while loop.time() < until:
        await asyncio.gather(*(stream.line() for stream in streams))
    await converted(administrator, goal, 1)
    assert [json.loads((await stream.event())["data"])["contact_id"] for stream in streams] == ["c1"] * 3
    assert (await client.get(running_api.GOALS)).status_code == 200
    for stream in streams:
        await stream.answer.aclose()
    asked = metrics.http_request_duration_seconds.labels("GET", FEED, "200")
    assert asked._sum.get() < 1.5, "the time until a feed begins, not until it ends"


async def test_a_closed_feed_ends_its_streams_so_that_a_stop_waits_for_none(
    database_url: str, pool: sa_async.AsyncEngine
) -> None:
    known = config.load({"GOALWORKER_DATABASE__URL": database_url}, env_file=None, secrets_dir=None)
    feed = http_api.live_feed_of(pool)
    async with httpx.AsyncClient() as outward:
        application = http_api.application(known, pool, outward, insecure_tenant="acme", feed=feed)
        async with running_api.serve(application) as url, running_api.Api(url, pool).client() as client:
            stream = await opened(client)
            feed.close()
            assert [line async for line in stream.answer.aiter_lines()] == ["retry: 2000", ""]


async def test_too_many_feeds_are_refused_for_now(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_feed, "SUBSCRIBERS_OF_TENANT_MAX", 1)
    await opened(client)
    problem(await client.get(FEED), 503, "unavailable")


async def test_a_feed_needs_credentials(api: running_api.Api) -> None:
    async with api.client() as stranger:
        problem(await stranger.get(FEED), 401, "unauthenticated")
    async with api.holder(scope="goals:write") as writer:
        problem(await writer.get(FEED), 403, "missing-scope")


async def test_the_feed_of_a_revoked_key_ends_and_no_other_does(
    api: running_api.Api, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(feed_routes, "KEY_CHECK_SECONDS", 0.2)
    key, stored = await api_keys.create(api.pool, running_api.TENANT, "k", api_keys.SCOPES)
    kept, _ = await api_keys.create(api.pool, running_api.TENANT, "kept", api_keys.SCOPES)
    async with api.client(**{"X-API-Key": key}) as holder, api.client(**{"X-API-Key": kept}) as another:
        feed, own, by_token = await opened(holder), await opened(another), await opened(client)
        for _ in range(10):
            await feed.line()
        await api_keys.revoke(api.pool, stored.tenant_id, stored.id)
        with pytest.raises(AssertionError, match="the feed has ended"):
            await feed.event()
        for stream in (own, by_token):
            for _ in range(10):
                await stream.line()


async def test_the_key_of_a_feed_is_not_looked_up_for_each_event(
    api: running_api.Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "HEARTBEAT_SECONDS", 0.05)
    looked_up: list[object] = []

    async def find_by_id(*given: object) -> None:
        looked_up.append(given)

    key, _ = await api_keys.create(api.pool, running_api.TENANT, "k", api_keys.SCOPES)
    async with api.client(**{"X-API-Key": key}) as holder:
        feed = await opened(holder)
        monkeypatch.setattr(api_keys, "find_by_id", find_by_id)
        for _ in range(20):
            await feed.line()
    assert not looked_up
