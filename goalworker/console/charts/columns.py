"""Columns of charts: one for each cohort, with dates below, words under the mouse, and a legend above."""

from collections.abc import Callable, Sequence
from typing import Final

from markupsafe import Markup

from goalworker.console.charts import scales, svg
from goalworker.domain import cohorts

SIZE: Final = (330.0, 200.0)
_LEFT, _RIGHT, _UPPER, _LOWER = 42.0, 326.0, 26.0, 176.0
_DATES_MAX: Final = 5
_SHORT: Final = 6
"""Letters of a label that is a day; those of months are longer, and fewer of them fit."""
_FILLED: Final = 0.7
"""Part of a column that its bar fills."""
_LETTER: Final = 6.2
"""Width of a letter of the legend, about."""


def plot(top: float) -> scales.Plot:
    """Return the plot of a chart of columns."""
    return scales.Plot(_LEFT, _RIGHT, _UPPER, _LOWER, top)


def middles(area: scales.Plot, count: int) -> list[float]:
    """Return the middle of each column."""
    return [area.x(scales.share_of(index, count)) for index in range(count)]


def width(area: scales.Plot, count: int) -> float:
    """Return the width of a bar."""
    return (area.right - area.left) / max(count, 1) * _FILLED


def bars(area: scales.Plot, values: Sequence[float]) -> list[str]:
    """Return the commands of bars from 0 to each value above it."""
    half = width(area, len(values)) / 2
    return [
        svg.move(x - half, area.lower) + svg.line(x - half, area.y(value)) + svg.line(x + half, area.y(value))
        + svg.line(x + half, area.lower) + "Z"
        for x, value in zip(middles(area, len(values)), values, strict=True)
        if value > 0
    ]  # fmt: skip


def dates(area: scales.Plot, series: Sequence[cohorts.Cohort]) -> list[Markup]:
    """Return the start of some periods as labels below the plot."""
    labels = scales.dates([cohort.since for cohort in series])
    at = scales.thinned(len(series), _DATES_MAX if len(max(labels, key=len, default="")) <= _SHORT else _DATES_MAX - 1)
    shares = [scales.share_of(index, len(series)) for index in at]
    return scales.bottom_labels(area, shares, [labels[index] for index in at])


def under_mouse(
    area: scales.Plot, series: Sequence[cohorts.Cohort], words: Callable[[cohorts.Cohort], str]
) -> list[Markup]:
    """Return an invisible rectangle over each column, with words about its cohort."""
    size = (area.right - area.left) / max(len(series), 1)
    return [
        svg.rectangle(area.left + index * size, area.upper, size, area.lower - area.upper, "hover", words(cohort))
        for index, cohort in enumerate(series)
    ]


def legend(*entries: tuple[str, str]) -> Markup:
    """Return the legend of pairs of a class and its name, above the plot."""
    x, drawn = _LEFT, []
    for class_, name in entries:
        drawn += [svg.path([svg.move(x, 10) + svg.line(x + 10, 10)], f"key {class_}"), svg.text(name, x + 15, 14)]
        x += 15 + _LETTER * len(name) + 14
    return svg.element("g", *drawn, class_="legend")
