"""The contact's page with hostile ids, 20,000 events, and enrollments whose ids name the contact."""

import gzip
import re
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.console import contact_query
from goalworker.postgres import connections
from tests.integration import kept_events, statements, world
from tests.integration.console import contact_visits
from tests.integration.console.contact_visits import CONTACT
from tests.integration.scenes import TENANT, goal, paid, purchase, started, tagged
from tests.kit import console, running_api

WEEK = timedelta(days=7)

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
        page = await contact_visits.page_of(visitor, contact_id, **query)
        shown = re.sub(r' value="[^"]*"', "", page)  # of an option, which a form sends back as it is
        assert not re.search(r"<(script>|img src=x)|\u202e|\u2066", shown)
        assert ">49<" not in page
        explained = await visitor.get(
            f"{await contact_visits.address_of(visitor, contact_id)}/explanations",
            params={"workflow_id": workflow_id, **query},
        )
        assert explained.status_code == 200
        assert not re.search(r"<(script>|img src=x)|\u202e|\u2066", explained.text)
    filtered = await contact_visits.page_of(visitor, contact_id, workflow_id=workflow_id, kind="enrollments")
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
    page = await contact_visits.page_of(visitor)
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
    page = await contact_visits.page_of(visitor)
    assert 20 <= len(re.findall(r'class="line ', page)) <= 100
    assert len(gzip.compress(page.encode(), 5)) <= 80 * 1024
    assert contact_visits.links_of(page, "Older")


async def test_without_tracking_the_enrollments_id_does_not_tell_the_contacts(
    database_url: str, pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [goal(1, "vip", "w1")])
    await world.Worker(pool, world.Broker(), tracked=False).take(tagged("evt-1", 1, "vip", CONTACT))
    variables = {**running_api.TOKENS, "GOALWORKER_ENROLLMENTS__TRACKING": "false"}
    async with console.running(database_url, variables) as api, console.logged_in(api, TENANT) as client:
        page = await contact_visits.page_of(client)
        assert {"achievement", "exit", "hit"} == set(re.findall(r'class="line kind-([a-z_]+)', page))
        explained = await client.get(
            f"{await contact_visits.address_of(client)}/explanations", params={"workflow_id": "w1"}
        )
        assert "got the tag vip" in explained.text
        for text in (page, explained.text):
            assert CONTACT not in text
            assert "contact:w1:cu…11" in text
