"""Conversion by the period of enrollment, with Wilson's intervals."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from goalworker.console.charts import columns, scales, svg
from goalworker.domain import cohorts, phrases

_INTERVAL_MAX: Final = 7.0
_LEGEND: Final = (("rate", "rate"), ("interval", "95 % interval"), ("immature", "not yet mature"))


def is_immature(cohort: cohorts.Cohort) -> bool:
    """Say whether some enrollment of the cohort has not had the horizon to convert."""
    return bool(cohort.enrolled) and cohort.matured != cohort.enrolled


def conversion(series: Sequence[cohorts.Cohort], title: str) -> Markup:
    """Return the rate of each mature cohort as a dot in its interval; immature cohorts are hatched, without a rate."""
    at = scales.ticks(max((cohort.high or 0.0 for cohort in series), default=0.0))
    area = columns.plot(at[-1])
    drawn = (
        *scales.value_axis(area, at, [f"{scales.short(value)} %" for value in at]),
        *columns.dates(area, series),
        _hatching(area, series),
        *_rates(area, series),
        *columns.under_mouse(area, series, in_words),
        columns.legend(*_LEGEND),
    )
    return svg.drawing("conversion", columns.SIZE, title, _summary(series), *drawn)


def _hatching(area: scales.Plot, series: Sequence[cohorts.Cohort]) -> Markup:
    of_columns = zip(columns.middles(area, len(series)), series, strict=True)
    lines = [svg.move(x, area.lower) + svg.line(x, area.upper) for x, cohort in of_columns if is_immature(cohort)]
    return svg.path(lines, "immature", stroke_width=columns.width(area, len(series)))


def _rates(area: scales.Plot, series: Sequence[cohorts.Cohort]) -> tuple[Markup, Markup]:
    intervals, rates = [], []
    for x, cohort in zip(columns.middles(area, len(series)), series, strict=True):
        if cohort.rate is not None and cohort.low is not None and cohort.high is not None:
            intervals.append(svg.move(x, area.y(cohort.low)) + svg.line(x, area.y(cohort.high)))
            rates.append(svg.move(x, area.y(cohort.rate)) + "h0")  # a round line cap makes it a dot
    width = min(columns.width(area, len(series)), _INTERVAL_MAX)
    return svg.path(intervals, "interval", width), svg.path(rates, "rate", min(width, 5.0))


def in_words(cohort: cohorts.Cohort) -> str:
    """Return a cohort as a line of text."""
    began = f"{cohort.since:%Y-%m-%d}"
    if is_immature(cohort):
        return f"{began}: {cohort.enrolled:,} enrolled, {cohort.matured:,} of them mature"
    if cohort.rate is None:
        return f"{began}: no rate"
    return f"{began}: {cohort.rate} % of {cohort.enrolled:,}, between {cohort.low} and {cohort.high} %"


def _summary(series: Sequence[cohorts.Cohort]) -> str:
    rated = [cohort for cohort in series if cohort.rate is not None]
    last = f" The last mature one: {in_words(rated[-1])}." if rated else ""
    immature = sum(map(is_immature, series))
    return f"{phrases.counted(len(series), 'period')}, {len(rated)} with a rate, {immature} not yet mature.{last}"
