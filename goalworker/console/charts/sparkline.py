"""Sparkline: how a number went, at the height of a line of text."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from goalworker.console.charts import scales, svg

_WIDTH, _HEIGHT = 120.0, 28.0
_PLOT: Final = (3.0, _WIDTH - 3, 3.0, _HEIGHT - 3)


def sparkline(values: Sequence[float], settled: int, title: str, description: str) -> Markup:
    """Return the values as a line from the oldest to the latest; after the first `settled` ones, which grow no more,
    the line is dashed.
    """
    plot = scales.Plot(*_PLOT, top=max(values, default=0) or 1)
    points = [
        (plot.x(index / (len(values) - 1) if len(values) > 1 else 0.5), plot.y(value))
        for index, value in enumerate(values)
    ]
    base = [svg.move(plot.left, plot.lower), svg.line(plot.right, plot.lower)]
    drawn = (
        svg.path(base, "grid"),
        svg.path(_line(points[:settled]), "line"),
        svg.path(_line(points[max(settled - 1, 0) :]), "line unsettled") if settled < len(points) else Markup(""),
        *(svg.element("circle", cx=x, cy=y, r=2.0, class_="dot") for x, y in points[-1:]),
    )
    return svg.drawing("sparkline", (_WIDTH, _HEIGHT), title, description, *drawn)


def _line(points: Sequence[tuple[float, float]]) -> list[str]:
    if not points:
        return []
    return [svg.move(*points[0]), *(svg.line(*point) for point in points[1:])]
