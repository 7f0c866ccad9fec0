"""Time to goal: the share of enrollments that converted by then, while others ended (contract section 9).

An enrollment that ended without its goal cannot convert any more, and one that is open may. So neither is left out: the
estimate is Aalen and Johansen's, with the end without a goal as the competing event and open enrollments censored.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400

CELLS: Final = ((_HOUR, 1), (2 * _DAY, _MINUTE), (90 * _DAY, _HOUR), (None, _DAY))
"""Lengths of cells in seconds, each up to a time: a million enrollments lie in a few thousand cells."""

HISTOGRAM_BOUNDS: Final = (
    *(_MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 4 * _HOUR, 12 * _HOUR),
    *(days * _DAY for days in (1, 2, 3, 7, 14, 30, 60, 90)),
)
"""Seconds up to which the bins reach, inclusive; a last bin has the rest. Each bound is one of cells, too."""

QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)

# Points by which a curve rises before another point of it is listed, so that a curve has a few hundred at most.
_STEP_POINTS: Final = 0.5


class Cell(Struct, frozen=True):
    """Enrollments that converted, ended without their goal, or were last seen open, up to `seconds` after they began.

    Each of them did so after the cell before.
    """

    seconds: int
    converted: int
    ended: int
    open: int


class Incidence(Struct, frozen=True):
    """Percentages of enrollments that converted, or ended without their goal, within `seconds`."""

    seconds: int
    at_risk: int
    converted: float
    ended: float


class Bin(Struct, frozen=True):
    """Conversions after more than `from_seconds` and at most `to_seconds`; None: all later ones."""

    from_seconds: int
    to_seconds: int | None
    converted: int


def cell_of(seconds: float) -> int:
    """Return the end of the cell of a time: to the second at first, and to the day in the end."""
    length = next(length for until, length in CELLS if until is None or seconds <= until)
    return max(0, -int(-seconds // length)) * length


def cumulative(cells: Iterable[Cell]) -> list[Incidence]:
    """Return the cumulative incidence after each cell with an event; of the cells in the order of their times."""
    cells = list(cells)
    at_risk = sum(cell.converted + cell.ended + cell.open for cell in cells)
    converted = ended = 0.0
    found = []
    for cell in cells:
        if cell.converted or cell.ended:
            unaffected = 1 - converted - ended
            converted += unaffected * cell.converted / at_risk
            ended += unaffected * cell.ended / at_risk
            found.append(Incidence(cell.seconds, at_risk, 100 * converted, 100 * ended))
        at_risk -= cell.converted + cell.ended + cell.open
    return found


def listed(incidences: Iterable[Incidence]) -> list[Incidence]:
    """Return the points of a curve that are worth listing, with two decimals: each step, and the last point."""
    found: list[Incidence] = []
    converted = ended = -_STEP_POINTS
    last = None
    for last in incidences:
        if max(last.converted - converted, last.ended - ended) >= _STEP_POINTS:
            converted, ended = last.converted, last.ended
            found.append(last)
    if last is not None and found[-1] is not last:
        found.append(last)
    return [Incidence(one.seconds, one.at_risk, round(one.converted, 2), round(one.ended, 2)) for one in found]


def histogram(cells: Sequence[Cell]) -> list[Bin]:
    """Return the conversions by the time that they took."""
    bounds: list[int | None] = [-1, *HISTOGRAM_BOUNDS, None]
    return [
        Bin(max(after or 0, 0), until, sum(cell.converted for cell in cells if _is_in(cell, after, until)))
        for after, until in pairwise(bounds)
    ]


def _is_in(cell: Cell, after: int | None, until: int | None) -> bool:
    return (after is None or after < cell.seconds) and (until is None or cell.seconds <= until)
