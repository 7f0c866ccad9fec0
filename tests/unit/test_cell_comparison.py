"""`goalworker cells check` finds what nobody owns, or two do; doctor says what a cell owns."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from goalworker import config
from goalworker.admin import cell_comparison, doctor_cells
from goalworker.admin.cell_comparison import KnownCell
from goalworker.admin.findings import State
from goalworker.domain.cells import bucket_of, parse_buckets
from goalworker.stores.cell_store import MovedTenant, StoredCell

NOW = datetime(2026, 5, 1, tzinfo=UTC)
NORTH = bucket_of("north")


def cell(number: int, buckets: str, *, trust_keys: bool = False, group: str = "", **moved: str) -> KnownCell:
    stored = StoredCell(UUID(int=number), group or f"group-{number}", parse_buckets(buckets), trust_keys, NOW)
    rows = tuple(MovedTenant(tenant_id, state, UUID(int=99), NOW) for tenant_id, state in moved.items())
    return KnownCell(f"db-{number}", stored, rows)


def found(*cells: KnownCell) -> list[str]:
    return [finding.detail for finding in cell_comparison.compare(cells) if finding.state is State.PROBLEM]


def test_cells_that_own_every_bucket_once_are_as_they_should_be() -> None:
    assert found(cell(1, "0-1023")) == []
    assert found(cell(1, "0-511"), cell(2, "512-1023")) == []
    assert found(cell(1, "0-1023", north="away"), cell(2, "none", north="here")) == []


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ((cell(1, "0-511"), cell(2, "513-1023")), "nobody owns 512: "),
        ((cell(1, "0-600"), cell(2, "512-1023")), "db-1 and db-2 own 512-600: "),
        ((cell(1, "0-511"), cell(1, "512-1023", group="g")), "db-1 and db-1 are one cell: "),
        ((cell(1, "0-511", trust_keys=True), cell(2, "512-1023")), "GOALWORKER_CELL__TRUST_KEYS is set in db-1 only: "),
        ((cell(1, "0-511", group="g"), cell(2, "512-1023", group="g")), "db-1 and db-2 use the consumer group g: "),
        ((cell(1, "0-1023", north="away"), cell(2, "none")), "nobody owns north: it was moved to a cell whose"),
        ((cell(1, "0-1023", north="away"), cell(2, "none", north="arriving")), "nobody owns north: its move was not"),
        ((cell(1, "0-1023"), cell(2, "none", north="here")), "north was moved, and db-1 and db-2 own it: "),
    ],
)
def test_what_nobody_owns_or_two_do_is_found(cells: tuple[KnownCell, ...], problem: str) -> None:
    (detail,) = found(*cells)
    assert detail.startswith(problem)


def test_a_tenant_on_its_way_is_still_the_sources_and_no_problem() -> None:
    assert found(cell(1, "0-1023"), cell(2, "none", north="arriving")) == []


@pytest.mark.parametrize(("there", "wrong"), [("arriving", True), ("here", False)])
def test_a_tenant_that_is_leaving_is_owned_once_it_has_arrived(there: str, wrong: bool) -> None:
    details = found(cell(1, "0-1023", north="leaving"), cell(2, "none", north=there))
    assert [detail.startswith("nobody owns north: its move was not finished") for detail in details] == [True] * wrong


def test_doctor_says_what_a_cell_owns_and_which_moves_are_unfinished() -> None:
    settings = config.load({"GOALWORKER_CELL__BUCKETS": "0-511"}, env_file=None, secrets_dir=None)
    of_first = cell(1, "0-511", north="arriving")
    owns, unfinished = doctor_cells.examined(settings, of_first.stored, of_first.moved)
    assert owns.detail == "this cell owns the buckets 0-511; moved tenants: 1"
    assert (unfinished.state, "the move of north" in unfinished.detail) == (State.WARN, True)
    leaving = cell(1, "0-511", north="leaving")
    assert "north is leaving" in [*doctor_cells.examined(settings, leaving.stored, leaving.moved)][1].detail
    (differs,) = doctor_cells.examined(settings, cell(1, "0-1023").stored, ())
    assert (differs.state, "GOALWORKER_CELL__BUCKETS=0-1023" in differs.detail) == (State.WARN, True)
    (unknown,) = doctor_cells.examined(settings, None, ())
    assert unknown.state is State.OK
