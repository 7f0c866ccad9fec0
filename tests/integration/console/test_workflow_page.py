"""The workflow's page: the numbers of the API, rows behind them, immature weeks, and nothing of another tenant."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib import parse
from uuid import UUID

import httpx
import pytest

from goalworker.console import rendering
from goalworker.postgres import connections
from tests.kit import console, running_api
from tests.kit.running_api import PATH, TENANT, create

PAGE = "/console/workflows/onboarding"
WHOLE = f"{PAGE}?from=&whole=1"
PURCHASE = {"goal_type": "purchase_made", "criteria": {"any_purchase": True}, "name": "Bought"}
HOSTILE = "\"><script>alert('x')</script>/\u202e%2F& ..\U0001f600"
# A Monday. The current week cannot be mature.
LONG_AGO = datetime(2025, 1, 6, 9, tzinfo=UTC)
PARTS = ("stats", "series", "times")


async def enroll(
    administrator: connections.Connection,
    name: str,
    began: datetime,
    *,
    goal: UUID | None = None,
    workflow_id: str = "onboarding",
    contact_id: str | None = None,
    ended: bool = False,
) -> None:
    """Write an enrollment, which converts after half an hour, by a payment of 1010.50, where it has a goal."""
    at = began + timedelta(minutes=30)
    converted = at if goal else None
    await administrator.execute(
        """INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at, satisfied_at,
            converted_at, exited_at, ended_at) VALUES ($1, $2, $3, $4, $5, $6, $6, $6, $7)""",
        *(TENANT, name, workflow_id, contact_id or f"contact-of-{name}", began, converted, at if ended else None),
    )
    if goal:
        await administrator.execute(
            """INSERT INTO achievements VALUES ($1, $2, $3, $4, $5, 1, 'purchase_made', $6, $7, '/shop', $8,
                $9, NULL, NULL, 1, NULL)""",
            *(TENANT, name, goal, workflow_id, contact_id or f"contact-of-{name}", began, at, f"evt-{name}"),
            json.dumps({"contact_id": "c", "payment_id": name, "amount": "1010.50", "currency": "EUR"}),
        )


@pytest.fixture
async def caller(api: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API, of the tenant whose browser is logged in."""
    async with api.holder() as client:
        yield client


