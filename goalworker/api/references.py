"""Check with another system that the ids in a goal's criteria exist (contract section 5, References)."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib import parse

import httpx

from goalworker import outages
from goalworker.api import outbound_http, problems
from goalworker.config import groups, values
from goalworker.domain.criteria import ID_FIELDS
from goalworker.domain.events import GOAL_TYPE_TABLE
from goalworker.domain.faults import Fault, shown

# Kind of reference by criteria field: tag_id refers to a tag.
KINDS: Final[Mapping[str, str]] = {
    field: field.removesuffix("_id") for row in GOAL_TYPE_TABLE.values() for field in row.criteria if field in ID_FIELDS
}
# Seconds for which an existing id is cached. A missing id is not: somebody may create it the next moment.
CACHE_SECONDS: Final = 5.0
# Cached ids; one more clears the cache.
_CACHED_MAX: Final = 10_000
# Requests at a time to the other system; further ones wait.
_CONCURRENT_MAX: Final = 16
# Only the status counts. A body within this size is read so that the connection can be reused.
_BYTES_MAX: Final = 65_536

Reference = tuple[str, str]
"""(kind, id)"""


class References:
    """Lookups of ids at a URL, for one tenant at a time; without a URL every id passes."""

    def __init__(self, settings: groups.References, client: httpx.AsyncClient, journal: outages.Journal) -> None:
        self.are_checked = settings.url is not None
        self._url = settings.url or ""
        self._timeout_seconds = settings.timeout_seconds
        self._client = client
        self._journal = journal
        self._cached_until: dict[tuple[str, str, str], float] = {}
        self._slots = asyncio.Semaphore(_CONCURRENT_MAX)

    async def faults(self, tenant_id: str, criteria: Iterable[Mapping[str, Any]]) -> list[list[Fault]]:
        """Return, for each criteria, a fault for every id that does not exist; ProblemError 503."""
        listed = list(criteria)
        if not self.are_checked:
            return [[] for _ in listed]
        references = {reference for of_goal in listed for _, reference in _references(of_goal)}
        missing = await self._missing(tenant_id, sorted(references))
        return [
            [
                _fault(field, reference, is_listed=isinstance(of_goal[field], list))
                for field, reference in _references(of_goal)
                if reference in missing
            ]
            for of_goal in listed
        ]

    async def _missing(self, tenant_id: str, references: list[Reference]) -> set[Reference]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                found = await asyncio.gather(*(self._exists(tenant_id, *reference) for reference in references))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            self._report_outage(str(error).partition("\n")[0] or "no answer in time")
            what = "The system that checks references cannot be reached"
            raise problems.unavailable(what, "references") from error
        return {reference for reference, exists in zip(references, found, strict=True) if not exists}

    async def _exists(self, tenant_id: str, kind: str, id_: str) -> bool:
        key = (tenant_id, kind, id_)
        if self._cached_until.get(key, 0.0) > time.monotonic():
            return True
        async with self._slots:
            status, _ = await outbound_http.get(self._client, self._address(tenant_id, kind, id_), _BYTES_MAX)
        if status not in (httpx.codes.OK, httpx.codes.NOT_FOUND):
            self._report_outage(f"it answered {status} for a {kind}")
            what = f"The system that checks references answered {status} for a {kind}"
            raise problems.unavailable(what, "references")
        self._journal.report("references", None)
        if status == httpx.codes.NOT_FOUND:
            return False
        if len(self._cached_until) >= _CACHED_MAX:
            self._cached_until.clear()
        self._cached_until[key] = time.monotonic() + CACHE_SECONDS
        return True

    def _report_outage(self, reason: str) -> None:
        url = values.masked_url(self._url)
        self._journal.report("references", f"references cannot be checked at {url}: {reason}")

    def _address(self, tenant_id: str, kind: str, id_: str) -> str:
        address = self._url
        for name, text in {"kind": kind, "id": id_, "tenant": tenant_id}.items():
            address = address.replace(f"{{{name}}}", _quoted(text))
        return address


def _references(criteria: Mapping[str, Any]) -> list[tuple[str, Reference]]:
    """Return every reference in normalised criteria, with its field."""
    return [
        (field, (kind, id_))
        for field, kind in KINDS.items()
        if field in criteria
        for id_ in (criteria[field] if isinstance(criteria[field], list) else [criteria[field]])
    ]


def _fault(field: str, reference: Reference, *, is_listed: bool) -> Fault:
    """Return the fault of a missing reference; a list was sorted, so its entry is named by its id."""
    kind, id_ = reference
    which = f": {shown(id_)}" if is_listed else ""
    return Fault(f"/criteria/{field}", f"Referenced {kind} does not exist{which}")


def _quoted(text: str) -> str:
    # Servers resolve path segments of dots, so that an id of dots would address something else.
    return parse.quote(text, safe="").replace(".", "%2E")
