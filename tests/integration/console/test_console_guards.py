"""Every address of the console, present and future, is guarded: session, rights, forms of ours, one tenant."""

import html
import re

import httpx
import pytest

from goalworker.console import contact_links, installation, mounting
from goalworker.domain.cells import bucket_of
from goalworker.stores import goal_store
from tests.kit import console, running_api

# Addresses that need no session.
OPEN = {"/", "/console/login", "/console/static/{name}"}
# Forms that change nothing of the tenant's.
OF_READERS = {"/console/logout", "/console/contacts"}
CONTACT, NAME = "contact-of-acme", "goal-of-acme"


def _routes(method: str) -> list[str]:
    found = [
        (route.path, route.methods)  # type: ignore[attr-defined]
        for router in mounting._ROUTERS
        for route in router.routes
    ]
    return [path for path, methods in found if method in methods and path not in OPEN]


def _address(path: str, **ids: str) -> str:
    """Return the address of a route, with these ids, and for others with some that nothing has."""
    by_type = {"int": "0", "uuid": running_api.UNKNOWN, "": "nothing"}

    def id_of(place: re.Match[str]) -> str:
        name, _, kind = place[1].partition(":")
        return ids.get(name) or (
            running_api.UNKNOWN if name.endswith("_id") and name != "workflow_id" else by_type[kind]
        )

    return re.sub(r"{([^}]+)}", id_of, path)


def test_the_console_has_pages_and_forms() -> None:
    assert len(_routes("GET")) > 10
    assert len(_routes("POST")) > 5


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_address_answers_without_a_session(method: str, stranger: httpx.AsyncClient) -> None:
    for path in _routes(method):
        answer = await stranger.request(method, _address(path))
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/console/login"), path
        part = await stranger.request(method, _address(path), headers={"HX-Request": "true"})
        assert (part.status_code, part.text) == (401, ""), path


async def test_no_form_is_taken_without_the_token_of_its_session(
    client: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    foreign = console.csrf_of(await other.get("/console"))
    for path in _routes("POST"):
        for given in ({}, {"csrf": foreign}, {"csrf": ""}):
            assert (await client.post(_address(path), data=given)).status_code == 403, path
        by_header = await client.post(_address(path), headers={"X-CSRF-Token": foreign})
        assert by_header.status_code == 403, path


async def test_a_reader_changes_nothing(reader: httpx.AsyncClient) -> None:
    token = console.csrf_of(await reader.get("/console"))
    for path in _routes("POST"):
        if path not in OF_READERS:
            answer = await reader.post(_address(path), data={"csrf": token})
            assert (answer.status_code, "goals:write" in answer.text) == (403, True), path


async def test_with_the_ids_of_another_tenant_every_page_is_absent(
    api: running_api.Api, client: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    async with api.holder() as caller:
        goal = await running_api.create(caller, running_api.TAG | {"name": NAME})
    keys = await installation.Installation(api.pool).keys()
    token = contact_links.token(keys, running_api.TENANT, CONTACT)
    ids = {"workflow_id": "onboarding", "goal_id": goal["id"], "token": token}
    pages = [path for path in _routes("GET") if "{workflow_id" in path or "{token" in path]
    own = [(await client.get(_address(path, **ids))).status_code for path in pages]
    assert own.count(200) > len(pages) / 2
    for path in pages:
        page = await other.get(_address(path, **ids))
        # Everybody may give a goal to a workflow that nothing has named yet.
        assert page.status_code == 404 or path.endswith("/goals/new"), path
        assert CONTACT not in page.text
        assert NAME not in page.text, path


async def test_a_tenant_of_another_cell_is_told_so_on_a_page(database_url: str) -> None:
    foreign = next(number for number in range(1_024) if number != bucket_of(running_api.TENANT))
    variables = running_api.TOKENS | {"GOALWORKER_CELL__BUCKETS": str(foreign)}
    async with console.running(database_url, variables) as api, console.logged_in(api) as client:
        page = await client.get("/console")
        assert (page.status_code, "another cell" in page.text) == (421, True)
        assert page.headers["content-type"].startswith("text/html")


HOSTILE = ['<script>alert("1")</script>', "\u202egnp.exe", "a/b/../c", "..", "x" * 255, "100%25", "' onclick='x"]


@pytest.mark.parametrize("id_", HOSTILE)
async def test_a_workflow_of_any_id_has_a_page_that_shows_the_id_as_text(
    id_: str, api: running_api.Api, client: httpx.AsyncClient
) -> None:
    draft = goal_store.parse_draft({"goal_type": "form_submitted", "criteria": {"form_id": id_}, "name": id_})
    await goal_store.create(api.pool, running_api.TENANT, id_, draft, actor="ann", maximum=3)
    first = await client.get("/console")
    (link,) = set(re.findall(r'href="(/console/workflows/[^"/?]+)"', first.text))
    page = await client.get(link)
    for shown in (first, page):
        assert shown.status_code == 200
        assert html.escape(id_).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in shown.text
        assert "<script>" not in shown.text
        assert " onclick='" not in shown.text
    assert re.search(r'href="[^"]*/goals/[0-9a-f-]{36}"', page.text)
