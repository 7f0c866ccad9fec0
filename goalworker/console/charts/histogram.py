"""Histogram of the times to goal: a bar for each bin, whose spans of time grow."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from goalworker.console.charts import columns, scales, svg
from goalworker.domain import incidence, phrases

_NUMBERS_MAX: Final = 18
"""Numbers that fit side by side above the bars."""
_BOUNDS_MAX: Final = 8
"""Times that fit side by side below the bars."""


def histogram(bins: Sequence[incidence.Bin], title: str) -> Markup:
    """Return a bar with its number for each bin, from the first to the last one that has any.

    Between two bars stands the time that parts them.
    """
    bins = _used(bins)
    counts = [found.converted for found in bins]
    at = scales.count_ticks(max(counts, default=0))
    area = columns.plot(at[-1])
    drawn = (
        *scales.value_axis(area, at, [scales.compact(value) for value in at]),
        *_bounds(area, bins),
        svg.path(columns.bars(area, [float(count) for count in counts]), "bar"),
        *(_numbers(area, counts) if len(bins) <= _NUMBERS_MAX else ()),
    )
    return svg.drawing("histogram", columns.SIZE, title, _in_words(bins), *drawn)


def _used(bins: Sequence[incidence.Bin]) -> Sequence[incidence.Bin]:
    used = [index for index, found in enumerate(bins) if found.converted]
    return bins[used[0] : used[-1] + 1] if used else bins


def _bounds(area: scales.Plot, bins: Sequence[incidence.Bin]) -> list[Markup]:
    labelled = scales.thinned(len(bins), _BOUNDS_MAX)
    ends = [(index, bins[index].to_seconds) for index in labelled]
    bounds = [((index + 1) / len(bins), scales.time_label(end)) for index, end in ends if end is not None]
    return scales.bottom_labels(area, [share for share, _ in bounds], [label for _, label in bounds])


def _numbers(area: scales.Plot, counts: Sequence[int]) -> list[Markup]:
    middles = columns.middles(area, len(counts))
    return [
        svg.text(scales.compact(count), x, area.y(count) - 3, "middle", "number")
        for x, count in zip(middles, counts, strict=True)
        if count
    ]


def _in_words(bins: Sequence[incidence.Bin]) -> str:
    total = sum(found.converted for found in bins)
    if not total:
        return "No enrollment has converted."
    most = max(bins, key=lambda found: found.converted)
    until = "later" if most.to_seconds is None else f"at most {scales.time_label(most.to_seconds)}"
    after = scales.time_label(most.from_seconds)
    return (
        f"{phrases.counted(total, 'conversion')}, most of them ({most.converted:,}) after more than {after}, {until}."
    )
