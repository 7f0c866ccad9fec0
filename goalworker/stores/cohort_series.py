"""Conversion and revenue of a workflow by the period in which enrollments began (contract section 9)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import cohorts, revenue
from goalworker.stores import report_queries

_HAS_PURCHASES: Final = sa.text(
    "SELECT EXISTS (SELECT 1 FROM goals WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id"
    " AND goal_type = 'purchase_made')"
)


async def cohort_series(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    workflow_id: str,
    by: str,
    horizon_seconds: int,
    since: datetime | None,
    until: datetime | None,
    *,
    tracking: bool,
) -> Sequence[cohorts.Cohort]:
    """Return the cohorts of the enrollments with since <= enrolled_at < until; TooManyPeriodsError.

    They add up to the statistics of the same span. Without tracking, a period is that of a conversion or payment.
    """
    workflow = {"tenant_id": tenant_id, "workflow_id": workflow_id}
    values = {**workflow, "since": since, "until": until, "by": by}
    counts = await _count(connection, values, horizon_seconds, tracking=tracking)
    paid: Mapping[datetime, revenue.Revenue] = {}
    if (await connection.execute(_HAS_PURCHASES, workflow)).scalar_one():
        payments = await report_queries.execute(connection, _revenue(_moments(tracking)), values, tracking=tracking)
        paid = _by_period(payments)
    return cohorts.series(by, counts, paid, (since, until), tracking=tracking)


async def without_revenue(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    workflow_id: str,
    by: str,
    horizon_seconds: int,
    since: datetime | None,
    until: datetime | None,
    *,
    tracking: bool,
) -> Sequence[cohorts.Cohort]:
    """Return the cohorts without their revenue, whose payments take most of the time; TooManyPeriodsError."""
    values = {"tenant_id": tenant_id, "workflow_id": workflow_id, "since": since, "until": until, "by": by}
    counts = await _count(connection, values, horizon_seconds, tracking=tracking)
    return cohorts.series(by, counts, {}, (since, until), tracking=tracking)


async def _count(
    connection: sa_async.AsyncConnection, values: Mapping[str, Any], horizon_seconds: int, *, tracking: bool
) -> dict[datetime, cohorts.Counts]:
    await connection.execute(report_queries.ONE_PROCESSOR)
    with_horizon = {**values, "horizon": timedelta(seconds=horizon_seconds)}
    query = _counts(_moments(tracking))
    found = await report_queries.execute(connection, query, with_horizon, tracking=tracking)
    return {row.period: _of_row(row, tracking=tracking) for row in found}


def _moments(tracking: bool) -> Mapping[str, str]:
    return report_queries.MOMENTS_TRACKED if tracking else report_queries.MOMENTS_UNTRACKED


def _counts(moments: Mapping[str, str]) -> str:
    return f"""
WITH observed AS ({report_queries.OBSERVED_UNTIL})
SELECT {report_queries.period_of(moments["enrollment"])} AS period, count(enrolled_at) AS enrolled,
    count(*) FILTER (WHERE enrolled_at + CAST(:horizon AS interval) <= (SELECT until FROM observed)) AS matured,
    count(converted_at) AS converted,
    count(*) FILTER (WHERE converted_at <= enrolled_at + CAST(:horizon AS interval)) AS converted_in_time
FROM enrollments
WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id AND {moments["enrollment"]} IS NOT NULL {{of_enrollments}}
GROUP BY period
"""


def _revenue(moments: Mapping[str, str]) -> str:
    return f"""
{report_queries.payments(moments)}
SELECT period, currency, sum(amount) AS gross, sum(reversed) AS reversed
FROM numbered WHERE of_workflow = 1
GROUP BY period, currency
"""


def _of_row(row: Any, *, tracking: bool) -> cohorts.Counts:
    if not tracking:
        return cohorts.Counts(None, None, row.converted, None)
    return cohorts.Counts(row.enrolled, row.matured, row.converted, row.converted_in_time)


def _by_period(rows: Iterable[Any]) -> dict[datetime, revenue.Revenue]:
    sums: defaultdict[datetime, list[revenue.Sum]] = defaultdict(list)
    for row in rows:
        sums[row.period].append((row.currency, row.gross, row.reversed))
    return {period: revenue.totals(found) for period, found in sums.items()}
