"""Time to goal: cells, histogram and cumulative incidence."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.domain import incidence
from goalworker.domain.incidence import Cell

COUNT = st.integers(0, 5)
CELLS = st.lists(st.tuples(st.integers(0, 400 * 86_400), COUNT, COUNT, COUNT), unique_by=lambda one: one[0]).map(
    lambda found: [Cell(*one) for one in sorted(found)]
)


def total(cells: Sequence[Cell]) -> int:
    return sum(cell.converted + cell.ended + cell.open for cell in cells)


# --- cells ---


@given(st.floats(-1, 5_000 * 86_400))
def test_a_time_lies_in_its_cell_or_at_its_end(seconds: float) -> None:
    end = incidence.cell_of(seconds)
    assert max(seconds, 0) <= end
    assert incidence.cell_of(end) == end
    assert end - seconds <= max(1, seconds / 60)


def test_cells_grow_with_the_time() -> None:
    hour, day = 3_600, 86_400
    times = (0, 0.2, hour, hour + 1, 2 * day, 2 * day + 1, 90 * day, 90 * day + 1)
    assert [incidence.cell_of(time) for time in times] == [
        *(0, 1, hour, hour + 60, 2 * day, 2 * day + hour, 90 * day, 91 * day)
    ]


def test_each_bound_of_the_histogram_is_the_end_of_a_cell() -> None:
    assert [incidence.cell_of(bound) for bound in incidence.HISTOGRAM_BOUNDS] == list(incidence.HISTOGRAM_BOUNDS)


@given(CELLS)
def test_the_histogram_has_each_conversion_once(cells: list[Cell]) -> None:
    bins = incidence.histogram(cells)
    assert sum(one.converted for one in bins) == sum(cell.converted for cell in cells)
    assert [one.to_seconds for one in bins[:-1]] == [one.from_seconds for one in bins[1:]]
    assert (bins[0].from_seconds, bins[-1].to_seconds) == (0, None)


def test_a_conversion_at_once_is_in_the_first_bin_and_one_at_a_bound_before_it() -> None:
    bins = incidence.histogram([Cell(0, 1, 0, 0), Cell(60, 2, 0, 0), Cell(61, 4, 0, 0), Cell(10**9, 8, 0, 0)])
    assert [one.converted for one in bins if one.converted] == [3, 4, 8]


# --- cumulative incidence ---


@given(CELLS)
def test_without_open_enrollments_the_incidence_is_the_plain_share(cells: list[Cell]) -> None:
    closed = [Cell(cell.seconds, cell.converted, cell.ended, 0) for cell in cells]
    for point in incidence.cumulative(closed):
        before = [cell for cell in closed if cell.seconds <= point.seconds]
        assert point.converted == pytest.approx(100 * sum(cell.converted for cell in before) / total(closed))
        assert point.ended == pytest.approx(100 * sum(cell.ended for cell in before) / total(closed))


@given(CELLS)
def test_incidences_grow_and_stay_below_everybody(cells: list[Cell]) -> None:
    found = incidence.cumulative(cells)
    for before, after in pairwise(found):
        assert before.converted <= after.converted
        assert before.ended <= after.ended
        assert before.at_risk > after.at_risk
    assert all(point.converted + point.ended <= 100 + 1e-9 for point in found)
    events = [cell.seconds for cell in cells if cell.converted or cell.ended]
    assert [point.seconds for point in found] == events


@given(CELLS)
def test_those_who_are_open_count_until_they_were_last_seen(cells: list[Cell]) -> None:
    seen = total(cells)
    at_risk = {}
    for cell in cells:
        at_risk[cell.seconds] = seen
        seen -= total([cell])
    assert {point.seconds: point.at_risk for point in incidence.cumulative(cells)}.items() <= at_risk.items()


def test_an_end_without_a_goal_is_no_loss_of_sight() -> None:
    """Kaplan and Meier's estimate, which censors such ends, would say 100 %."""
    (_, last) = incidence.cumulative([Cell(1, 0, 1, 0), Cell(2, 1, 0, 0)])
    assert (last.converted, last.ended) == (50.0, 50.0)


@given(CELLS)
def test_a_listed_curve_is_short_and_nowhere_half_a_point_off(cells: list[Cell]) -> None:
    found = incidence.cumulative(cells)
    shown = incidence.listed(found)
    assert len(shown) <= 402
    for point in found:
        latest = max((one for one in shown if one.seconds <= point.seconds), key=lambda one: one.seconds)
        assert abs(point.converted - latest.converted) < 0.51
        assert abs(point.ended - latest.ended) < 0.51
    assert [one.seconds for one in shown[-1:]] == [one.seconds for one in found[-1:]]


# --- beside lifelines ---

FILE = Path(__file__).parents[1] / "vectors" / "incidence.jsonl"
VECTORS = [json.loads(line) for line in FILE.read_text().splitlines()]


@pytest.mark.parametrize("said", VECTORS, ids=lambda said: f"of {len(said['seconds'])}")
def test_the_incidence_is_that_of_lifelines(said: dict[str, Any]) -> None:
    cells = [
        Cell(seconds, outcome == 1, outcome == 2, outcome == 0)
        for seconds, outcome in zip(said["seconds"], said["outcomes"], strict=True)
    ]
    found = incidence.cumulative(cells)
    assert found
    for name in ("converted", "ended"):
        for seconds, share in said[name]:
            reached = [getattr(point, name) for point in found if point.seconds <= seconds]
            assert max(reached, default=0.0) == pytest.approx(100 * share, abs=1e-9)
