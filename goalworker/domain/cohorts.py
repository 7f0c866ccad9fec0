"""Cohorts: enrollments by the period in which they began, compared after the same time (contract section 9).

A cohort is mature once each of its enrollments could convert for the whole horizon. Before that its rate would grow
from look to look, and is left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from goalworker.domain.rates import percentage, wilson
from goalworker.domain.revenue import Revenue

PERIODS: Final = ("day", "week", "month")
"""Days, weeks from Monday (ISO 8601) and months, in UTC."""
# A longer series is refused: it would be of an imported enrollment with a wrong year, and nobody reads it.
PERIODS_MAX: Final = 1_000


class TooManyPeriodsError(ValueError):
    """The enrollments of the span lie in more periods than a series has rows."""

    def __init__(self, by: str) -> None:
        longer = "" if by == PERIODS[-1] else ", or choose a longer period with `by`"
        super().__init__(f"`by` {by} makes more than {PERIODS_MAX} periods; bound them by `from` and `to`{longer}")


class Counts(Struct, frozen=True):
    """Enrollments of one period; None where enrollments are not tracked."""

    enrolled: int | None
    matured: int | None
    converted: int
    converted_in_time: int | None


class Cohort(Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """One row of a series. Rate, low and high are None until the cohort is mature."""

    since: datetime
    until: datetime
    enrolled: int | None
    matured: int | None
    converted: int
    converted_in_time: int | None
    rate: float | None
    low: float | None
    high: float | None
    gross: dict[str, str]
    net: dict[str, str]


def start_of(by: str, moment: datetime) -> datetime:
    """Return the start of the period in which a moment lies."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if by == "month":
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if by == "week" else day


def next_start(by: str, start: datetime) -> datetime:
    """Return the start of the period after the one that begins at `start`."""
    if by == "month":
        return start_of(by, start + timedelta(days=31))
    return start + timedelta(days=7 if by == "week" else 1)


def periods(by: str, first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield start and end of each period from the one that begins at `first` to the one that begins at `last`.

    TooManyPeriodsError.
    """
    start = first
    for _ in range(PERIODS_MAX):
        end = next_start(by, start)
        yield start, end
        if end > last:
            return
        start = end
    raise TooManyPeriodsError(by)


def series(
    by: str,
    counts: Mapping[datetime, Counts],
    revenue: Mapping[datetime, Revenue],
    span: tuple[datetime | None, datetime | None],
    *,
    tracking: bool = True,
) -> Sequence[Cohort]:
    """Return the cohorts of a span from the counts and the revenue of each period that has any; TooManyPeriodsError.

    Periods between others have a row too, without enrollments. The first and the last one are cut to the span.
    """
    starts = counts.keys() | revenue.keys()
    if not starts:
        return []
    empty = Counts(0, 0, 0, 0) if tracking else Counts(None, None, 0, None)
    return [
        _cohort(_cut(period, span), counts.get(period[0], empty), revenue.get(period[0], {}))
        for period in periods(by, min(starts), max(starts))
    ]


def _cut(period: tuple[datetime, datetime], span: tuple[datetime | None, datetime | None]) -> tuple[datetime, datetime]:
    (start, end), (since, until) = period, span
    return max(start, since or start), min(end, until or end)


def _cohort(period: tuple[datetime, datetime], counts: Counts, revenue: Revenue) -> Cohort:
    since, until = period
    rate, low, high = _rate(counts)
    return Cohort(
        since,
        until,
        counts.enrolled,
        counts.matured,
        counts.converted,
        counts.converted_in_time,
        rate,
        low,
        high,
        gross={currency: amounts["gross"] for currency, amounts in revenue.items()},
        net={currency: amounts["net"] for currency, amounts in revenue.items()},
    )


def _rate(counts: Counts) -> tuple[float, float, float] | tuple[None, None, None]:
    if not counts.enrolled or counts.matured != counts.enrolled or counts.converted_in_time is None:
        return None, None, None
    low, high = wilson(counts.converted_in_time, counts.enrolled)
    return percentage(counts.converted_in_time, counts.enrolled), percentage(low, 1), percentage(high, 1)
