"""Headers, files, problems and the path before all addresses: the same on every page of the console."""

import hashlib
import re
from importlib import resources

import httpx
import pytest

from goalworker.console import mounting
from tests.kit import console, running_api
from tests.kit.running_api import problem

FILES = resources.files("goalworker.console") / "static"


async def test_the_bare_address_leads_to_the_console(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")


async def test_without_the_console_none_of_its_addresses_is_there(database_url: str) -> None:
    async with running_api.running(database_url) as api, api.client() as client:
        for path in ("/", "/console", "/console/login", "/console/static/console.css"):
            problem(await client.get(path), 404, "not-found")


async def test_pages_allow_nothing_inline_and_no_other_host(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    for page in (await client.get("/console"), await stranger.get("/console/login"), await client.get("/console/no")):
        policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert set(policy.values()) == {"'none'", "'self'"}
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["referrer-policy"] in ("no-referrer", "same-origin")
        assert "permissions-policy" in page.headers
        assert re.findall(r"<style|<script(?! (?:defer )?src=)|\sstyle=|\son\w+=|https?:|\shx-on", page.text) == []


async def test_browsers_keep_files_for_good_and_fetch_changed_ones_under_new_addresses(
    stranger: httpx.AsyncClient,
) -> None:
    page = (await stranger.get("/console/login")).text
    for address in re.findall(r'(?:src|href)="([^"]*/static/[^"]+)"', page):
        answer = await stranger.get(address)
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
        assert "immutable" in answer.headers["cache-control"]
        assert "immutable" not in (await stranger.get(address.partition("?")[0])).headers["cache-control"]


async def test_files_are_sent_compressed_to_clients_that_take_them_so(stranger: httpx.AsyncClient) -> None:
    plain = await stranger.get("/console/static/console.css", headers={"Accept-Encoding": "identity"})
    compressed = await stranger.get("/console/static/console.css", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert compressed.headers["content-encoding"] == "gzip"
    assert int(compressed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert compressed.text == plain.text


async def test_only_the_files_of_pages_are_served(stranger: httpx.AsyncClient) -> None:
    for name in ("README.md", "htmx.LICENSE", "..%2Fmounting.py", ""):
        assert (await stranger.get(f"/console/static/{name}")).status_code == 404


def test_third_party_files_are_as_listed_and_carry_their_licence() -> None:
    listed = dict(
        re.findall(r"^\| `([\w.-]+)` \| [\d.]+ \| `(\w{64})` \|$", (FILES / "README.md").read_text(), re.MULTILINE)
    )
    assert set(listed) == {"htmx.min.js", "hx-sse.min.js"}
    for name, digest in listed.items():
        assert hashlib.sha256((FILES / name).read_bytes()).hexdigest() == digest
    assert "Zero-Clause BSD" in (FILES / "htmx.LICENSE").read_text()


async def test_problems_are_pages_in_the_console_and_json_in_the_api(client: httpx.AsyncClient) -> None:
    page = await client.get("/console/nowhere")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "<h1>Not found</h1>" in page.text
    problem(await client.get("/nowhere"), 404, "not-found")
    problem(await client.get("/consoles"), 404, "not-found")
    wrong = await client.put("/console/login")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")
    assert "Method not allowed" in wrong.text


async def test_a_script_that_asks_for_a_part_of_a_page_gets_a_part_and_the_login_as_a_whole(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    script = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Current-URL": "http://x/console?by=week"}
    part = await client.get("/console/nowhere", headers=script)
    assert (part.status_code, "<html" in part.text) == (404, False)
    sent = await stranger.get("/console", headers=script)
    assert (sent.status_code, sent.headers["hx-redirect"]) == (401, "/console/login?next=%2Fconsole%3Fby%3Dweek")


@pytest.mark.parametrize("prefix", ["/goals", ""])
async def test_behind_a_path_every_link_begins_with_it_whether_or_not_it_is_stripped(
    prefix: str, database_url: str
) -> None:
    variables = running_api.TOKENS | {"GOALWORKER_API__ROOT_PATH": "/goals"}
    async with (
        running_api.running(database_url, variables, extend=mounting.mount) as api,
        console.browser(api) as client,
    ):
        key, _ = await console.key_of(api)
        assert (await client.get(f"{prefix}/")).headers["location"] == "/goals/console"
        asked = await client.get(f"{prefix}/console")
        assert asked.headers["location"] == "/goals/console/login?next=%2Fgoals%2Fconsole"
        answer = await client.post(f"{prefix}/console/login", data={"key": key, "next": "/goals/console"})
        assert answer.headers["location"] == "/goals/console"
        assert "; Path=/goals/console;" in answer.headers["set-cookie"]
        cookie = answer.headers["set-cookie"].partition(";")[0]
        page = await client.get(f"{prefix}/console", headers={"Cookie": cookie})
        links = re.findall(r'(?:href|src|action|hx-get)="(/[^"]*)"', page.text)
        assert len(links) > 5
        assert [link for link in links if not link.startswith("/goals/")] == []
        style = next(link for link in links if "console.css" in link)
        assert (await client.get(style.removeprefix("/goals" if not prefix else ""))).status_code == 200
        assert (await client.get(f"{prefix}/openapi.json")).json()["servers"] == [{"url": "/goals"}]
        created = await client.post(f"{prefix}{running_api.GOALS}", json=running_api.TAG, headers={"X-API-Key": key})
        assert created.headers["location"] == f"/goals{running_api.GOALS}/{created.json()['id']}"


async def test_without_the_database_a_page_says_so_and_when_to_come_back() -> None:
    async with console.running("postgresql://127.0.0.1:1/none") as api, console.browser(api) as client:
        for answer in (
            await client.get("/console"),
            await client.post("/console/login", data={"key": "gw_" + "a" * 43}),
        ):
            assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
            assert answer.headers["retry-after"] == "2"
            assert "The database" in answer.text
            assert "set-cookie" not in answer.headers
        assert (await client.get("/console/static/console.css")).status_code == 200
