"""The whole way in a real browser, with Kafka, PostgreSQL, a worker, the API and insight as processes."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from playwright import async_api
from sqlalchemy.ext import asyncio as sa_async

from goalworker.embedded import machine
from goalworker.postgres import connections
from goalworker.stores import api_keys
from tests.kit import browser, clients, messages_in, support, worker_process
from tests.kit.forker import Forker

pytestmark = pytest.mark.asyncio(loop_scope="package")

WORKFLOW = "checkout"
MILLISECONDS = 30_000


@pytest.fixture
def installed(
    chromium_path: str,
    bootstrap_servers: str,
    postgres_url: str,
    template_database: str,
    forker: Forker,
    tmp_path: Path,
) -> Iterator[worker_process.Installation]:
    settings = {"HISTORY__DELAY_SECONDS": 0}
    with worker_process.installation(
        bootstrap_servers, postgres_url, template_database, tmp_path, forker=forker, settings=settings
    ) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="package")
async def pool(installed: worker_process.Installation) -> AsyncIterator[sa_async.AsyncEngine]:
    pool = connections.engine(installed.database_url, pool_size=2, statement_timeout_seconds=30, application="test")
    yield pool
    await pool.dispose()


def started(number: int, at: datetime) -> messages_in.Record:
    run = {"workflow_id": WORKFLOW, "enrollment_id": f"run-{number}", "contact_id": f"contact-{number:04}"}
    return messages_in.event("workflow.enrollment.started", run, at, id=f"start-{number}")


def paid(number: int, amount: str, at: datetime) -> messages_in.Record:
    payment = {"payment_id": f"pay-{number}", "amount": amount, "currency": "EUR"}
    data = {"contact_id": f"contact-{number:04}", **payment}
    return messages_in.event("payment.completed", data, at, id=f"pay-{number}")


async def test_from_the_login_to_a_planned_goal_that_counts(
    chromium: async_api.Browser, installed: worker_process.Installation, pool: sa_async.AsyncEngine
) -> None:
    port = machine.free_port()
    key, _ = await api_keys.create(pool, messages_in.TENANT, "ann", api_keys.SCOPES)
    async with (
        installed.worker(),
        worker_process.stopping(installed.launch("insight")) as insight,
        worker_process.stopping(installed.launch("api", API__PORT=port)) as api,
        clients.connect(installed) as client,
        browser.tab(chromium, f"http://127.0.0.1:{port}") as tab,
    ):
        await support.until(lambda: api.answers("/healthz/ready") == 200)
        await support.until(lambda: insight.answers("/healthz/ready") == 200)
        page, expect = tab.page, async_api.expect
        await client.create_goal(WORKFLOW, "purchase_made", min_amount="50", currency="EUR")

        # log in
        await tab.open("/console")
        await page.get_by_label("API key").fill(key)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.locator("#feed-state")).to_have_text("Live")

        # an exit arrives
        await client.send(*(started(number, datetime.now(UTC)) for number in (1, 2)))
        await client.send(*(paid(number, amount, datetime.now(UTC)) for number, amount in ((1, "60.00"), (2, "49.90"))))
        entries = page.locator("#feed-list li")
        await expect(entries.filter(has_text="Exit").first).to_contain_text(WORKFLOW, timeout=MILLISECONDS)

        # the contact, and why another one stays
        await entries.filter(has_text="Exit").first.locator(".contact a").first.click()
        await expect(page.locator("main")).to_contain_text(WORKFLOW)
        await page.locator("#search-contact").fill("contact-0002")
        await page.get_by_role("button", name="Find").click()
        await _reads(page, "49.90 EUR", "at least 50")

        # plan a goal, save it, and see it count
        await page.goto(f"{tab.url}/console/workflows/{WORKFLOW}/goals/new?goal_type=purchase_made")
        await page.locator("[name=name]").fill("Any payment")
        await page.locator("[name=any_purchase]").check()
        await page.get_by_role("button", name="Plan").click()
        await expect(page.locator("#plan")).to_contain_text("Would exit", timeout=MILLISECONDS)
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("h1")).not_to_contain_text("Plan")
        await page.goto(f"{tab.url}/console")
        await expect(page.locator("#feed-state")).to_have_text("Live")
        await client.send(started(3, datetime.now(UTC)))
        await client.send(paid(3, "1.00", datetime.now(UTC)))
        await expect(entries.filter(has_text="co…03").first).to_be_visible(timeout=MILLISECONDS)
        await page.goto(f"{tab.url}/console/workflows/{WORKFLOW}")
        await expect(page.get_by_role("row").filter(has_text="Any payment").locator("td.number").first).to_have_text(
            "1"
        )


async def _reads(page: async_api.Page, *words: str) -> None:
    """Load a page again until it says these words: insight reads behind the worker."""
    for _ in range(30):
        said = await page.locator("main").inner_text()
        if all(word in said for word in words):
            return
        await page.wait_for_timeout(500)
        await page.reload()
    raise AssertionError(await page.locator("main").inner_text())
