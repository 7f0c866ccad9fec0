"""Revenue by the period of enrollment, gross and net."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from markupsafe import Markup

from goalworker.console.charts import columns, scales, svg
from goalworker.domain import cohorts, phrases


def revenue(series: Sequence[cohorts.Cohort], currency: str, title: str) -> Markup:
    """Return net revenue as filled columns, and gross revenue as outlines around them."""
    gross = [_amount(cohort.gross, currency) for cohort in series]
    net = [_amount(cohort.net, currency) for cohort in series]
    at = scales.ticks(max(gross, default=0.0))
    area = columns.plot(at[-1])
    drawn = (
        *scales.value_axis(area, at, [scales.compact(value) for value in at]),
        *columns.dates(area, series),
        svg.path(columns.bars(area, net), "net"),
        svg.path(columns.bars(area, gross), "gross", min(1.0, columns.width(area, len(series)) / 4)),
        *columns.under_mouse(area, series, lambda cohort: _in_words(cohort, currency)),
        columns.legend(("gross", "gross"), ("net", "net")),
    )
    words = f"{phrases.counted(len(series), 'period')}, in {currency}. The table below has the amounts."
    return svg.drawing("revenue", columns.SIZE, title, words, *drawn)


def _amount(amounts: Mapping[str, str], currency: str) -> float:
    return float(Decimal(amounts.get(currency, "0")))


def _in_words(cohort: cohorts.Cohort, currency: str) -> str:
    gross, net = (amounts.get(currency, "0") for amounts in (cohort.gross, cohort.net))
    return f"{cohort.since:%Y-%m-%d}: gross {gross} {currency}, net {net} {currency}"
