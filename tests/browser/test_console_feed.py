"""The live feed in a real browser: entries as they come, a pause, and a connection that is cut."""

import pytest
from playwright import async_api

from goalworker.api import live_feed
from tests.browser import seeded
from tests.kit import browser

pytestmark = pytest.mark.asyncio(loop_scope="package")

LIST, STATE = "#feed-list li", "#feed-state"


async def test_exits_appear_at_the_top_as_they_are_recorded_and_wait_during_a_pause(
    tab: browser.Tab, site: seeded.Site
) -> None:
    await tab.open("/console")
    state, first = tab.page.locator(STATE), tab.page.locator(LIST).first
    await async_api.expect(state).to_have_text("Live")
    await seeded.exited(site, "live-1", seeded.HOSTILE)
    await async_api.expect(first).to_contain_text("Exit")
    await async_api.expect(first).to_contain_text("<script>")
    await tab.page.get_by_role("button", name="Pause").click()
    await async_api.expect(state).to_have_text("Paused")
    async with tab.page.expect_event("console", lambda message: message.text == "waited") as waited:
        await tab.page.evaluate(
            "document.getElementById('feed-list').addEventListener("
            "'htmx:sse:before:message', () => setTimeout(() => console.info('waited'), 300), {once: true})"
        )
        await seeded.exited(site, "live-2", "paused-meanwhile")
    assert await waited.value
    await async_api.expect(first).to_contain_text("<script>")
    await tab.page.get_by_role("button", name="Resume").click()
    await async_api.expect(first).to_contain_text("paused-meanwhile")


async def test_the_page_keeps_fifty_entries(tab: browser.Tab, site: seeded.Site) -> None:
    await tab.open("/console")
    await async_api.expect(tab.page.locator(STATE)).to_have_text("Live")
    for number in range(70):
        await seeded.exited(site, f"many-{number}", f"many-{number}")
    await async_api.expect(tab.page.locator(LIST).first).to_contain_text("many-69")
    await async_api.expect(tab.page.locator(LIST)).to_have_count(50)


async def test_a_feed_that_is_cut_says_so_and_goes_on_where_it_was(
    chromium: async_api.Browser, site: seeded.Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "LIFETIME_SECONDS", 1.0)
    words = ("ERR_INTERNET_DISCONNECTED", "ERR_FAILED", "htmx:")
    async with browser.tab(chromium, site.api.url, site.key, words) as tab:
        await tab.open("/console")
        state = tab.page.locator(STATE)
        await async_api.expect(state).to_have_text("Live")
        await tab.page.context.set_offline(True)
        await async_api.expect(state).to_have_text("Disconnected; trying again")
        await seeded.exited(site, "cut-1", "missed-meanwhile")
        await tab.page.context.set_offline(False)
        await async_api.expect(tab.page.locator(LIST).first).to_contain_text("missed-meanwhile")
