"""Whether what a goal refers to exists: another system is asked, by id (contract section 5, References)."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib import parse

import httpx

from goalworker import outages
from goalworker.api import outbound_http, problems
from goalworker.config import groups, values
from goalworker.domain.faults import Fault

KINDS: Final[Mapping[str, str]] = {
    "tag_id": "tag",
    "product_id": "product",
    "calendar_id": "calendar",
    "service_id": "service",
    "form_id": "form",
    "pipeline_id": "pipeline",
    "stage_id": "stage",
}
# What exists is not asked for again so soon; what does not may be made the next moment.
KEEP_SECONDS: Final = 5.0
_KEPT_MAX: Final = 10_000
_AT_ONCE: Final = 16
# Only the status counts; what is short is read, so that the connection can be used again.
_BYTES_MAX: Final = 65_536

Reference = tuple[str, str]
"""(kind, id)"""


class References:
    """Asks the system at a URL, for one tenant at a time; without a URL every id is taken as given."""

    def __init__(self, settings: groups.References, client: httpx.AsyncClient, journal: outages.Journal) -> None:
        self.are_checked = settings.url is not None
        self._url = settings.url or ""
        self._timeout_seconds = settings.timeout_seconds
        self._client = client
        self._journal = journal
        self._kept: dict[tuple[str, str, str], float] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def faults(self, tenant_id: str, criteria: Iterable[Mapping[str, Any]]) -> list[list[Fault]]:
        """Return, for each criteria, a fault for every id in it that does not exist; ProblemError 503."""
        listed = list(criteria)
        if not self.are_checked:
            return [[] for _ in listed]
        wanted = {(kind, str(each[field])) for each in listed for field, kind in KINDS.items() if field in each}
        missing = await self._missing(tenant_id, sorted(wanted))
        return [
            [
                Fault(f"/criteria/{field}", f"Referenced {kind} does not exist")
                for field, kind in KINDS.items()
                if field in each and (kind, str(each[field])) in missing
            ]
            for each in listed
        ]

    async def _missing(self, tenant_id: str, wanted: list[Reference]) -> set[Reference]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                there = await asyncio.gather(*(self._exists(tenant_id, *reference) for reference in wanted))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            self._report_away(str(error).partition("\n")[0] or "no answer in time")
            what = "The system that knows what goals refer to cannot be reached"
            raise problems.unavailable(what, "references") from error
        return {reference for reference, exists in zip(wanted, there, strict=True) if not exists}

    async def _exists(self, tenant_id: str, kind: str, id_: str) -> bool:
        key = (tenant_id, kind, id_)
        if self._kept.get(key, 0.0) > time.monotonic():
            return True
        async with self._places:
            status, _ = await outbound_http.get(self._client, self._address(tenant_id, kind, id_), _BYTES_MAX)
        if status not in (httpx.codes.OK, httpx.codes.NOT_FOUND):
            self._report_away(f"it answered {status} for a {kind}")
            what = f"The system that knows what goals refer to answered {status} for a {kind}"
            raise problems.unavailable(what, "references")
        self._journal.report("references", None)
        if status == httpx.codes.NOT_FOUND:
            return False
        if len(self._kept) >= _KEPT_MAX:
            self._kept.clear()
        self._kept[key] = time.monotonic() + KEEP_SECONDS
        return True

    def _report_away(self, reason: str) -> None:
        where = values.masked_url(self._url)
        self._journal.report("references", f"what goals refer to cannot be looked up at {where}: {reason}")

    def _address(self, tenant_id: str, kind: str, id_: str) -> str:
        address = self._url
        for name, text in {"kind": kind, "id": id_, "tenant": tenant_id}.items():
            address = address.replace(f"{{{name}}}", _quoted(text))
        return address


def _quoted(text: str) -> str:
    # A segment of dots is no id to who resolves the path, but the way to another.
    return parse.quote(text, safe="").replace(".", "%2E")
