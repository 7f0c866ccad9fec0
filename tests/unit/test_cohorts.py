"""Cohorts: periods, maturity, and rates with their intervals."""

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.domain import cohorts, rates
from goalworker.domain.cohorts import Counts

MOMENTS = st.datetimes(timezones=st.sampled_from((UTC, timezone(timedelta(hours=-11))))).filter(
    lambda moment: 2 <= moment.year <= 9_900
)
PERIODS = st.sampled_from(cohorts.PERIODS)
TRIALS = st.integers(1, 10**6).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


def utc(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


# --- periods ---


@given(PERIODS, MOMENTS)
def test_each_moment_lies_in_the_period_that_begins_before_it(by: str, moment: datetime) -> None:
    start = cohorts.start_of(by, moment)
    assert start <= moment < cohorts.next_start(by, start)
    assert cohorts.start_of(by, start) == start
    assert start.utcoffset() == timedelta(0)


@given(MOMENTS)
def test_weeks_are_those_of_iso_8601(moment: datetime) -> None:
    start = cohorts.start_of("week", moment)
    assert start.date() == date.fromisocalendar(*moment.astimezone(UTC).isocalendar()[:2], 1)


def test_months_have_their_own_lengths() -> None:
    found = list(cohorts.periods("month", utc(2027, 12, 1), utc(2028, 3, 1)))
    assert [end - start for start, end in found] == [timedelta(days=days) for days in (31, 31, 29, 31)]


@given(PERIODS, MOMENTS, st.integers(1, 40))
def test_periods_follow_each_other_without_a_gap(by: str, moment: datetime, count: int) -> None:
    first = last = cohorts.start_of(by, moment)
    for _ in range(count - 1):
        last = cohorts.next_start(by, last)
    found = list(cohorts.periods(by, first, last))
    assert len(found) == count
    assert [start for start, _ in found[1:]] == [end for _, end in found[:-1]]


def test_a_series_of_more_than_a_thousand_periods_is_refused() -> None:
    assert len(list(cohorts.periods("day", utc(2024, 1, 1), utc(2024, 1, 1) + timedelta(days=999)))) == 1_000
    with pytest.raises(cohorts.TooManyPeriodsError, match=r"more than 1000 periods.* choose a longer period"):
        list(cohorts.periods("day", utc(2024, 1, 1), utc(2024, 1, 1) + timedelta(days=1_000)))


# --- rates ---


@given(TRIALS)
def test_wilsons_bounds_are_where_the_share_lies_at_the_edge_of_95_percent(counts: tuple[int, int]) -> None:
    successes, trials = counts
    share = Fraction(successes, trials)
    low, high = rates.wilson(successes, trials)
    assert 0 <= low <= share + Fraction(1, 10**12)
    assert share - Fraction(1, 10**12) <= high <= 1
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            distance = abs(float(share) - bound) / math.sqrt(bound * (1 - bound) / trials)
            assert distance == pytest.approx(1.959963984540054, rel=1e-4)


@pytest.mark.parametrize(
    ("successes", "trials", "bounds"),
    [(0, 10, (0.0, 0.27753)), (10, 10, (0.72247, 1.0)), (81, 263, (0.25529, 0.36621)), (15, 148, (0.06240, 0.16052))],
)
def test_wilsons_interval_has_the_digits_of_newcombe_1998(
    successes: int, trials: int, bounds: tuple[float, float]
) -> None:
    assert rates.wilson(successes, trials) == pytest.approx(bounds, abs=5e-5)


# --- series ---

WEEK = utc(2026, 5, 4)
EUR = {"EUR": {"gross": "10.00", "reversed": "4.00", "net": "6.00"}}


def test_a_cohort_has_a_rate_once_all_of_it_had_the_whole_horizon() -> None:
    mature, immature = Counts(8, 8, 5, 4), Counts(8, 7, 5, 4)
    (row,) = cohorts.series("week", {WEEK: mature}, {}, (None, None))
    assert (row.rate, row.low, row.high) == (50.0, 21.5, 78.5)
    (row,) = cohorts.series("week", {WEEK: immature}, {}, (None, None))
    assert (row.rate, row.low, row.high) == (None, None, None)
    assert (row.converted, row.converted_in_time) == (5, 4)


def test_a_period_without_enrollments_has_a_row_without_a_rate() -> None:
    counts = {WEEK: Counts(1, 1, 1, 1), WEEK + timedelta(days=14): Counts(2, 2, 0, 0)}
    rows = cohorts.series("week", counts, {}, (None, None))
    assert [(row.enrolled, row.rate) for row in rows] == [(1, 100.0), (0, None), (2, 0.0)]


def test_the_first_and_the_last_row_are_cut_to_the_span() -> None:
    since, until = WEEK + timedelta(days=2), WEEK + timedelta(days=9)
    counts = {WEEK: Counts(1, 1, 1, 1), WEEK + timedelta(days=7): Counts(1, 1, 1, 1)}
    rows = cohorts.series("week", counts, {}, (since, until))
    assert [(row.since, row.until) for row in rows] == [(since, WEEK + timedelta(days=7)), (rows[0].until, until)]


def test_without_tracking_there_are_neither_enrollments_nor_rates() -> None:
    counts, paid = {WEEK: Counts(None, None, 3, None)}, {WEEK + timedelta(days=2): EUR}
    rows = cohorts.series("day", counts, paid, (None, None), tracking=False)
    (only_paid,) = cohorts.series("day", {}, {WEEK: EUR}, (None, None), tracking=False)
    assert (only_paid.enrolled, only_paid.converted) == (None, 0)
    assert [(row.enrolled, row.matured, row.converted, row.rate) for row in rows] == [
        (None, None, 3, None),
        (None, None, 0, None),
        (None, None, 0, None),
    ]


def test_revenue_stands_beside_the_enrollments_by_currency() -> None:
    (row,) = cohorts.series("week", {WEEK: Counts(1, 0, 1, 1)}, {WEEK: EUR}, (None, None))
    assert (row.gross, row.net) == ({"EUR": "10.00"}, {"EUR": "6.00"})
    assert Decimal(row.net["EUR"]) == 6
