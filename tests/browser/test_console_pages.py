"""Every page in a real browser: accessible, in both schemes and at three widths, and without scripts."""

import pytest
from playwright import async_api

from tests.browser import seeded
from tests.kit import browser

pytestmark = pytest.mark.asyncio(loop_scope="package")


# Nothing but colours differs between the schemes.
RULES = {"light": (), "dark": ("color-contrast", "link-in-text-block")}


@pytest.mark.parametrize("scheme", browser.SCHEMES)
async def test_no_page_breaks_a_rule_of_accessibility_or_is_wider_than_its_window(
    scheme: str, chromium: async_api.Browser, site: seeded.Site
) -> None:
    broken: dict[str, list[str]] = {}
    async with browser.tab(chromium, site.api.url, site.key, color_scheme=scheme) as tab:
        for name, path in site.pages().items():
            await tab.page.set_viewport_size({"width": browser.WIDTHS[0], "height": browser.HEIGHT})
            await tab.open(path)
            for width in browser.WIDTHS:
                await tab.page.set_viewport_size({"width": width, "height": browser.HEIGHT})
                wider = await tab.overflow()
                found = await tab.violations(*RULES[scheme]) + [f"{wider} px too wide"] * bool(wider)
                broken |= {f"{name} at {width}": found} if found else {}
            await tab.page.set_viewport_size({"width": browser.WIDTHS[1], "height": browser.HEIGHT})
            await tab.screenshot(f"{name}, {scheme}")
    assert broken == {}, "\n".join(f"{name}: {found}" for name, found in broken.items())


@pytest.mark.parametrize("scheme", browser.SCHEMES)
async def test_no_page_that_is_seldom_shown_breaks_a_rule_or_is_wider_than_a_phone(
    scheme: str, chromium: async_api.Browser, site: seeded.Site
) -> None:
    broken: dict[str, list[str]] = {}
    async with browser.tab(chromium, site.api.url, site.key, ("status of 40",), color_scheme=scheme) as tab:
        pages = site.further_pages() | {"explanations": (await _explanations(tab), 200)}
        for name, (path, status) in pages.items():
            broken |= await _broken(tab, name, path, status, scheme)
    async with browser.tab(chromium, site.api.url, color_scheme=scheme) as tab:
        broken |= await _broken(tab, "login", "/console/login", 200, scheme)
    assert broken == {}, "\n".join(f"{name}: {found}" for name, found in broken.items())


async def _explanations(tab: browser.Tab) -> str:
    """Return the path of the explanations of a contact."""
    await tab.open(seeded.contact("contact-0003"))
    path = await tab.page.locator('a[href*="/explanations"]').first.get_attribute("href")
    assert path is not None
    return path


async def _broken(tab: browser.Tab, name: str, path: str, status: int, scheme: str) -> dict[str, list[str]]:
    """Return the rules that a page breaks on a phone, by its name."""
    await tab.page.set_viewport_size({"width": browser.WIDTHS[0], "height": browser.HEIGHT})
    await tab.open(path, status)
    wider = await tab.overflow()
    found = await tab.violations(*RULES[scheme]) + [f"{wider} px too wide"] * bool(wider)
    await tab.screenshot(f"{name}, {scheme}")
    return {name: found} if found else {}


FACTS = {
    "overview": ["onboarding", "Fresh", "Conversion", "Achieved"],
    "whole workflow": ["Enrolled", "40", "Conversion by week of enrollment", "Time to goal", "Gross EUR"],
    "enrollments": ["run-0", "co…"],
    "achievements": ["co…"],
    "goal": ["Bought", "purchase"],
    "contact": ["onboarding"],
    "health": ["judged"],
}
FURTHER_FACTS = {
    "plan": ["done", "Would exit"],
    "backfill": ["Cancel"],
    "goal form": ["amount"],
    "dead letters": ["Letters of your tenant"],
    "redrive": ["Redrive preview"],
    "lag": ["Kafka"],
    "contact search": ["contact"],
    "refused search": ["not valid"],
}
"""What pages say to a browser without scripts."""


async def test_without_scripts_each_page_shows_its_main_facts(chromium: async_api.Browser, site: seeded.Site) -> None:
    missing: dict[str, list[str]] = {}
    pages = {name: (path, 200) for name, path in site.pages().items()} | site.further_pages()
    allowed = ("status of 40",)
    async with browser.tab(chromium, site.api.url, site.key, allowed, java_script_enabled=False) as tab:
        for name, words in (FACTS | FURTHER_FACTS).items():
            await tab.open(*pages[name])
            text = await tab.page.locator("main").text_content() or ""
            absent = [word for word in words if word.lower() not in text.lower()]
            missing |= {name: absent} if absent else {}
        await tab.open("/console")
        assert await tab.page.locator("#feed-list li").count() > 0
    assert missing == {}


async def test_hostile_texts_are_shown_as_they_are(tab: browser.Tab, site: seeded.Site) -> None:
    for name in ("overview", "hostile workflow", "hostile contact"):
        await tab.open(site.pages()[name])
        assert await tab.page.title() != "x"
        assert await tab.page.locator("main script, main img").count() == 0, name
        assert "<script>" in await tab.text(), name


async def test_the_first_key_leads_over_the_header_and_focus_is_seen(tab: browser.Tab) -> None:
    await tab.open("/console")
    await tab.page.keyboard.press("Tab")
    skip = tab.page.locator(".skip")
    await async_api.expect(skip).to_be_focused()
    await async_api.expect(skip).to_be_in_viewport()
    await tab.page.keyboard.press("Enter")
    await async_api.expect(tab.page.locator("#content")).to_be_focused()
    for _ in range(5):
        await tab.page.keyboard.press("Tab")
        outline = await tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline in ("solid", "auto"), await tab.page.evaluate("document.activeElement.outerHTML")
        assert await tab.page.evaluate("document.getElementById('content').contains(document.activeElement)")


@pytest.mark.smoke
async def test_a_masked_contact_is_shown_where_it_stands_on_a_click(tab: browser.Tab) -> None:
    await tab.open("/console/workflows/onboarding/enrollments")
    assert "contact-0000" not in await tab.page.content()
    await tab.page.locator(".reveal").first.click()
    await async_api.expect(tab.page.locator("main").get_by_text("contact-0000")).to_be_visible()
