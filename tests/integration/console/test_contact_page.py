"""The contact's page over HTTP: search, timeline, explanations, and an id that stays hidden until it is asked for."""

import gzip
import html
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib import parse

import httpx
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.console import contact_query
from goalworker.domain import events
from goalworker.postgres import connections
from tests.integration import kept_events, statements, world
from tests.integration.scenes import TENANT, failed, goal, paid, purchase, started, tagged
from tests.kit import console, running_api
from tests.kit.strategies import at

CONTACTS = "/console/contacts"
CONTACT = "customer-4711"
WEEK = timedelta(days=7)


@pytest.fixture
async def visitor(api: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without scripts that may only read."""
    async with console.logged_in(api, TENANT, ["goals:read"]) as client:
        yield client


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


async def _search(visitor: httpx.AsyncClient, contact_id: str) -> httpx.Response:
    csrf = console.csrf_of(await visitor.get(CONTACTS))
    return await visitor.post(CONTACTS, data={"contact": contact_id, "csrf": csrf})


async def _address(visitor: httpx.AsyncClient, contact_id: str = CONTACT) -> str:
    found = await _search(visitor, contact_id)
    assert found.status_code == 303, found.text
    return found.headers["location"]


async def _page(visitor: httpx.AsyncClient, contact_id: str = CONTACT, *, status: int = 200, **query: Any) -> str:
    page = await visitor.get(await _address(visitor, contact_id), params=query)
    assert page.status_code == status, page.text
    return page.text


def _links(page: str, words: str) -> list[str]:
    return [html.unescape(href) for href in re.findall(rf'<a[^>]*href="([^"]+)"[^>]*>{words}', page)]


# --- search ---


@pytest.mark.usefixtures("lived")
async def test_a_pasted_id_leads_to_its_page_without_the_blanks_around_it(visitor: httpx.AsyncClient) -> None:
    address = await _address(visitor, f"  {CONTACT}\n")
    assert re.fullmatch(rf"{CONTACTS}/[A-Za-z0-9_-]+", address)
    assert CONTACT not in address
    assert (await visitor.get(address)).status_code == 200


@pytest.mark.usefixtures("lived")
async def test_another_tool_names_a_contact_by_its_id(visitor: httpx.AsyncClient) -> None:
    found = await visitor.get(CONTACTS, params={"contact_id": CONTACT})
    assert (found.status_code, found.headers["location"]) == (303, await _address(visitor))


@pytest.mark.parametrize("contact_id", ["", "   ", "a\0b", "x" * 256])
async def test_a_text_that_is_no_id_is_refused_with_the_rule(visitor: httpx.AsyncClient, contact_id: str) -> None:
    found = await _search(visitor, contact_id)
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
    page = await _page(visitor, "nobody-here", status=404)
    assert "Nothing was found: no enrollment" in page
    assert "Nobody looked at events that miss every goal" in page
    await kept_events.cover(pool, at(-1))
    page = await _page(visitor, "nobody-here", status=404)
    assert "Nobody looked" not in page
    assert re.search(r"Events are kept since 20\d\d-\d\d-\d\d .*; older ones are no longer kept\.", page)


@pytest.mark.usefixtures("lived")
async def test_filters_that_leave_nothing_do_not_make_a_contact_unknown(visitor: httpx.AsyncClient) -> None:
    page = await _page(visitor, kind="exits")
    assert "Nothing was found that these filters leave." in page


@pytest.mark.usefixtures("lived")
async def test_another_tenants_contact_shows_nothing(visitor: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    page = await other.get(await _address(other))
    assert page.status_code == 404
    assert "Unknown contact" in page.text
    assert "evt-1" not in page.text
    assert (await other.get(await _address(visitor))).status_code == 404  # the token of another tenant
    explained = await other.get(f"{await _address(other)}/explanations", params={"workflow_id": "w1"})
    assert explained.status_code == 404


async def test_a_stranger_logs_in_first_and_comes_back(visitor: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    address = await _address(visitor)
    answer = await stranger.get(address)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/login?next={parse.quote(address, '')}")


# --- the timeline ---


@pytest.mark.usefixtures("lived")
async def test_the_timeline_shows_what_happened_with_details_in_place(visitor: httpx.AsyncClient) -> None:
    page = await _page(visitor)
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
    page = await _page(visitor, kind=["enrollments", "hits"], workflow_id="w1")
    assert re.findall(r'class="line kind-([a-z_]+)', page) == ["enrollment_started"]
    page = await _page(visitor, workflow_id="w2")
    assert re.findall(r'class="line kind-([a-z_]+)', page) == ["event", "event"]
    assert "Events belong to no workflow" in page


@pytest.mark.usefixtures("lived")
async def test_the_id_is_hidden_until_somebody_asks_for_it(visitor: httpx.AsyncClient) -> None:
    page = await _page(visitor)
    assert CONTACT not in page
    assert "<title>Contact cu…11" in page
    (reveal,) = _links(page, "Show the whole id")
    revealed = (await visitor.get(reveal)).text
    assert f'<bdi class="id">{CONTACT}</bdi>' in revealed
    assert CONTACT in re.findall(r"<dt><code>contact_id</code></dt><dd><bdi>(.*?)</bdi>", revealed)
    (hide,) = _links(revealed, "Hide the id again")
    assert CONTACT not in (await visitor.get(hide)).text


async def test_older_pages_show_the_rest_once(
    visitor: httpx.AsyncClient, pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [goal(1, "tag-1")])
    await kept_events.keep(pool, *(tagged(f"evt-{n:03}", n, "tag-9", CONTACT) for n in range(250)))
    page, shown = await _page(visitor), []
    while True:
        shown += re.findall(r"<dt>event id</dt><dd><bdi>(evt-\d+)</bdi>", page)
        older = _links(page, "Older")
        if not older:
            break
        page = (await visitor.get(older[0])).text
        assert _links(page, "Newest")
    assert shown == [f"evt-{n:03}" for n in reversed(range(250))]


@pytest.mark.parametrize("cursor", ["x", "WzFd", "ä"])
async def test_a_cursor_that_no_page_gave_is_a_400(visitor: httpx.AsyncClient, cursor: str) -> None:
    await _page(visitor, status=400, cursor=cursor)


@pytest.mark.usefixtures("lived")
async def test_the_number_of_enrollments_links_to_them(visitor: httpx.AsyncClient) -> None:
    (link,) = _links(await _page(visitor), "1</a></td>")
    page = (await visitor.get(link)).text
    assert re.findall(r'class="line kind-([a-z_]+)', page) == ["enrollment_started"]


# --- explanations ---


@pytest.mark.usefixtures("lived")
async def test_each_goal_is_explained_in_a_fragment_of_its_own(visitor: httpx.AsyncClient) -> None:
    page = await _page(visitor)
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
    (link,) = _links(await _page(visitor, reveal="true"), "Explain each goal")
    page = (await visitor.get(link)).text
    assert "<html" in page
    assert f"{CONTACT} paid 49.90 EUR" in page
    assert f"GET /api/v1/workflows/w1/explanations?contact_id={CONTACT}" in page


@pytest.mark.usefixtures("lived")
async def test_each_explanation_is_an_entry_of_the_audit(
    visitor: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await _page(visitor)
    assert await administrator.fetchval("SELECT count(*) FROM audit_log WHERE action = 'explained'") == 0
    await visitor.get(f"{await _address(visitor)}/explanations", params={"workflow_id": "w1"})
    rows = await administrator.fetch("SELECT actor, contact_id FROM audit_log WHERE action = 'explained'")
    assert [tuple(row) for row in rows] == [("ann", CONTACT)]


@pytest.mark.usefixtures("lived")
@pytest.mark.parametrize("query", [{"workflow_id": "no-such"}, {"workflow_id": ""}, {"workflow_id": "a\0"}, {}])
async def test_an_unknown_workflow_is_a_404(visitor: httpx.AsyncClient, query: dict[str, str]) -> None:
    assert (await visitor.get(f"{await _address(visitor)}/explanations", params=query)).status_code == 404


# --- hostile ids ---

HOSTILE = [
    "<script>alert(1)</script>",
    "a/b/../c",
    "..",
    "%2F%00",
    "\u202eabcdef\u2066gh",
    "عميل-٤٧",
    "é" * 127 + "x",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "a&b=c#d?e+f",
]


@pytest.mark.parametrize("contact_id", HOSTILE)
async def test_hostile_ids_are_shown_as_text(
    visitor: httpx.AsyncClient, pool: sa_async.AsyncEngine, administrator: connections.Connection, contact_id: str
) -> None:
    workflow_id = contact_id[::-1]
    await world.install(administrator, [purchase(1, workflow_id, min_amount=200)])
    await world.Worker(pool, world.Broker()).take(started(0, run=(workflow_id, contact_id, contact_id)))
    await kept_events.keep(pool, paid(contact_id, 1, contact_id, "1", contact_id))
    queries: tuple[dict[str, Any], ...] = ({}, {"reveal": "true"})
    for query in queries:
        page = await _page(visitor, contact_id, **query)
        shown = re.sub(r' value="[^"]*"', "", page)  # of an option, which a form sends back as it is
        assert not re.search(r"<(script>|img src=x)|\u202e|\u2066", shown)
        assert ">49<" not in page
        explained = await visitor.get(
            f"{await _address(visitor, contact_id)}/explanations", params={"workflow_id": workflow_id, **query}
        )
        assert explained.status_code == 200
        assert not re.search(r"<(script>|img src=x)|\u202e|\u2066", explained.text)
    filtered = await _page(visitor, contact_id, workflow_id=workflow_id, kind="enrollments")
    assert re.findall(r'class="line kind-([a-z_]+)', filtered) == ["enrollment_started"]


# --- size and time ---

_MANY = 20_000
_FILL = f"""
SELECT goalworker_make_history_days('2026-05-01', '2026-05-30');
INSERT INTO history_events
    SELECT 'north', '{CONTACT}', '/shop/eu-west-1', 'evt_' || md5(number::text), 'payment.completed',
        '2026-05-01'::timestamptz + number * interval '120 s',
        json_build_object('contact_id', '{CONTACT}', 'payment_id', 'pay_' || md5('p' || number), 'amount',
            (number % 10000 / 100.0)::text, 'currency', 'EUR', 'product_ids', json_build_array('sku-' || number % 97)),
        'payment-completed', number % 12, number, date '2026-05-01' + number / 720
    FROM generate_series(0, {_MANY - 1}) AS number;
ANALYZE history_events;
"""


async def test_20000_events_are_shown_in_pages_of_bounded_size_and_statements(
    visitor: httpx.AsyncClient, pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [purchase(n, f"w{n}", min_amount=50) for n in range(1, 4)])
    await world.Worker(pool, world.Broker()).take(
        *(started(0, f"s{n}", (f"w{n}", f"e{n}", CONTACT)) for n in range(1, 4))
    )
    await administrator.execute(_FILL)
    page = await _page(visitor)
    assert len(re.findall(r'class="line ', page)) == 100
    assert len(gzip.compress(page.encode(), 5)) <= 80 * 1024
    made, rows = await _work_of(pool)
    assert made <= 16
    assert max(rows) <= 101


async def _work_of(pool: sa_async.AsyncEngine) -> tuple[int, list[int]]:
    """Return how many statements a page takes, and how many rows each returned."""
    made, rows = [], []

    async def hook(statement: statements.Statement) -> Any:
        found = await statement.run()
        made.append(statement.sql)
        rows.append(len(found) if isinstance(found, list) else 1)
        return found

    with statements.hooked(hook):
        await contact_query.read(pool, TENANT, CONTACT, contact_query.Filters(), WEEK)
    return len(made), rows


async def test_ids_of_255_random_bytes_make_pages_of_fewer_entries(
    visitor: httpx.AsyncClient, pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [goal(1, "tag-1")])
    await administrator.execute("SELECT setseed(0.5)")
    row = await administrator.fetch(
        "SELECT string_agg(md5(random()::text), '') AS id FROM generate_series(1, 200 * 7) AS n GROUP BY n % 200"
    )
    ids = [one["id"][:200] for one in row]
    await kept_events.keep(pool, *(tagged(id_, n, id_[::-1], CONTACT) for n, id_ in enumerate(ids)))
    page = await _page(visitor)
    assert 20 <= len(re.findall(r'class="line ', page)) <= 100
    assert len(gzip.compress(page.encode(), 5)) <= 80 * 1024
    assert _links(page, "Older")
