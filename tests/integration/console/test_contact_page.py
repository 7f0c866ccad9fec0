"""The contact's page over HTTP: search, timeline, explanations, and an id that stays hidden until it is asked for."""

import html
import re
from urllib import parse

import httpx
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events
from goalworker.postgres import connections
from tests.integration import kept_events, world
from tests.integration.console import contact_visits
from tests.integration.console.contact_visits import CONTACT, CONTACTS
from tests.integration.scenes import failed, goal, paid, purchase, started, tagged
from tests.kit.strategies import at


@pytest.fixture
async def lived(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> list[events.Event]:
    """A contact who paid too little, and whose second payment failed."""
    await world.install(administrator, [purchase(1, min_amount=50), goal(2, "vip", "w2")])
    happened = [
        started(0, run=("w1", "e1", CONTACT)),
        paid("evt-1", 1, "pay-1", "49.90", CONTACT),
        failed("evt-2", 2, "pay-2", CONTACT),
    ]
    await world.Worker(pool, world.Broker()).take(*happened)
    await kept_events.keep(pool, *happened[1:])
    await kept_events.cover(pool, at(-1))
    return happened


# --- search ---


@pytest.mark.usefixtures("lived")
async def test_a_pasted_id_leads_to_its_page_without_the_blanks_around_it(visitor: httpx.AsyncClient) -> None:
    address = await contact_visits.address_of(visitor, f"  {CONTACT}\n")
    assert re.fullmatch(rf"{CONTACTS}/[A-Za-z0-9_-]+", address)
    assert CONTACT not in address
    assert (await visitor.get(address)).status_code == 200


@pytest.mark.usefixtures("lived")
async def test_another_tool_names_a_contact_by_its_id(visitor: httpx.AsyncClient) -> None:
    found = await visitor.get(CONTACTS, params={"contact_id": CONTACT})
    assert (found.status_code, found.headers["location"]) == (303, await contact_visits.address_of(visitor))


@pytest.mark.parametrize("contact_id", ["", "   ", "a\0b", "x" * 256])
async def test_a_text_that_is_no_id_is_refused_with_the_rule(visitor: httpx.AsyncClient, contact_id: str) -> None:
    found = await contact_visits.search(visitor, contact_id)
    assert found.status_code == 400
    assert "id must be text of 1 to 255 bytes" in found.text


async def test_a_form_that_no_page_of_ours_sent_is_refused(visitor: httpx.AsyncClient) -> None:
    assert (await visitor.post(CONTACTS, data={"contact": CONTACT})).status_code == 403


async def test_the_search_is_a_field_labelled_contact(visitor: httpx.AsyncClient) -> None:
    page = (await visitor.get(CONTACTS)).text
    assert re.search(r'<label for="([a-z-]+)">Contact</label>\s*<input id="\1" name="contact"', page)


# --- an unknown contact ---


async def test_of_an_unknown_contact_the_page_says_what_was_looked_for(
    visitor: httpx.AsyncClient, pool: sa_async.AsyncEngine
) -> None:
    page = await contact_visits.page_of(visitor, "nobody-here", status=404)
    assert "Nothing was found: no enrollment" in page
    assert "Nobody looked at events that miss every goal" in page
    await kept_events.cover(pool, at(-1))
    page = await contact_visits.page_of(visitor, "nobody-here", status=404)
    assert "Nobody looked" not in page
    assert re.search(r"Events are kept since 20\d\d-\d\d-\d\d .*; older ones are no longer kept\.", page)


@pytest.mark.usefixtures("lived")
async def test_filters_that_leave_nothing_do_not_make_a_contact_unknown(visitor: httpx.AsyncClient) -> None:
    page = await contact_visits.page_of(visitor, kind="exits")
    assert "Nothing was found that these filters leave." in page


@pytest.mark.usefixtures("lived")
async def test_another_tenants_contact_shows_nothing(visitor: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    page = await other.get(await contact_visits.address_of(other))
    assert page.status_code == 404
    assert "Unknown contact" in page.text
    assert "evt-1" not in page.text
    assert (await other.get(await contact_visits.address_of(visitor))).status_code == 404  # the token of another tenant
    explained = await other.get(f"{await contact_visits.address_of(other)}/explanations", params={"workflow_id": "w1"})
    assert explained.status_code == 404


async def test_a_stranger_logs_in_first_and_comes_back(visitor: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    address = await contact_visits.address_of(visitor)
    answer = await stranger.get(address)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/login?next={parse.quote(address, '')}")


# --- the timeline ---


@pytest.mark.usefixtures("lived")
async def test_the_timeline_shows_what_happened_with_details_in_place(visitor: httpx.AsyncClient) -> None:
    page = await contact_visits.page_of(visitor)
    titles = re.findall(
        r"<summary>\s*<time.*?</time>\s*<span class=\"kind muted\">(.*?)</span>\s*(.*?)\s*</summary>", page
    )
    assert titles == [
        ("Event", '<strong class="bad"><bdi>Payment pay-2 failed</bdi></strong>'),
        ("Event", "<span><bdi>Paid 49.90 EUR</bdi></span>"),
        ("Enrollment", "<span><bdi>Enrolled in w1</bdi></span>"),
    ]
    for name, value in (("topic", "topic"), ("partition", "3"), ("offset", "0"), ("source", "/shop")):
        assert f"<dt>{name}</dt><dd><bdi>{value}</bdi></dd>" in page
    assert "/min_amount is at least 50: the event has 49.90" in page


@pytest.mark.usefixtures("lived")
async def test_the_timeline_is_narrowed_by_plain_queries(visitor: httpx.AsyncClient) -> None:
    page = await contact_visits.page_of(visitor, kind=["enrollments", "hits"], workflow_id="w1")
    assert re.findall(r'class="line kind-([a-z_]+)', page) == ["enrollment_started"]
    page = await contact_visits.page_of(visitor, workflow_id="w2")
    assert re.findall(r'class="line kind-([a-z_]+)', page) == ["event", "event"]
    assert "Events belong to no workflow" in page


@pytest.mark.usefixtures("lived")
async def test_the_id_is_hidden_until_somebody_asks_for_it(visitor: httpx.AsyncClient) -> None:
    page = await contact_visits.page_of(visitor)
    assert CONTACT not in page
    assert "<title>Contact cu…11" in page
    (reveal,) = contact_visits.links_of(page, "Show the whole id")
    revealed = (await visitor.get(reveal)).text
    assert f'<bdi class="id">{CONTACT}</bdi>' in revealed
    assert CONTACT in re.findall(r"<dt><code>contact_id</code></dt><dd><bdi>(.*?)</bdi>", revealed)
    (hide,) = contact_visits.links_of(revealed, "Hide the id again")
    assert CONTACT not in (await visitor.get(hide)).text


async def test_older_pages_show_the_rest_once(
    visitor: httpx.AsyncClient, pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [goal(1, "tag-1")])
    await kept_events.keep(pool, *(tagged(f"evt-{n:03}", n, "tag-9", CONTACT) for n in range(250)))
    page, shown = await contact_visits.page_of(visitor), []
    while True:
        shown += re.findall(r"<dt>event id</dt><dd><bdi>(evt-\d+)</bdi>", page)
        older = contact_visits.links_of(page, "Older")
        if not older:
            break
        page = (await visitor.get(older[0])).text
        assert contact_visits.links_of(page, "Newest")
    assert shown == [f"evt-{n:03}" for n in reversed(range(250))]


@pytest.mark.parametrize("cursor", ["x", "WzFd", "ä"])
async def test_a_cursor_that_no_page_gave_is_a_400(visitor: httpx.AsyncClient, cursor: str) -> None:
    await contact_visits.page_of(visitor, status=400, cursor=cursor)


@pytest.mark.usefixtures("lived")
async def test_the_number_of_enrollments_links_to_them(visitor: httpx.AsyncClient) -> None:
    (link,) = contact_visits.links_of(await contact_visits.page_of(visitor), "1</a></td>")
    page = (await visitor.get(link)).text
    assert re.findall(r'class="line kind-([a-z_]+)', page) == ["enrollment_started"]


# --- explanations ---


@pytest.mark.usefixtures("lived")
async def test_each_goal_is_explained_in_a_fragment_of_its_own(visitor: httpx.AsyncClient) -> None:
    page = await contact_visits.page_of(visitor)
    (address,) = set(re.findall(r'hx-get="([^"]+)" hx-trigger="load"', page))
    fragment = (
        await visitor.get(html.unescape(address), headers={"HX-Request": "true", "HX-Request-Type": "partial"})
    ).text
    assert "<html" not in fragment
    assert re.search(
        r'class="sentence" id="[^"]+"[^>]*>cu…11 paid 49.90 EUR on .* \(pay-1\); the goal asks for at least', fragment
    )
    gates = re.findall(r'<li class="[a-z]+"><span aria-hidden="true">.</span> <strong>([a-z]+)</strong>', fragment)
    assert gates == ["passed"] * 3 + ["failed"] + ["unknown"] * 6
    assert "<code>/amount 50</code>" in fragment
    assert CONTACT not in fragment
    for rows in ("explanations", "achievements"):
        assert f"GET /api/v1/workflows/w1/{rows}?contact_id=cu…11" in fragment


@pytest.mark.usefixtures("lived")
async def test_without_scripts_the_explanation_is_a_page_behind_a_link(visitor: httpx.AsyncClient) -> None:
    (link,) = contact_visits.links_of(await contact_visits.page_of(visitor, reveal="true"), "Explain each goal")
    page = (await visitor.get(link)).text
    assert "<html" in page
    assert f"{CONTACT} paid 49.90 EUR" in page
    assert f"GET /api/v1/workflows/w1/explanations?contact_id={CONTACT}" in page


@pytest.mark.usefixtures("lived")
async def test_each_explanation_is_an_entry_of_the_audit(
    visitor: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await contact_visits.page_of(visitor)
    assert await administrator.fetchval("SELECT count(*) FROM audit_log WHERE action = 'explained'") == 0
    await visitor.get(f"{await contact_visits.address_of(visitor)}/explanations", params={"workflow_id": "w1"})
    rows = await administrator.fetch("SELECT actor, contact_id FROM audit_log WHERE action = 'explained'")
    assert [tuple(row) for row in rows] == [("ann", CONTACT)]


@pytest.mark.usefixtures("lived")
@pytest.mark.parametrize("query", [{"workflow_id": "no-such"}, {"workflow_id": ""}, {"workflow_id": "a\0"}, {}])
async def test_an_unknown_workflow_is_a_404(visitor: httpx.AsyncClient, query: dict[str, str]) -> None:
    assert (
        await visitor.get(f"{await contact_visits.address_of(visitor)}/explanations", params=query)
    ).status_code == 404
