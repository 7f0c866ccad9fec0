"""Series of cohorts and times to goal equal those that plain Python computes, and add up to the statistics."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import cohorts, incidence
from goalworker.postgres import connections
from goalworker.stores import cohort_series, stats, times_to_goal
from tests.integration import analyst, stored_runs, world
from tests.integration.stored_runs import MINUTES, RUNS, START, TENANT, WORKFLOW, add_goals, add_run

DAY = 86_400
NOWHERE: analyst.Span = (None, None)


async def series_of(
    pool: sa_async.AsyncEngine,
    by: str = "week",
    horizon_seconds: int = DAY,
    span: analyst.Span = NOWHERE,
    *,
    tracking: bool = True,
    read: Callable[..., Awaitable[Sequence[cohorts.Cohort]]] = cohort_series.cohort_series,
) -> Sequence[cohorts.Cohort]:
    async with connections.tenant_transaction(pool, TENANT, "stats") as connection:
        return await read(connection, TENANT, WORKFLOW, by, horizon_seconds, *span, tracking=tracking)


async def times_of(
    pool: sa_async.AsyncEngine, span: analyst.Span = NOWHERE, *, tracking: bool = True
) -> dict[str, Any]:
    async with connections.tenant_transaction(pool, TENANT, "stats") as connection:
        return await times_to_goal.times_to_goal(connection, TENANT, WORKFLOW, *span, tracking=tracking)


async def stats_of(pool: sa_async.AsyncEngine, span: analyst.Span, *, tracking: bool = True) -> dict[str, Any]:
    async with connections.tenant_transaction(pool, TENANT, "stats") as connection:
        return await stats.workflow_stats(connection, TENANT, WORKFLOW, *span, tracking=tracking)


async def observe_until(administrator: connections.Connection, moment: datetime | None) -> None:
    """Set the time until which a worker has judged the only partition."""
    await administrator.execute("INSERT INTO progress VALUES ('tag-added', 0, $1, now())", moment)


def total(series: Sequence[cohorts.Cohort], name: str) -> dict[str, Fraction]:
    sums: dict[str, Fraction] = {}
    for cohort in series:
        for currency, amount in getattr(cohort, name).items():
            sums[currency] = sums.get(currency, Fraction(0)) + Fraction(amount)
    return sums


# --- series ---


@world.examples(30)
@given(
    runs=RUNS,
    cuts=st.lists(MINUTES, max_size=1),
    by=st.sampled_from(cohorts.PERIODS),
    hours=st.integers(1, 120),
    tracking=st.booleans(),
)
async def test_a_series_adds_up_to_the_statistics_of_its_span(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    runs: list[Any],
    cuts: list[timedelta],
    by: str,
    hours: int,
    tracking: bool,
) -> None:
    await stored_runs.write(administrator, runs, [], tracking=tracking)
    await observe_until(administrator, START + timedelta(days=4))
    for span in analyst.spans([None, *(START + cut for cut in cuts)]):
        series = await series_of(pool, by, hours * 3_600, span, tracking=tracking)
        whole = await stats_of(pool, span, tracking=tracking)
        assert sum(row.converted for row in series) == whole["enrollments_converted"]
        if tracking:
            counts = await series_of(pool, by, hours * 3_600, span, read=cohort_series.without_revenue)
            assert counts == [msgspec.structs.replace(row, gross={}, net={}) for row in series]
        for name in ("gross", "net"):
            expected = {currency: Fraction(amounts[name]) for currency, amounts in whole["revenue"].items()}
            assert total(series, name) == expected
        if tracking:
            assert sum(row.enrolled or 0 for row in series) == whole["total_enrolled"]
        assert all(before.until == after.since for before, after in pairwise(series))
        for row in series:
            part = await stats_of(pool, (row.since, row.until), tracking=tracking)
            assert (row.enrolled, row.converted) == (part["total_enrolled"], part["enrollments_converted"])


@world.examples(20)
@given(runs=RUNS, hours=st.integers(1, 120))
async def test_a_rate_is_of_those_who_converted_within_the_horizon(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, runs: list[Any], hours: int
) -> None:
    await stored_runs.write(administrator, runs, [], tracking=True)
    observed, horizon = START + timedelta(days=4), timedelta(hours=hours)
    await observe_until(administrator, observed)
    rows = await administrator.fetch(
        "SELECT * FROM enrollments WHERE tenant_id = $1 AND enrolled_at IS NOT NULL", TENANT
    )
    for cohort in await series_of(pool, "day", hours * 3_600):
        own = [row for row in rows if cohort.since <= row["enrolled_at"] < cohort.until]
        in_time = [row for row in own if row["converted_at"] and row["converted_at"] <= row["enrolled_at"] + horizon]
        matured = [row for row in own if row["enrolled_at"] + horizon <= observed]
        assert (cohort.matured, cohort.converted_in_time) == (len(matured), len(in_time))
        is_mature = bool(own) and len(matured) == len(own)
        assert cohort.rate == (round(100 * len(in_time) / len(own), 1) if is_mature else None)
        assert (cohort.low is not None) == (cohort.high is not None) == is_mature


async def test_a_cohort_matures_by_what_is_judged_and_without_progress_by_the_clock(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await add_goals(administrator)
    await add_run(administrator, "e1", START)
    (row,) = await series_of(pool)
    assert (row.matured, row.rate) == (1, 0.0)
    await observe_until(administrator, START + timedelta(hours=23, minutes=59))
    (row,) = await series_of(pool)
    assert (row.matured, row.rate) == (0, None)
    await administrator.execute("UPDATE progress SET judged_until = $1", START + timedelta(days=1))
    (row,) = await series_of(pool)
    assert (row.matured, row.rate) == (1, 0.0)


async def test_a_payment_of_two_cohorts_counts_for_the_first(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await add_goals(administrator)
    paid_at = START + timedelta(days=9)
    for number, days in enumerate((8, 1)):
        start = START + timedelta(days=days)
        await add_run(administrator, f"e{number}", start, contact_id="ann", converted_at=paid_at)
        await stored_runs.add_achievement(
            administrator, f"e{number}", 1, paid_at, contact_id="ann", enrolled_at=start, paid=("9.90", "EUR", "p")
        )
    await administrator.execute("UPDATE achievements SET event_id = 'one and the same'")
    series = await series_of(pool)
    assert [row.gross for row in series] == [{"EUR": "9.90"}, {}]
    assert [row.since for row in series] == [datetime(2025, 12, 29, tzinfo=UTC), datetime(2026, 1, 5, tzinfo=UTC)]


async def test_enrollments_of_a_thousand_years_have_no_series_by_day(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await add_run(administrator, "e1", START)
    await add_run(administrator, "e2", START.replace(year=1026))
    with pytest.raises(cohorts.TooManyPeriodsError):
        await series_of(pool, "day")
    assert len(await series_of(pool, "day", span=(START, None))) == 1


# --- times to goal ---


@world.examples(30)
@given(
    runs=RUNS,
    ends=st.lists(st.none() | st.integers(-1, 10 * DAY), min_size=9, max_size=9),
    cuts=st.lists(MINUTES, max_size=1),
)
async def test_times_to_goal_are_those_of_every_enrollment(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    runs: list[Any],
    ends: list[int | None],
    cuts: list[timedelta],
) -> None:
    await stored_runs.write(administrator, runs, [], tracking=True)
    observed = START + timedelta(days=4)
    await observe_until(administrator, observed)
    for number, seconds in enumerate(ends):
        await administrator.execute(
            "UPDATE enrollments SET ended_at = enrolled_at + make_interval(secs => $2) WHERE enrollment_id = $1",
            *(f"e{number}", seconds),
        )
    rows = await administrator.fetch(
        "SELECT * FROM enrollments WHERE tenant_id = $1 AND enrolled_at IS NOT NULL", TENANT
    )
    for span in analyst.spans([None, *(START + cut for cut in cuts)]):
        found = await times_of(pool, span)
        cells = _cells([row for row in rows if analyst.is_in(span, row["enrolled_at"])], observed)
        assert found["histogram"] == incidence.histogram(cells)
        assert found["cumulative_incidence"] == incidence.listed(incidence.cumulative(cells))
        whole = await stats_of(pool, span)
        counted = sum(found[name] for name in ("enrollments_converted", "enrollments_ended", "enrollments_open"))
        assert found["total_enrolled"] == counted == whole["total_enrolled"]
        assert found["enrollments_converted"] == whole["enrollments_converted"]
        quantiles = {one["quantile"]: one for one in found["quantiles"]}
        for quantile, name in ((0.5, "median"), (0.9, "p90")):
            for unit in ("hours", "seconds"):
                assert quantiles[quantile][unit] == whole[f"{name}_time_to_goal_{unit}"]


def _cells(rows: Sequence[Any], observed: datetime) -> list[incidence.Cell]:
    counts: dict[int, Counter[str]] = {}
    for row in rows:
        last = row["converted_at"] or row["ended_at"] or observed
        outcome = "converted" if row["converted_at"] else "ended" if row["ended_at"] else "open"
        cell = incidence.cell_of((last - row["enrolled_at"]).total_seconds())
        counts.setdefault(cell, Counter())[outcome] += 1
    return [
        incidence.Cell(cell, found["converted"], found["ended"], found["open"])
        for cell, found in sorted(counts.items())
    ]


async def test_without_tracking_there_are_no_times_to_goal(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await add_run(administrator, "e1", None, converted_at=START)
    found = await times_of(pool, tracking=False)
    assert (found["total_enrolled"], found["enrollments_converted"]) == (None, None)
    assert {one["seconds"] for one in found["quantiles"]} == {None}
    assert found["cumulative_incidence"] == []
