"""Scales of charts: ticks at round numbers, their labels, and the plot that values are drawn in."""

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from markupsafe import Markup
from msgspec import Struct

from goalworker.console.charts import svg

_STEPS: Final = (1, 2, 5, 10)
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
# Seconds between ticks of a time that passes.
_TIME_STEPS: Final = (
    *(1, 5, 15, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 4 * _HOUR, 12 * _HOUR),
    *(days * _DAY for days in (1, 2, 7, 14, 30, 60, 90, 180, 365)),
)
_SUFFIXES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
# The dates of a longer span need their year.
_YEARLESS_DAYS: Final = 300


class Plot(Struct, frozen=True):
    """Rectangle of a chart in which values are drawn, from 0 to `top` upwards."""

    left: float
    right: float
    upper: float
    lower: float
    top: float

    def x(self, share: float) -> float:
        """Return the place of a share of the width."""
        return self.left + (self.right - self.left) * min(max(share, 0.0), 1.0)

    def y(self, value: float) -> float:
        """Return the height of a value; one outside is drawn at the edge."""
        return self.lower - (self.lower - self.upper) * min(max(value / self.top, 0.0), 1.0)


def ticks(most: float, about: int = 4) -> list[float]:
    """Return round numbers at the same distance, from 0 to the first one that is not below `most`; at least two."""
    if not most > 0:
        return [0.0, 1.0]
    step = _step(most / about)
    # Multiples, not sums, so that no rounding adds up; `most` may be a rounding error above its own multiple.
    count = max(1, math.ceil(most / step - 1e-9))
    return [step * number for number in range(count + 1)]


def count_ticks(most: int) -> list[float]:
    """Return ticks of numbers of things, which have no fraction."""
    return ticks(most) if most >= 4 else [float(number) for number in range(max(most, 1) + 1)]


def time_ticks(seconds: float, at_most: int = 6) -> list[int]:
    """Return the times of ticks, from 0 to the last one within a time that has passed."""
    longest = _TIME_STEPS[-1]
    step = next((step for step in _TIME_STEPS if seconds / step <= at_most), 0)
    step = step or math.ceil(seconds / at_most / longest) * longest
    return list(range(0, int(seconds) + 1, step))


def _step(rough: float) -> float:
    """Return the first of 1, 2, 5 times a power of ten that is not below a distance."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(size * power for size in _STEPS if size * power >= rough * (1 - 1e-9))


def share_of(index: int, count: int) -> float:
    """Return the middle of a column as a share of the width of all columns."""
    return (index + 0.5) / count


# --- labels ---


def compact(value: float) -> str:
    """Return a number in few characters: 1200 is 1.2k."""
    size, suffix = next((found for found in _SUFFIXES if abs(value) >= found[0]), (1, ""))
    return f"{short(value / size)}{suffix}"


def short(value: float) -> str:
    """Return a number with three digits, or with all of its whole part."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{round(value, digits):.6g}" if abs(value) >= 1 else f"{value:.3g}"


def time_label(seconds: float) -> str:
    """Return a time that has passed in few characters: 7200 is 2h."""
    for size, suffix in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= size:
            return f"{short(seconds / size)}{suffix}"
    return f"{short(seconds)}s" if seconds else "0"


def dates(moments: Sequence[datetime]) -> list[str]:
    """Return labels of dates: the day, or the month with its year in a long span."""
    if moments and (moments[-1] - moments[0]).days > _YEARLESS_DAYS:
        return [f"{moment:%b} {moment.year}" for moment in moments]
    return [f"{moment.day} {moment:%b}" for moment in moments]


def thinned(count: int, at_most: int) -> range:
    """Return the indices of evenly spaced labels, few enough to fit."""
    return range(0, count, max(1, math.ceil(count / at_most)))


# --- what several charts draw ---


def value_axis(plot: Plot, at: Sequence[float], labels: Sequence[str]) -> list[Markup]:
    """Return lines across the plot with their labels at the left."""
    grid = [svg.move(plot.left, plot.y(value)) + svg.line(plot.right, plot.y(value)) for value in at]
    texts = [svg.text(label, plot.left - 4, plot.y(value) + 4, "end") for value, label in zip(at, labels, strict=True)]
    return [svg.path(grid, "grid"), *texts]


def bottom_labels(plot: Plot, shares: Sequence[float], labels: Sequence[str]) -> list[Markup]:
    """Return labels below the plot; the outer ones stay within the chart."""
    return [
        svg.text(label, plot.x(share), plot.lower + 14, _anchor(share))
        for share, label in zip(shares, labels, strict=True)
    ]


def _anchor(share: float) -> str:
    return "start" if share < 0.06 else "end" if share > 0.94 else "middle"


def steps_of(points: Sequence[tuple[float, float]]) -> list[str]:
    """Return the commands of a curve that keeps its height until the next point."""
    if not points:
        return []
    commands = [svg.move(*points[0])]
    for (_, before), (x, y) in pairwise(points):
        commands += [svg.line(x, before), svg.line(x, y)]
    return commands
