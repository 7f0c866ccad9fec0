"""Rows of the overview in the order that a visitor asks for."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib import parse

from goalworker.api import parameters
from goalworker.domain import text
from goalworker.stores.workflows import Workflow

ORDERS: Final = ("workflow", "enrolled", "achieved", "conversion", "exited")
"""Columns by which the page sorts, by their names in its address."""
_API: Final = "/api/v1/workflows"


def fault_of(search: str) -> str | None:
    """Say what is wrong with a search, None if nothing is; an empty one asks for all workflows."""
    if not search or text.is_valid_text(search.strip()):
        return None
    return f"This search is not valid: it {text.TEXT_RULE}, and not only blanks"


def order_of(given: str | None, *, is_whole: bool) -> str:
    """Return the column to sort by: by default the largest workflows first if all are on the page, else their ids."""
    if given in ORDERS:
        return given
    return "enrolled" if is_whole else "workflow"


def rows(workflows: Sequence[Workflow], order: str) -> list[Workflow]:
    """Return workflows by their ids, or by a number from the highest on."""
    if order == "workflow":
        return list(workflows)
    return sorted(workflows, key=lambda workflow: -_number(workflow, order))


def _number(workflow: Workflow, order: str) -> float:
    numbers: Mapping[str, float | None] = {
        # Without tracking nothing is known of who was enrolled.
        "enrolled": workflow.enrollments_converted if workflow.total_enrolled is None else workflow.total_enrolled,
        "achieved": workflow.enrollments_converted,
        "conversion": workflow.conversion_rate,
        "exited": workflow.exits_sent,
    }
    return numbers[order] or 0


def asked(query: parameters.WorkflowsQuery) -> dict[str, Any]:
    """Return the parameters of a query that are not its defaults."""
    given = {"search": query.search, "cursor": query.cursor, "limit": query.limit}
    return {name: value for name, value in given.items() if value is not None}


def call(query: parameters.WorkflowsQuery) -> str:
    """Return the call of the API that gives the page's numbers."""
    return f"{_API}?{parse.urlencode(asked(query))}"
