"""Statistics of a workflow (contract section 5).

Each request counts them afresh: events need not keep running totals that people look at now and then. Counts that took
long are cached (`AnswerCache`).
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Context, Decimal
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain.text import format_money

SECONDS_PER_HOUR: Final = 3600

_EXACT: Final = Context(prec=128)
"""Precision for every digit of a sum; the default context rounds to 28 digits."""


# Counting a million rows may use one processor for a while; the other processors serve other requests.
_ONE_PROCESSOR: Final = sa.text(
    "SELECT set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)"
)

_ENROLLMENTS: Final = """
SELECT count(enrolled_at) AS enrolled, count(converted_at) AS converted, count(exited_at) AS exits,
    extract(epoch FROM avg(converted_at - enrolled_at))::float8 AS mean,
    extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY converted_at - enrolled_at))::float8 AS median,
    extract(epoch FROM percentile_cont(0.9) WITHIN GROUP (ORDER BY converted_at - enrolled_at))::float8 AS p90
FROM enrollments
WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id {span}
"""


# Reads the achievements once, by index from the start of the span: no achievement precedes its enrollment.
_GOALS: Final = """
WITH live AS MATERIALIZED (
    SELECT goal_id, goal_type, enrollment_id,
        CASE WHEN goal_type = 'purchase_made' THEN upper((data ->> 'currency') COLLATE "C") END AS currency,
        CASE WHEN goal_type = 'purchase_made' THEN (data ->> 'amount')::numeric END AS amount
    FROM achievements
    WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id AND revoked_at IS NULL {span}
)
SELECT g.goal_id, g.goal_type, g.name, g.deleted_at IS NULL AS is_live, coalesce(a.achieved, 0) AS achieved, a.revenue,
    coalesce(t.enrollments, 0) AS enrollments_of_type
FROM goals g
LEFT JOIN (
    SELECT goal_id, sum(achieved)::bigint AS achieved,
        jsonb_object_agg(currency, amount::text) FILTER (WHERE currency IS NOT NULL) AS revenue
    FROM (SELECT goal_id, currency, count(*) AS achieved, sum(amount) AS amount FROM live GROUP BY 1, 2) AS by_currency
    GROUP BY goal_id
) AS a USING (goal_id)
LEFT JOIN (
    SELECT goal_type, count(*) AS enrollments FROM (SELECT DISTINCT goal_type, enrollment_id FROM live) AS of_type
    GROUP BY goal_type
) AS t USING (goal_type)
WHERE g.tenant_id = :tenant_id AND g.workflow_id = :workflow_id
ORDER BY g.created_at, g.goal_id
"""


# Spans of both queries, with tracking and without. An exit stands even if its conversion was revoked.
_ENROLLED: Final = {"since": "enrolled_at >= :since", "until": "enrolled_at < :until"}

_ACHIEVED_BY_ENROLLED: Final = _ENROLLED | {"since": "enrolled_at >= :since AND achieved_at >= :since"}

_CONVERTED: Final = {
    "since": "coalesce(converted_at, exited_at) >= :since",
    "until": "coalesce(converted_at, exited_at) < :until",
}

_ACHIEVED: Final = {"since": "achieved_at >= :since", "until": "achieved_at < :until"}

_TRACES_OF_WORKFLOW: Final = sa.text(
    " UNION ALL ".join(
        f"(SELECT 1 FROM {table} WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id LIMIT 1)"
        for table in ("goals", "workflow_settings", "workflow_states", "enrollments")
    )
    + " LIMIT 1"
)


class UnknownWorkflowError(errors.GoalworkerError):
    """No goal, logic or message has ever named the workflow."""

    def __init__(self) -> None:
        super().__init__("Unknown workflow: no goal or message has ever named it")


async def workflow_stats(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    workflow_id: str,
    since: datetime | None,
    until: datetime | None,
    *,
    tracking: bool,
) -> dict[str, Any]:
    """Return `stats` of contract section 5 for the enrollments with since <= enrolled_at < until.

    Rates are percentages with one decimal, times are hours with two decimals and seconds with three, percentiles are
    interpolated. Without tracking, the span selects by conversion, exit or achievement, and total_enrolled, rates and
    times are null.
    """
    values = {"tenant_id": tenant_id, "workflow_id": workflow_id, "since": since, "until": until}
    await connection.execute(_ONE_PROCESSOR)
    totals = (await _execute(connection, _ENROLLMENTS, _ENROLLED if tracking else _CONVERTED, values)).one()
    found = (await _execute(connection, _GOALS, _ACHIEVED_BY_ENROLLED if tracking else _ACHIEVED, values)).all()
    goals = [goal for goal in found if goal.is_live or goal.achieved]
    enrollments = {goal.goal_type: goal.enrollments_of_type for goal in goals}
    achieved = {type_: sum(goal.achieved for goal in goals if goal.goal_type == type_) for type_ in enrollments}

    def rate(number: int) -> float | None:
        return _percentage(number, totals.enrolled) if tracking else None

    return {
        "workflow_id": workflow_id,
        "from": since,
        "to": until,
        "total_enrolled": totals.enrolled if tracking else None,
        "goals_achieved": sum(achieved.values()),
        "enrollments_converted": totals.converted,
        "conversion_rate": rate(totals.converted),
        **_times_to_goal(avg=totals.mean, median=totals.median, p90=totals.p90),
        "exits_sent": totals.exits,
        "by_goal_type": {
            type_: {"achieved": achieved[type_], "conversion_rate": rate(enrollments[type_])} for type_ in enrollments
        },
        "by_goal": [
            {
                "goal_id": goal.goal_id,
                "goal_type": goal.goal_type,
                "name": goal.name,
                "achieved": goal.achieved,
                "conversion_rate": rate(goal.achieved),
            }
            for goal in goals
        ],
        "revenue": _revenue(goal.revenue for goal in goals),
    }


async def require_workflow(connection: sa_async.AsyncConnection, tenant_id: str, workflow_id: str) -> None:
    """Raise UnknownWorkflowError for a workflow without any goal, logic, enrollment or workflow state."""
    values = {"tenant_id": tenant_id, "workflow_id": workflow_id}
    if (await connection.execute(_TRACES_OF_WORKFLOW, values)).first() is None:
        raise UnknownWorkflowError


async def _execute(
    connection: sa_async.AsyncConnection, query: str, bounds: Mapping[str, str], values: Mapping[str, Any]
) -> sa.CursorResult[Any]:
    values = {name: value for name, value in values.items() if value is not None}
    span = "".join(f" AND {bound}" for name, bound in bounds.items() if name in values)
    return await connection.execute(sa.text(query.format(span=span)), values)


def _percentage(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _times_to_goal(**seconds: float | None) -> dict[str, float | None]:
    """Return each time in hours and in seconds: ten seconds round to 0.0 hours."""
    hours = {
        f"{name}_time_to_goal_hours": None if value is None else round(value / SECONDS_PER_HOUR, 2)
        for name, value in seconds.items()
    }
    return hours | {
        f"{name}_time_to_goal_seconds": None if value is None else round(value, 3) for name, value in seconds.items()
    }


def _revenue(by_goal: Any) -> dict[str, str]:
    total: dict[str, Decimal] = {}
    for revenue in by_goal:
        for currency, amount in (revenue or {}).items():
            total[currency] = _EXACT.add(total.get(currency, Decimal(0)), Decimal(amount))
    return {currency: format_money(total[currency]) for currency in sorted(total)}
