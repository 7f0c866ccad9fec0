"""The overview's rows: the order that a visitor asks for, and the call that gives the same numbers."""

import pytest

from goalworker.api import parameters
from goalworker.console import overview_view
from goalworker.stores.workflows import Workflow


def workflow(id_: str, enrolled: int | None, converted: int, rate: float | None, exits: int) -> Workflow:
    return Workflow(id_, True, "any", 1, enrolled, converted, rate, exits)


WORKFLOWS = [
    workflow("a", 10, 5, 50.0, 1),
    workflow("b", 0, 0, None, 0),
    workflow("c", 30, 6, 20.0, 6),
]


@pytest.mark.parametrize(
    ("order", "expected"),
    [("workflow", "abc"), ("enrolled", "cab"), ("achieved", "cab"), ("conversion", "acb"), ("exited", "cab")],
)
def test_numbers_sort_from_the_highest_on_and_ids_from_the_first(order: str, expected: str) -> None:
    assert "".join(one.workflow_id for one in overview_view.rows(WORKFLOWS, order)) == expected


def test_without_tracking_the_default_order_is_by_conversions() -> None:
    untracked = [workflow("a", None, 1, None, 0), workflow("b", None, 2, None, 0)]
    assert [one.workflow_id for one in overview_view.rows(untracked, "enrolled")] == ["b", "a"]


def test_a_page_of_more_is_in_the_order_of_its_ids_unless_asked_otherwise() -> None:
    assert overview_view.order_of(None, is_whole=True) == "enrolled"
    assert overview_view.order_of(None, is_whole=False) == "workflow"
    assert overview_view.order_of("exited", is_whole=False) == "exited"
    assert overview_view.order_of("'; --", is_whole=True) == "enrolled"


@pytest.mark.parametrize("search", ["", "welcome", " welcome ", "x" * 255, "ü" * 127])
def test_an_empty_search_and_texts_as_ids_may_be_are_valid(search: str) -> None:
    assert overview_view.fault_of(search) is None


@pytest.mark.parametrize("search", [" ", "x" * 256, "ü" * 128, "a\x00b", "a\tb"])
def test_a_search_that_no_id_can_contain_is_not_valid(search: str) -> None:
    assert "not valid" in (overview_view.fault_of(search) or "")


def test_the_call_names_what_the_page_asks_for() -> None:
    query = parameters.WorkflowsQuery(search="a b&c", limit=200)
    assert overview_view.call(query) == "/api/v1/workflows?search=a+b%26c&limit=200"
