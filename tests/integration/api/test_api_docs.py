"""The page at /docs: the API serves all of its assets, and its policy allows no others."""

import hashlib
import re
from importlib import resources
from urllib import parse

import httpx
import pytest

from tests.kit import running_api
from tests.kit.running_api import problem

FILES = resources.files("goalworker.api") / "docs_files"
REFERENCED = re.compile(r'(?:src|href)="([^"]+)"')
FETCHED_BY_CSS = re.compile(r"url\(\s*(?![\"']?data:)|@import")
OUTSIDE = re.compile(r"https?:|//")


async def test_every_asset_of_the_page_is_served_by_the_api_itself(api: running_api.Api) -> None:
    async with api.client() as stranger:  # the page needs no credentials
        page = await stranger.get("/docs")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert OUTSIDE.search(page.text) is None
        referenced = {parse.urljoin("/docs", link) for link in REFERENCED.findall(page.text)}
        assert len(referenced) == 6
        for path in referenced:
            asset = await stranger.get(path)
            assert (asset.status_code, len(asset.content) > 50) == (200, True), path
            assert asset.headers["x-content-type-options" if path != "/openapi.json" else "content-type"], path


@pytest.mark.parametrize("name", ["page.css", "swagger-ui.css"])
def test_style_sheets_of_the_page_fetch_nothing(name: str) -> None:
    assert FETCHED_BY_CSS.findall((FILES / name).read_text()) == []


async def test_the_policy_of_the_page_allows_no_other_host_and_nothing_inline(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    policy = dict(each.strip().split(" ", 1) for each in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {source for sources in policy.values() for source in sources.split()} == {"'none'", "'self'", "data:"}
    assert [name for name, sources in policy.items() if "data:" in sources] == ["img-src"]
    assert re.findall(r"<style|<script(?! src=)|\sstyle=|\son\w+=", page.text) == []


async def test_the_page_has_our_name_and_our_icon(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert "<title>goalworker API</title>" in page
    (icon,) = re.findall(r'<link rel="icon"[^>]* href="([^"]+)"', page)
    assert (await client.get(f"/{icon}")).headers["content-type"] == "image/svg+xml"


async def test_only_the_files_of_the_page_are_served(client: httpx.AsyncClient) -> None:
    for path in ("/docs/README.md", "/docs/..%2Fopenapi.py", "/docs/", "/docs/index.js"):
        problem(await client.get(path), 404, "not-found")


def test_third_party_files_are_as_listed_and_carry_their_licences() -> None:
    listed = dict(
        re.findall(r"^\| `([\w.-]+)` \| [\d.]+ \| `(\w{64})` \|$", (FILES / "README.md").read_text(), re.MULTILINE)
    )
    assert set(listed) == {"swagger-ui-bundle.js", "swagger-ui.css"}
    for name, digest in listed.items():
        assert hashlib.sha256((FILES / name).read_bytes()).hexdigest() == digest
    assert "Apache License" in (FILES / "swagger-ui.LICENSE").read_text()
    assert (FILES / "swagger-ui.NOTICE").is_file()
    assert (FILES / "swagger-ui-bundle.js.LICENSE.txt").is_file()
