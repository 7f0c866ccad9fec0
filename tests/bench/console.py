"""Latency of the console's pages on the bench's database, and the size of their first load."""

import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from html import unescape

import httpx
from msgspec import Struct

from tests.bench import rows

REQUESTS = 40
TARGET_MS = 150
TARGET_KB = 80
# The rows are of 2025, so that the last weeks of a page without a span would have no enrollments.
LAST_WEEKS, WHOLE = "from=2025-10-06", "from="
WORKFLOW = f"/console/workflows/{rows.LARGE}"
PATHS = {
    "overview": "/console",
    "workflow": f"{WORKFLOW}?{LAST_WEEKS}",
    "workflow, all on one page": f"{WORKFLOW}?{LAST_WEEKS}&whole=1",
    "numbers of 13 weeks": f"{WORKFLOW}/stats?{LAST_WEEKS}",
    "series of 13 weeks": f"{WORKFLOW}/series?{LAST_WEEKS}",
    "times of 13 weeks": f"{WORKFLOW}/times?{LAST_WEEKS}",
    "numbers of a year": f"{WORKFLOW}/stats?{WHOLE}",
    "series of a year": f"{WORKFLOW}/series?{WHOLE}",
    "times of a year": f"{WORKFLOW}/times?{WHOLE}",
    "sparkline": f"{WORKFLOW}/sparkline?{LAST_WEEKS}",
    "enrollments": f"{WORKFLOW}/enrollments",
    "exited enrollments": f"{WORKFLOW}/enrollments?state=exited",
    "achievements": f"{WORKFLOW}/achievements",
    "health": "/console/health",
}
"""Pages and fragments of the large workflow, which has a fifth of all enrollments, and those without a workflow."""

FIRST_LOADS = ("overview", "workflow", "goal", "contact", "health")


class Measured(Struct):
    """Milliseconds by page, failures, and bytes of first loads."""

    times: dict[str, list[float]]
    failures: dict[str, int]
    sizes: dict[str, int]


async def measure(api: httpx.AsyncClient, contact_id: str) -> Measured:
    """Ask for each page again and again, one at a time, with a session."""
    measured = Measured(defaultdict(list), defaultdict(int), {})
    async with _logged_in(api) as visitor:
        await visitor.post("/console/login", data={"key": api.headers["X-API-Key"]})
        paths = {**PATHS, **await _found(api, visitor, contact_id)}
        for number in range(REQUESTS + 1):
            for name, path in paths.items():
                await _ask(visitor, measured, f"console, {name}{', first asked' if not number else ''}", path)
        for name in FIRST_LOADS:
            measured.sizes[name] = await _first_load(visitor, paths[name])
    return measured


def _logged_in(api: httpx.AsyncClient) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=api.base_url, timeout=api.timeout, trust_env=False)


async def _found(api: httpx.AsyncClient, visitor: httpx.AsyncClient, contact_id: str) -> Mapping[str, str]:
    """Return the addresses of a goal's page and of a contact's."""
    path = f"/api/v1/workflows/{rows.LARGE}/goals"
    goals = (await api.get(path)).json()["goals"]
    # Written without the API, it has no entry in the audit yet, which its page shows.
    (await api.patch(f"{path}/{goals[0]['id']}", json={"name": "Bought"})).raise_for_status()
    contact = await visitor.get("/console/contacts", params={"contact_id": contact_id})
    return {
        "goal": f"{WORKFLOW}/goals/{goals[0]['id']}",
        "contact": contact.headers.get("location", "/console/contacts/x"),
    }


async def _ask(visitor: httpx.AsyncClient, measured: Measured, name: str, path: str) -> None:
    began = time.perf_counter()
    answer = await visitor.get(path)
    measured.times[name].append((time.perf_counter() - began) * 1000)
    if answer.status_code != httpx.codes.OK:
        measured.failures[f"{name}: status {answer.status_code}"] += 1


async def _first_load(visitor: httpx.AsyncClient, path: str) -> int:
    """Return the bytes of a page, of its files and of the fragments that it loads at once, as they are sent."""
    page = await visitor.get(path)
    files = set(re.findall(r'(?:src|href)="(/console/static/[^"]*)"', page.text))
    tags = re.findall(r'<[^>]*hx-trigger="(?:load|revealed)[^>]*>', page.text)
    fragments = set(re.findall(r'hx-get="([^"]*)"', "".join(tags)))
    answers = [page, *[await visitor.get(unescape(address)) for address in sorted(files | fragments)]]
    return sum(answer.num_bytes_downloaded for answer in answers)


def lines(sizes: Mapping[str, int]) -> Iterator[str]:
    """Yield the lines of the report about first loads."""
    for name, size in sizes.items():
        kilobytes = size / 1000
        verdict = "met" if kilobytes <= TARGET_KB else "missed"
        yield f"first load of the {name} page: {kilobytes:.1f} KB compressed; target {TARGET_KB} KB: {verdict}"