@pytest.fixture
async def stranger_caller(api: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API, of another tenant."""
    async with api.holder(tenant_id=running_api.OTHER) as client:
        yield client


@pytest.fixture
async def goal(caller: httpx.AsyncClient, administrator: connections.Connection) -> UUID:
    """A goal that three of five contacts of a week reached, and one of three of the current week."""
    goal = UUID((await create(caller, PURCHASE))["id"])
    for number in range(5):
        await enroll(administrator, f"old{number}", LONG_AGO, goal=goal if number < 3 else None, ended=number == 4)
    now = datetime.now(UTC) - timedelta(hours=1)
    for number in range(3):
        await enroll(administrator, f"new{number}", now, goal=goal if number < 1 else None)
    return goal


def words(page: httpx.Response) -> str:
    """Return what a page says, without its markup."""
    assert page.status_code == 200, page.text
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.text)).split())


def links(page: httpx.Response) -> list[str]:
    return [unescape(found) for found in re.findall(r'href="([^"]*)"', page.text)]


# --- numbers ---


@pytest.mark.usefixtures("goal")
async def test_the_page_has_the_digits_of_the_api(client: httpx.AsyncClient, caller: httpx.AsyncClient) -> None:
    stats = (await caller.get(f"{PATH}/goals/stats")).json()
    shown = words(await client.get(WHOLE))
    assert f"Enrolled {stats['total_enrolled']}" in shown
    assert f"Achieved {stats['enrollments_converted']}" in shown
    assert f"Conversion {stats['conversion_rate']} %" in shown
    assert f"Exited {stats['exits_sent']}" in shown
    assert stats["revenue"]["EUR"] == {"gross": "4042.00", "reversed": "0.00", "net": "4042.00"}
    assert "Gross EUR 4,042.00" in shown
    (mature,) = [cohort for cohort in (await caller.get(f"{PATH}/stats/series")).json() if cohort["rate"] is not None]
    assert f"{mature['rate']} % {mature['low']} to {mature['high']} %" in shown
    times = (await caller.get(f"{PATH}/stats/time-to-goal")).json()
    assert f"Ended without a goal {times['enrollments_ended']} Open {times['enrollments_open']}" in shown
    for point in times["cumulative_incidence"]:
        assert f"{point['at_risk']} {point['converted']} % {point['ended']} %" in shown


@pytest.mark.usefixtures("goal")
async def test_a_week_that_is_not_mature_has_no_rate(client: httpx.AsyncClient) -> None:
    page = await client.get(WHOLE)
    (row,) = re.findall(r'<tr class="immature">.*?</tr>', page.text, re.DOTALL)
    cells = " ".join(re.sub(r"<[^>]*>", " ", row).split())
    assert re.search(r"\b3 0 1 1 not yet mature\b", cells), cells
    assert "%" not in cells
    assert 'class="immature"' in page.text


@pytest.mark.usefixtures("goal")
async def test_each_part_has_an_address_of_its_own(client: httpx.AsyncClient) -> None:
    page = await client.get(f"{PAGE}?from=")
    whole = words(await client.get(WHOLE))
    for part in PARTS:
        (address,) = re.findall(rf'hx-get="([^"]*/{part}\?[^"]*)"', page.text)
        fragment = await client.get(unescape(address))
        assert "<html" not in fragment.text
        assert fragment.text.count("<h2") == 1
        assert words(fragment)[:500] in whole
    assert f"{PAGE}?from=&to=&by=week&horizon=P14D&whole=1#series" in links(page)


@pytest.mark.usefixtures("goal")
async def test_the_page_shows_the_last_weeks_unless_it_is_asked_for_more(client: httpx.AsyncClient) -> None:
    assert "Enrolled 3 " in words(await client.get(f"{PAGE}?whole=1"))
    assert "Enrolled 8 " in words(await client.get(WHOLE))
    assert "Enrolled 5 " in words(await client.get(f"{PAGE}?from=2025-01-06&to=2025-01-13&whole=1"))


@pytest.mark.usefixtures("goal")
async def test_the_page_shows_the_calls_that_give_its_numbers(
    client: httpx.AsyncClient, caller: httpx.AsyncClient
) -> None:
    page = await client.get(f"{PAGE}?from=2025-01-06&by=month&horizon=P7D&whole=1")
    calls = [unescape(found) for found in re.findall(r"<code>GET ([^<]*)</code>", page.text)]
    assert f"{PATH}/stats/series?by=month&horizon=P7D&from=2025-01-06T00:00:00Z" in calls
    assert len(calls) == 6
    for call in calls:
        assert (await caller.get(call)).status_code == 200


@pytest.mark.usefixtures("goal")
async def test_every_term_has_its_definition_on_the_page(client: httpx.AsyncClient) -> None:
    page = await client.get(WHOLE)
    terms = {link for link in links(page) if link.startswith("#def-")}
    assert len(terms) > 10
    assert all(f'id="{term[1:]}"' in page.text for term in terms)


async def test_goals_have_their_criteria_in_words_and_a_page(client: httpx.AsyncClient, goal: UUID) -> None:
    page = await client.get(PAGE)
    assert "Bought A contact pays." in words(page)
    assert f"{PAGE}/goals/{goal}" in links(page)
    assert f"{PAGE}/goals/new" in links(page)


async def test_a_workflow_says_its_logic_and_how_fresh_its_numbers_are(
    client: httpx.AsyncClient, caller: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await create(caller)
    assert "Fresh : unknown" in words(await client.get(PAGE))
    await caller.put(f"{PATH}/goal-settings", json={"logic": "all"})
    judged_until = datetime(2025, 1, 6, 12, 30, tzinfo=UTC)
    await administrator.execute("INSERT INTO progress VALUES ('tag-added', 0, $1, now())", judged_until)
    page = await client.get(PAGE)
    assert "logic all" in words(page)
    assert '<time datetime="2025-01-06T12:30:00Z"' in page.text


@pytest.mark.usefixtures("goal")
async def test_the_sparkline_has_conversions_by_week(client: httpx.AsyncClient) -> None:
    fragment = await client.get(f"{PAGE}/sparkline?from=2025-01-01")
    assert "2025-01-06: 3" in fragment.text
    assert fragment.text.lstrip().startswith("<svg")
    assert "2025-01-06" not in (await client.get(f"{PAGE}/sparkline")).text


async def test_a_span_of_too_many_days_says_so_in_its_part(
    client: httpx.AsyncClient, caller: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await create(caller)
    await enroll(administrator, "old", LONG_AGO.replace(year=1926))
    await enroll(administrator, "new", LONG_AGO)
    assert "makes more than 1000 periods" in words(await client.get(f"{PAGE}?from=&by=day&whole=1"))


# --- rows ---


@pytest.mark.usefixtures("goal")
async def test_each_number_of_enrollments_leads_to_as_many_rows(client: httpx.AsyncClient) -> None:
    page = await client.get(WHOLE)
    numbers = re.findall(r'<a href="([^"]*/enrollments\?[^"]*)">([0-9,]+)</a>', page.text)
    assert len(numbers) > 8
    for address, number in numbers:
        rows = await client.get(unescape(address))
        assert rows.text.count('<th scope="row">') == int(number)


@pytest.mark.usefixtures("goal")
async def test_lists_have_pages_and_masked_contacts(client: httpx.AsyncClient) -> None:
    for rows in ("enrollments", "achievements"):
        page = await client.get(f"{PAGE}/{rows}?limit=3")
        assert page.status_code == 200
        (address,) = [link for link in links(page) if "cursor=" in link]
        rest = await client.get(address)
        assert rest.text.count('<th scope="row">') == 8 - 3 if rows == "enrollments" else 1
        assert all("contact-of" not in link for link in links(page))


async def test_achievements_and_series_can_be_downloaded(
    client: httpx.AsyncClient, caller: httpx.AsyncClient, goal: UUID
) -> None:
    asked = {"goal_id": str(goal), "format": "csv"}
    mine, apis = (
        await client.get(f"{PAGE}/achievements", params=asked),
        await caller.get(f"{PATH}/achievements", params=asked),
    )
    assert (mine.text, mine.headers["content-type"]) == (apis.text, "text/csv; charset=utf-8")
    assert {name: mine.headers[name] for name in rendering.HEADERS} == rendering.HEADERS
    mine, apis = await client.get(f"{PAGE}/series.csv?from="), await caller.get(f"{PATH}/stats/series?format=csv")
    assert mine.text == apis.text


# --- who sees what ---


@pytest.mark.parametrize("path", ["", *(f"/{part}" for part in (*PARTS, "sparkline", "series.csv"))])
async def test_an_unknown_workflow_and_one_of_another_tenant_are_not_there(
    client: httpx.AsyncClient, stranger_caller: httpx.AsyncClient, path: str
) -> None:
    await create(stranger_caller)
    answers = [await client.get(f"/console/workflows/{name}{path}") for name in ("onboarding", "unknown")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert all("text/html" in answer.headers["content-type"] for answer in answers)


@pytest.mark.parametrize("rows", ["enrollments", "achievements"])
async def test_rows_of_another_tenant_are_not_there(
    client: httpx.AsyncClient, stranger_caller: httpx.AsyncClient, rows: str
) -> None:
    await create(stranger_caller)
    assert (await client.get(f"{PAGE}/{rows}")).status_code == 404


async def test_hostile_names_stay_words(
    client: httpx.AsyncClient, administrator: connections.Connection, caller: httpx.AsyncClient
) -> None:
    goal = UUID(int=7)
    at = LONG_AGO - timedelta(days=1)
    await administrator.execute(
        "INSERT INTO goals VALUES ($1, $2, $3, 'purchase_made', $3, 1, $4, 'ann', $4, 'ann', NULL, 1)",
        *(TENANT, goal, HOSTILE, at),
    )
    await administrator.execute(
        "INSERT INTO goal_versions VALUES ($1, $2, 1, $3, true, $4, NULL)",
        *(TENANT, goal, '{"product_ids": ["<b>", "\\u202e"]}', at),
    )
    await enroll(administrator, HOSTILE, LONG_AGO, goal=goal, workflow_id=HOSTILE, contact_id=HOSTILE)
    here = f"/console/workflows/{parse.quote(HOSTILE.replace('%', '%25').replace('/', '%2F'), safe='')}"
    for path in ("?from=&whole=1", "/enrollments", "/achievements"):
        page = await client.get(here + path)
        assert page.status_code == 200, page.text
        assert "<script>alert" not in page.text
        assert "<b>" not in page.text
        assert all("script" not in parse.unquote(link) or "workflows/" in link for link in links(page))
    assert HOSTILE in unescape((await client.get(here)).text)


@pytest.mark.parametrize("wrong", ["by=year", "horizon=14", "from=yesterday", "to=2026-02-30"])
async def test_an_address_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, caller: httpx.AsyncClient, wrong: str
) -> None:
    await create(caller)
    page = await client.get(f"{PAGE}?{wrong}")
    assert page.status_code == 400
    assert "text/html" in page.headers["content-type"]
    assert wrong.partition("=")[0] in page.text


async def test_a_workflow_without_enrollments_has_a_page(client: httpx.AsyncClient, caller: httpx.AsyncClient) -> None:
    await create(caller)
    shown = words(await client.get(WHOLE))
    assert "No enrollment began in this span." in shown
    assert "Enrolled 0" in shown


async def test_without_tracking_a_page_has_what_is_known(
    database_url: str, administrator: connections.Connection
) -> None:
    variables = {**running_api.TOKENS, "GOALWORKER_ENROLLMENTS__TRACKING": "false"}
    async with console.running(database_url, variables) as api, api.holder() as caller:
        goal = UUID((await create(caller, PURCHASE))["id"])
        await enroll(administrator, "untracked", LONG_AGO, goal=goal)
        await administrator.execute("UPDATE enrollments SET enrolled_at = NULL")
        async with console.logged_in(api) as client:
            page = await client.get(WHOLE)
    shown = words(page)
    for known in ("Enrolled not tracked", "Achieved 1 ", "Gross EUR 1,010.50", "need enrollments to be tracked"):
        assert known in shown
    assert "chart-funnel" not in page.text
    assert not [link for link in links(page) if "/enrollments" in link]


@pytest.mark.usefixtures("goal")
async def test_rates_times_and_amounts_lead_to_the_rows_that_they_are_made_of(client: httpx.AsyncClient) -> None:
    page = (await client.get(WHOLE)).text
    for name in ("Conversion", "Median time to goal", "50 % within"):
        assert re.search(rf'>{name}</a></dt>\s*<dd><a href="[^"]*/enrollments\?[^"]*state=converted">', page), name
    for name in ("Gross EUR", "Reversed EUR", "Net EUR"):
        assert re.search(rf'>{name}</a></dt>\s*<dd><a href="[^"]*/achievements\?', page), name
    rows = re.findall(r'<th scope="row">\d{4}-.*?</tr>', page, re.DOTALL)
    assert [len(re.findall(r'<a href="[^"]*/achievements\?', row)) for row in rows if "," in row] == [2, 2]
