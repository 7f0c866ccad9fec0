"""Addresses of a contact's pages, with an opaque token in place of its id."""

from collections.abc import Mapping
from typing import Final
from urllib import parse

from msgspec import Struct

from goalworker.console.contact_query import Filters
from goalworker.stores import contact_timeline

_REVEAL: Final = {True: "true", False: None}


class Addresses(Struct, frozen=True):
    """Addresses of one contact's pages; is_revealed stays as it is from page to page."""

    page: str
    is_revealed: bool = False

    def timeline(self, filters: Filters, *, is_revealed: bool | None = None) -> str:
        """Return the address of a page of the timeline."""
        is_any = set(filters.kinds) == {*contact_timeline.KINDS}
        query = {
            "workflow_id": filters.workflow_id,
            "kind": None if is_any else filters.kinds,
            "cursor": filters.cursor,
            "reveal": _REVEAL[self.is_revealed if is_revealed is None else is_revealed],
        }
        return _with_query(self.page, query)

    def explanations(self, workflow_id: str, enrollment_id: str | None = None) -> str:
        """Return the address of the explanations in a workflow, of the newest enrollments or of one."""
        query = {"workflow_id": workflow_id, "enrollment_id": enrollment_id, "reveal": _REVEAL[self.is_revealed]}
        return _with_query(f"{self.page}/explanations", query)

    def letters(self) -> str:
        """Return the address of the search for dead letters."""
        return _with_query(f"{self.page}/dead-letters", {"reveal": _REVEAL[self.is_revealed]})


def _with_query(path: str, query: Mapping[str, object]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{parse.urlencode(given, doseq=True)}" if given else path
