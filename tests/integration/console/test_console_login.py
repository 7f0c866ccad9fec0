"""Sessions of the console: who gets one, what it allows, and what ends it."""

import asyncio
from collections.abc import MutableMapping
from datetime import timedelta
from typing import Any
from urllib import parse

import httpx
import pytest

from goalworker.api import feed_routes, live_feed
from goalworker.console import addresses, login_limits, sessions
from goalworker.stores import api_keys, login_codes
from tests.kit import console, running_api


async def test_a_stranger_logs_in_and_goes_on_where_he_wanted_to(
    api: running_api.Api, stranger: httpx.AsyncClient
) -> None:
    asked = await stranger.get("/console?from=2026-05-01")
    assert asked.status_code == 303
    page = await stranger.get(asked.headers["location"])
    assert (page.status_code, "API key" in page.text) == (200, True)
    key, _ = await console.key_of(api)
    answer = await stranger.post("/console/login", data={"key": f" {key}\n", "next": "/console?from=2026-05-01"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console?from=2026-05-01")
    assert (await stranger.get(answer.headers["location"])).status_code == 200
    assert (await stranger.get("/console/login?next=/console/health")).headers["location"] == "/console/health"


async def test_who_comes_from_another_site_goes_on_without_a_second_login(stranger: httpx.AsyncClient) -> None:
    # Browsers send no cookie with a click in another site, but with the click in our page.
    asked = await stranger.get("/console/contacts?contact_id=c-17")
    page = await stranger.get(asked.headers["location"])
    assert '<a href="/console/contacts?contact_id=c-17">go on</a>' in page.text
    assert "go on</a>" not in (await stranger.get("/console/login")).text


async def test_the_cookie_is_hidden_from_scripts_and_other_sites_and_holds_no_key(
    api: running_api.Api, stranger: httpx.AsyncClient
) -> None:
    key, _ = await console.key_of(api)
    answer = await stranger.post("/console/login", data={"key": key})
    cookie = answer.headers["set-cookie"]
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/console", "max-age=43200"} <= attributes
    assert "secure" not in attributes  # plain HTTP
    assert key not in cookie


async def test_behind_https_the_cookie_is_sent_over_https_only(
    api: running_api.Api, stranger: httpx.AsyncClient
) -> None:
    key, _ = await console.key_of(api)
    host = stranger.base_url.netloc.decode()
    for headers in ({"X-Forwarded-Proto": "https"}, {"Origin": f"https://{host}"}):
        answer = await stranger.post("/console/login", data={"key": key}, headers=headers)
        assert "; Secure" in answer.headers["set-cookie"]


async def test_the_log_says_whose_login_it_was_and_holds_neither_key_nor_code(
    api: running_api.Api, stranger: httpx.AsyncClient, said: list[MutableMapping[str, Any]]
) -> None:
    key, stored = await console.key_of(api)
    code = await login_codes.create(api.pool, stored.tenant_id, stored.id)
    await stranger.post("/console/login", data={"key": key})
    await stranger.get(f"/console/login?code={code}")
    lines = [line for line in said if line["event"] == "request"]
    assert [line.get("tenant_id") for line in lines] == [running_api.TENANT, None]
    assert key not in str(said)
    assert code not in str(said)


async def test_an_unknown_key_is_refused_and_not_shown_again(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.post("/console/login", data={"key": "gw_wrong"})
    assert (answer.status_code, "unknown or revoked" in answer.text) == (401, True)
    assert "gw_wrong" not in answer.text
    assert "set-cookie" not in answer.headers


async def test_revoking_the_key_ends_the_session_at_once(api: running_api.Api, stranger: httpx.AsyncClient) -> None:
    key, stored = await console.key_of(api)
    await stranger.post("/console/login", data={"key": key})
    assert (await stranger.get("/console")).status_code == 200
    await api_keys.revoke(api.pool, stored.tenant_id, stored.id)
    assert (await stranger.get("/console")).status_code == 303


async def test_revoking_the_key_ends_an_open_feed_of_its_session(
    api: running_api.Api, stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(feed_routes, "KEY_CHECK_SECONDS", 0.2)
    key, stored = await console.key_of(api)
    await stranger.post("/console/login", data={"key": key})
    async with asyncio.timeout(10), stranger.stream("GET", "/console/feed") as feed:
        assert feed.status_code == 200
        lines = feed.aiter_lines()
        for _ in range(10):
            await anext(lines)
        await api_keys.revoke(api.pool, stored.tenant_id, stored.id)
        async for _ in lines:
            pass


async def test_a_cookie_that_was_changed_in_any_place_is_none(api: running_api.Api, client: httpx.AsyncClient) -> None:
    good = client.cookies[sessions.COOKIE]
    async with console.browser(api) as forger:
        for place in range(0, len(good), 7):
            changed = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
            answer = await forger.get("/console", headers={"Cookie": f"{sessions.COOKIE}={changed}"})
            assert answer.status_code == 303, place


async def test_a_session_ends_after_its_time(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    now = sessions.utc_now()
    monkeypatch.setattr(sessions, "utc_now", lambda: now + sessions.LIFETIME - timedelta(minutes=1))
    assert (await client.get("/console")).status_code == 200
    monkeypatch.setattr(sessions, "utc_now", lambda: now + sessions.LIFETIME + timedelta(minutes=1))
    assert (await client.get("/console")).status_code == 303


async def test_a_key_without_the_right_to_read_sees_no_page(api: running_api.Api) -> None:
    async with console.logged_in(api, scopes=["enrollments:write"]) as client:
        page = await client.get("/console")
        assert (page.status_code, "goals:read" in page.text) == (403, True)


async def test_logout_needs_the_token_of_the_session_and_ends_it(
    client: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    foreign = console.csrf_of(await other.get("/console"))
    own = console.csrf_of(await client.get("/console"))
    for given in ({}, {"csrf": ""}, {"csrf": foreign}):
        assert (await client.post("/console/logout", data=given)).status_code == 403
    assert (await client.get("/console")).status_code == 200
    answer = await client.post("/console/logout", data={"csrf": own})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/login")
    assert (await client.get("/console")).status_code == 303


async def test_a_key_that_may_not_read_can_log_out(api: running_api.Api) -> None:
    async with console.logged_in(api, scopes=["enrollments:write"]) as client:
        page = await client.get("/console")
        assert page.status_code == 403
        answer = await client.post("/console/logout", data={"csrf": console.csrf_of(page)})
        assert answer.headers["location"] == "/console/login"
        assert (await client.get("/console")).status_code == 303


@pytest.mark.parametrize("headers", [{"HX-Current-URL": "http://[", "HX-Request": "true"}, {"Origin": "http://["}])
async def test_an_address_that_is_none_is_no_fault_of_ours(
    headers: dict[str, str], stranger: httpx.AsyncClient
) -> None:
    assert (await stranger.get("/console", headers=headers)).status_code in {303, 401}
    assert (await stranger.post("/console/login", data={"key": "gw_x"}, headers=headers)).status_code in {401, 403}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_another_site_cannot_log_a_visitor_in(
    headers: dict[str, str], api: running_api.Api, stranger: httpx.AsyncClient
) -> None:
    key, _ = await console.key_of(api)
    answer = await stranger.post("/console/login", data={"key": key}, headers=headers)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_after_many_failures_an_address_waits_and_even_the_right_key_does_not_help(
    api: running_api.Api, stranger: httpx.AsyncClient
) -> None:
    for _ in range(login_limits.FAILURES_MAX):
        assert (await stranger.post("/console/login", data={"key": "gw_wrong"})).status_code == 401
    key, _ = await console.key_of(api)
    answer = await stranger.post("/console/login", data={"key": key})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= login_limits.WINDOW_SECONDS
    forwarded = {"X-Forwarded-For": "192.0.2.7"}
    assert (await stranger.post("/console/login", data={"key": key}, headers=forwarded)).status_code == 303


@pytest.mark.parametrize(
    "elsewhere",
    [
        "/console/login",
        "https://evil.example/console",
        "//evil.example/console",
        "/\\evil.example",
        "/api/v1/workflows",
        "/consoles",
        "//[",
        "/console/../docs",
        "/console/%2e%2e/docs",
    ],
)
async def test_a_login_goes_on_to_pages_of_the_console_only(
    elsewhere: str, api: running_api.Api, stranger: httpx.AsyncClient
) -> None:
    page = await stranger.get(f"/console/login?{parse.urlencode({'next': elsewhere})}")
    assert 'name="next" value="/console"' in page.text
    key, _ = await console.key_of(api)
    answer = await stranger.post("/console/login", data={"key": key, "next": elsewhere})
    assert answer.headers["location"] == "/console"


@pytest.mark.parametrize("id_", ["login-flow", "a/b", "100%", "größe", "<b>", "\u202ex"])
async def test_a_login_goes_on_to_a_workflow_of_any_id(
    id_: str, api: running_api.Api, stranger: httpx.AsyncClient
) -> None:
    wanted = f"/console/workflows/{addresses.segment(id_)}?by=week"
    asked = await stranger.get(wanted)
    goes_on = parse.parse_qs(parse.urlsplit(asked.headers["location"]).query)["next"][0]
    assert addresses.unquoted(parse.unquote(goes_on.split("/")[3].partition("?")[0])) == id_
    key, _ = await console.key_of(api)
    answer = await stranger.post("/console/login", data={"key": key, "next": goes_on})
    assert answer.headers["location"] == goes_on


async def test_an_insecure_tenant_needs_no_login(database_url: str) -> None:
    async with console.running(database_url, {}, insecure_tenant="local") as api, console.browser(api) as client:
        page = await client.get("/console")
        assert (page.status_code, "local" in page.text) == (200, True)
        assert (await client.get("/console/login")).headers["location"] == "/console"
        assert (await client.post("/console/logout", data={})).status_code == 403


# --- one-time codes ---


async def test_a_link_with_a_code_logs_in_once_and_not_by_being_looked_at(
    api: running_api.Api, stranger: httpx.AsyncClient
) -> None:
    _, key = await console.key_of(api)
    code = await login_codes.create(api.pool, key.tenant_id, key.id)
    for _ in range(2):
        page = await stranger.get(f"/console/login?code={code}")
        assert (page.status_code, f'name="code" value="{code}"' in page.text) == (200, True)
    answer = await stranger.post("/console/login", data={"code": code, "next": "/console"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    assert (await stranger.get("/console")).status_code == 200
    async with console.browser(api) as second:
        refused = await second.post("/console/login", data={"code": code})
        assert (refused.status_code, "was used" in refused.text) == (401, True)


async def test_codes_cannot_be_tried_without_end(stranger: httpx.AsyncClient) -> None:
    answers = [
        await stranger.post("/console/login", data={"code": "a" * 22}) for _ in range(login_limits.FAILURES_MAX + 1)
    ]
    assert [answer.status_code for answer in answers] == [401] * login_limits.FAILURES_MAX + [429]
