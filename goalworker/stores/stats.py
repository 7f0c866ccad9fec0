"""Statistics of a workflow (contract section 5)."""

import functools
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain import rates, revenue
from goalworker.stores import report_queries

_ENROLLMENTS: Final = """
SELECT count(enrolled_at) AS enrolled, count(converted_at) AS converted, count(exited_at) AS exits,
    extract(epoch FROM avg(converted_at - enrolled_at))::float8 AS mean,
    extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY converted_at - enrolled_at))::float8 AS median,
    extract(epoch FROM percentile_cont(0.9) WITHIN GROUP (ORDER BY converted_at - enrolled_at))::float8 AS p90
FROM enrollments
WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id {of_enrollments}
"""


# Enrollments are told apart before types: sorting by a prefix that most rows share would take twice as long.
_GOALS: Final = """
WITH live AS MATERIALIZED (
    SELECT goal_id, goal_type, enrollment_id
    FROM achievements
    WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id AND revoked_at IS NULL {of_achievements}
)
SELECT g.goal_id, g.goal_type, g.name, g.deleted_at IS NULL AS is_live, coalesce(a.achieved, 0) AS achieved,
    coalesce(t.enrollments, 0) AS enrollments_of_type
FROM goals g
LEFT JOIN (SELECT goal_id, count(*) AS achieved FROM live GROUP BY goal_id) AS a USING (goal_id)
LEFT JOIN (
    SELECT goal_type, count(*) AS enrollments FROM (SELECT DISTINCT enrollment_id, goal_type FROM live) AS of_type
    GROUP BY goal_type
) AS t USING (goal_type)
WHERE g.tenant_id = :tenant_id AND g.workflow_id = :workflow_id
ORDER BY g.created_at, g.goal_id
"""


_REVENUE: Final = f"""
{report_queries.payments()}
SELECT goal_id, currency,
    sum(amount) FILTER (WHERE of_goal = 1) AS gross_of_goal,
    sum(reversed) FILTER (WHERE of_goal = 1) AS reversed_of_goal,
    sum(amount) FILTER (WHERE of_workflow = 1) AS gross_of_workflow,
    sum(reversed) FILTER (WHERE of_workflow = 1) AS reversed_of_workflow
FROM numbered
GROUP BY goal_id, currency
"""


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
    interpolated. Without tracking, the span selects by conversion, exit, achievement or payment, and total_enrolled,
    rates and times are null.
    """
    values = {"tenant_id": tenant_id, "workflow_id": workflow_id, "since": since, "until": until}
    execute = functools.partial(report_queries.execute, connection, values=values, tracking=tracking)
    await connection.execute(report_queries.ONE_PROCESSOR)
    totals = (await execute(_ENROLLMENTS)).one()
    found = (await execute(_GOALS)).all()
    has_purchases = any(goal.goal_type == "purchase_made" for goal in found)
    payments = (await execute(_REVENUE)).all() if has_purchases else []
    by_goal = _revenue_by_goal(payments)
    goals = [goal for goal in found if goal.is_live or goal.achieved or goal.goal_id in by_goal]
    enrollments = {goal.goal_type: goal.enrollments_of_type for goal in goals}
    achieved = {type_: sum(goal.achieved for goal in goals if goal.goal_type == type_) for type_ in enrollments}

    def rate(number: int) -> float | None:
        return rates.percentage(number, totals.enrolled) if tracking else None

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
                "revenue": by_goal.get(goal.goal_id, {}),
            }
            for goal in goals
        ],
        "revenue": revenue.totals((row.currency, row.gross_of_workflow, row.reversed_of_workflow) for row in payments),
    }


async def require_workflow(connection: sa_async.AsyncConnection, tenant_id: str, workflow_id: str) -> None:
    """Raise UnknownWorkflowError for a workflow without any goal, logic, enrollment or workflow state."""
    values = {"tenant_id": tenant_id, "workflow_id": workflow_id}
    if (await connection.execute(_TRACES_OF_WORKFLOW, values)).first() is None:
        raise UnknownWorkflowError


def _times_to_goal(**seconds: float | None) -> dict[str, float | None]:
    """Return each time in hours and in seconds."""
    hours = {f"{name}_time_to_goal_hours": rates.hours(value) for name, value in seconds.items()}
    return hours | {f"{name}_time_to_goal_seconds": rates.seconds(value) for name, value in seconds.items()}


def _revenue_by_goal(rows: Iterable[Any]) -> dict[UUID, revenue.Revenue]:
    by_goal: defaultdict[UUID, list[revenue.Sum]] = defaultdict(list)
    for row in rows:
        by_goal[row.goal_id].append((row.currency, row.gross_of_goal, row.reversed_of_goal))
    return {goal_id: revenue.totals(sums) for goal_id, sums in by_goal.items()}
