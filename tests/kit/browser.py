"""A real browser for the console, on a server of its own: what it must not do fails the test."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python import async_playwright as axe
from playwright import async_api

FOLDER: Final = Path(__file__).parents[1] / "browser" / "screenshots"
SCHEMES: Final = ("light", "dark")
WIDTHS: Final = (360, 1280, 2560)
HEIGHT: Final = 900
TIMEOUT_MS: Final = 15_000

# Interception of requests would hold streams back, so other hosts have no address here, and asking for one is a fault.
ARGUMENTS: Final = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
_ABSENT: Final = "Chromium is missing here: apt-get install chromium, or name one in CHROMIUM"
_AXE: Final = axe.Axe()
# Rules of WCAG and of good practice. Axe is injected from outside, so the policy of the page does not concern it.
_TAGS: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def executable() -> str:
    """Return the path of Chromium; without one, skip the test, or fail it in CI."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(_ABSENT)
        pytest.skip(_ABSENT)
    return found


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[async_api.Browser]:
    """Run a Chromium without a window."""
    path = executable()
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


class Tab:
    """Page of a browser, with what went wrong on it so far."""

    def __init__(self, page: async_api.Page, url: str) -> None:
        self.page = page
        self.url = url
        self.faults: list[str] = []

    async def open(self, path: str, status: int = 200) -> None:
        """Go to a page of the console, and wait until its fragments are there."""
        answer = await self.page.goto(f"{self.url}{path}")
        assert answer is not None
        assert answer.status == status, f"{path}: status {answer.status}"

    async def text(self) -> str:
        """Return the text that the page shows."""
        return await self.page.locator("body").inner_text()

    async def violations(self, *rules: str) -> list[str]:
        """Return the rules of accessibility that the page breaks, of all or of some, each with an element that does."""
        only = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": _TAGS}
        found = await _AXE.run(self.page, options={"runOnly": only, "resultTypes": ["violations"]})
        return [f"{one['id']}: {one['help']}: {one['nodes'][0]['html']}" for one in found.response["violations"]]

    async def overflow(self) -> int:
        """Return how many pixels the page is wider than its window."""
        script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(await self.page.evaluate(script))

    async def screenshot(self, name: str) -> None:
        """Save a picture of the whole page for people to look at."""
        FOLDER.mkdir(exist_ok=True)
        await self.page.screenshot(path=FOLDER / f"{name}.png", full_page=True)


@contextlib.asynccontextmanager
async def tab(
    browser: async_api.Browser, url: str, key: str | None = None, allowed: tuple[str, ...] = (), **options: Any
) -> AsyncIterator[Tab]:
    """Yield a tab, logged in by a key; afterwards, assert that it asked no other host and logged no error.

    allowed: words of errors that the test causes.
    """
    context = await browser.new_context(viewport={"width": 1280, "height": HEIGHT}, **options)
    context.set_default_timeout(TIMEOUT_MS)
    opened = Tab(await context.new_page(), url)
    context.on("request", lambda request: _watch(request, opened))
    opened.page.on("console", lambda message: _note(opened, message.type, message.text))
    opened.page.on("pageerror", lambda error: opened.faults.append(f"error: {error}"))
    try:
        if key is not None:
            await _log_in(context, opened, key)
        yield opened
    finally:
        await context.close()
    faults = [fault for fault in opened.faults if not any(word in fault for word in allowed)]
    assert faults == [], faults


def _watch(request: async_api.Request, opened: Tab) -> None:
    if not request.url.startswith((f"{opened.url}/", "data:")):
        opened.faults.append(f"asked another host: {request.url}")


def _note(opened: Tab, kind: str, text: str) -> None:
    # A violation of the policy is an error of the console, too.
    if kind in ("error", "warning"):
        opened.faults.append(f"{kind}: {text}")


async def _log_in(context: async_api.BrowserContext, opened: Tab, key: str) -> None:
    answer = await context.request.post(f"{opened.url}/console/login", form={"key": key}, max_redirects=0)
    assert answer.status == 303, await answer.text()
