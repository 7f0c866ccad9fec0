"""The overview: the numbers of the API, a search, and a feed whose contacts are masked."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest

from goalworker.api import live_feed
from goalworker.postgres import connections
from tests.integration.console.test_workflow_page import HOSTILE, PURCHASE, enroll
from tests.kit import running_api
from tests.kit.running_api import create

START = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
async def caller(api: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    async with api.holder() as client:
        yield client


async def test_an_empty_overview_names_the_next_command(client: httpx.AsyncClient) -> None:
    page = (await client.get("/console")).text
    assert "goalworker goals create welcome --tenant acme" in page
    assert "Nothing yet" in page


async def test_the_overview_shows_the_numbers_of_the_api_with_links_to_their_rows(
    client: httpx.AsyncClient, caller: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    goal = UUID((await create(caller, PURCHASE))["id"])
    for number in range(3):
        await enroll(administrator, f"e{number}", START, goal=goal if number else None)
    page = (await client.get("/console")).text
    (listed,) = (await caller.get("/api/v1/workflows", params={"limit": 200})).json()["workflows"]
    assert "GET /api/v1/workflows?limit=200" in page
    for state, field in (("enrolled", "total_enrolled"), ("converted", "enrollments_converted")):
        assert f'/console/workflows/onboarding/enrollments?state={state}">{listed[field]}</a>' in page
    assert f"{listed['conversion_rate']} %" in page


async def test_a_search_finds_workflows_by_a_part_of_their_ids_as_the_api_does(
    client: httpx.AsyncClient, caller: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    for workflow_id in ("welcome-de", "Welcome-fr", "checkout"):
        await enroll(administrator, f"e-{workflow_id}", START, workflow_id=workflow_id)
    found = (await caller.get("/api/v1/workflows", params={"search": "WELCOME"})).json()["workflows"]
    assert [workflow["workflow_id"] for workflow in found] == ["Welcome-fr", "welcome-de"]
    page = (await client.get("/console", params={"search": "WELCOME"})).text
    assert ("welcome-de" in page, "Welcome-fr" in page, "checkout" in page) == (True, True, False)
    assert "No workflow" in (await client.get("/console", params={"search": "nowhere"})).text


@pytest.mark.parametrize("search", ["  ", "ü" * 128, "a\x07b"])
async def test_a_search_that_is_not_valid_is_refused_and_lists_nothing(
    client: httpx.AsyncClient, administrator: connections.Connection, search: str
) -> None:
    await enroll(administrator, "e1", START, workflow_id="listed")
    page = await client.get("/console", params={"search": search})
    assert page.status_code == 400
    assert "This search is not valid" in page.text
    assert "/console/workflows/listed" not in page.text.partition('id="feed"')[0]
    assert "contain <bdi>" not in page.text


async def test_a_page_of_workflows_leads_to_the_next_one(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await administrator.execute(
        """INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at)
        SELECT 'acme', 'e' || n, 'w' || lpad(n::text, 4, '0'), 'c', now() FROM generate_series(1, 201) AS n"""
    )
    page = (await client.get("/console")).text
    assert ("w0200" in page, "w0201" in page) == (True, False)
    cursor = page.partition('rel="next" href="')[2].partition('"')[0]
    assert "w0201" in (await client.get(cursor.replace("&amp;", "&"))).text


async def test_sorting_keeps_the_page_and_the_next_page_keeps_the_order(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await administrator.execute(
        """INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at)
        SELECT 'acme', 'e' || n, 'w' || lpad(n::text, 4, '0'), 'c', now() FROM generate_series(1, 201) AS n"""
    )
    page = (await client.get("/console", params={"order": "exited", "search": "w0"})).text
    second = (await client.get(_href(page, 'rel="next" '))).text
    assert 'aria-sort=descending><a href="' in second
    resorted = (await client.get(_href(second, "aria-sort=descending><a "))).text
    assert ("w0201" in resorted, "w0200" in resorted) == (True, False)


def _href(page: str, before: str) -> str:
    return page.partition(f'{before}href="')[2].partition('"')[0].replace("&amp;", "&")


async def test_what_happened_last_is_on_the_page_without_the_ids_of_contacts(
    client: httpx.AsyncClient,
    other: httpx.AsyncClient,
    caller: httpx.AsyncClient,
    administrator: connections.Connection,
) -> None:
    goal = UUID((await create(caller, PURCHASE))["id"])
    for number in range(25):
        await enroll(administrator, f"e{number}", START, goal=goal, contact_id=f"contact-{number:04}")
    page = (await client.get("/console")).text
    assert page.count('<li class="effect"') == 20
    assert "contact-00" not in page
    assert '<li class="effect"' not in (await other.get("/console")).text


async def test_the_feed_sends_entries_after_those_of_the_page(
    client: httpx.AsyncClient,
    caller: httpx.AsyncClient,
    administrator: connections.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_feed, "POLL_SECONDS", 0.05)
    goal = UUID((await create(caller, PURCHASE))["id"])
    await enroll(administrator, "e1", START, goal=goal, workflow_id="shown")
    page = (await client.get("/console")).text
    address = page.partition('hx-sse:connect="')[2].partition('"')[0]
    await enroll(administrator, "e2", START, goal=goal, workflow_id="missed")
    async with asyncio.timeout(20), client.stream("GET", address) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        first = await _data(lines)
        await enroll(administrator, "e3", START, goal=goal, workflow_id=HOSTILE, contact_id=HOSTILE)
        second = await _data(lines)
    assert ("missed" in first, "shown" in first) == (True, False)
    assert second.count("<li") == 1
    assert "<script" not in second


async def _data(lines: AsyncIterator[str]) -> str:
    async for line in lines:
        if line.startswith("data: "):
            return line
    raise AssertionError("the feed has ended")


async def test_the_feed_needs_a_session(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.get("/console/feed")).status_code == 303
