"""Cumulative incidence: the share of enrollments that converted within a time, while others ended without a goal."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from goalworker.console.charts import columns, scales, svg
from goalworker.domain import incidence

_LEGEND: Final = (("converted", "converted"), ("ended", "ended without a goal"))


def incidence_curves(curve: Sequence[incidence.Incidence], title: str) -> Markup:
    """Return two step curves over the time since enrollment: converted, and ended without a goal."""
    most = max((max(point.converted, point.ended) for point in curve), default=0.0)
    longest = max((point.seconds for point in curve), default=0) or 1
    at, times = scales.ticks(min(most, 100.0)), scales.time_ticks(longest)
    area = columns.plot(at[-1])
    drawn = (
        *scales.value_axis(area, at, [f"{scales.short(value)} %" for value in at]),
        *scales.bottom_labels(area, [time / longest for time in times], list(map(scales.time_label, times))),
        svg.path(_steps(area, [(point.seconds / longest, point.ended) for point in curve]), "ended"),
        svg.path(_steps(area, [(point.seconds / longest, point.converted) for point in curve]), "converted"),
        columns.legend(*_LEGEND),
    )
    return svg.drawing("incidence", columns.SIZE, title, _in_words(curve), *drawn)


def _steps(area: scales.Plot, points: Sequence[tuple[float, float]]) -> list[str]:
    if not points:
        return []
    places = [(area.x(0), area.y(0)), *((area.x(share), area.y(value)) for share, value in points)]
    return scales.steps_of(places)


def _in_words(curve: Sequence[incidence.Incidence]) -> str:
    if not curve:
        return "No enrollment has converted or ended."
    last = curve[-1]
    within = f"Within {scales.time_label(last.seconds)} of enrollment"
    return f"{within}, {last.converted} % converted and {last.ended} % ended without a goal."
