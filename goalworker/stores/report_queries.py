"""Parts that the queries of reports share: spans of time, and the payments of a workflow.

Each report counts afresh: events need not keep running totals that people look at now and then. Counts that took long
are cached (`AnswerCache`).
"""

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

# Counting a million rows may use one processor for a while; the other processors serve other requests.
ONE_PROCESSOR: Final = sa.text(
    "SELECT set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)"
)


# Achievements are read by index from the start of the span. None precedes its enrollment by a second (rule 3.2).
_SPANS_TRACKED: Final = {
    "of_enrollments": ("enrolled_at >= :since", "enrolled_at < :until"),
    "of_achievements": (
        "enrolled_at >= :since AND achieved_at > CAST(:since AS timestamptz) - interval '1 second'",
        "enrolled_at < :until",
    ),
    "of_payments": ("enrolled_at >= :since", "enrolled_at < :until"),
}

# An exit stands even if its conversion was revoked.
_SPANS_UNTRACKED: Final = {
    "of_enrollments": ("coalesce(converted_at, exited_at) >= :since", "coalesce(converted_at, exited_at) < :until"),
    "of_achievements": ("achieved_at >= :since", "achieved_at < :until"),
    "of_payments": ("p.time >= :since", "p.time < :until"),
}


# Moment by which a row belongs to a period: that of a span's bounds.
MOMENTS_TRACKED: Final = {
    "enrollment": "enrolled_at",
    "achievement": "enrolled_at",
    "payment": "enrolled_at",
}
MOMENTS_UNTRACKED: Final = {
    "enrollment": "coalesce(converted_at, exited_at)",
    "achievement": "achieved_at",
    "payment": "p.time",
}


# What is not judged yet may be a conversion, so time is observed until everything before it was judged. Without any
# progress, as on a restored database, by the clock.
OBSERVED_UNTIL: Final = """
SELECT coalesce(CASE WHEN bool_and(judged_until IS NOT NULL) THEN min(judged_until) END, clock_timestamp()) AS until
FROM progress
"""


def payments(moments: Mapping[str, str] | None = None) -> str:
    """Return the beginning of a query of `numbered` payments, with the `period` of each if moments are given.

    Payments are the triggers of achievements, or those that an enrollment keeps apart (domain/evidence.py). Each counts
    once for its goal and once for the workflow, as its earliest event says it; if that met enrollments of several
    periods, for the first one.
    """
    column = order = of_achievement = of_payment = ""
    if moments is not None:
        column, order = "period, ", ", period"
        of_achievement = f"{period_of(moments['achievement'])} AS period, "
        of_payment = f"{period_of(moments['payment'])}, "
    # OFFSET 0 has each document parsed once.
    return f"""
WITH paid AS (
    SELECT {of_achievement}goal_id, contact_id, achieved_at AS time, event_source AS source, event_id AS id,
        data::jsonb AS data, 0::numeric AS reversed
    FROM achievements
    WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id AND goal_type = 'purchase_made' AND revoked_at IS NULL
        AND NOT payments_apart {{of_achievements}}
    UNION ALL
    SELECT {of_payment}p.goal_id, contact_id, p.time, p.source, p.id, p.data, coalesce(p.reversed, 0)
    FROM enrollments, json_to_recordset(payments::json) AS p(
        goal_id uuid, time timestamptz, source text COLLATE "C", id text COLLATE "C", data jsonb, reversed numeric
    )
    WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id AND payments IS NOT NULL {{of_payments}}
    OFFSET 0
),
payment AS (
    SELECT {column}goal_id, contact_id, data ->> 'payment_id' AS payment_id, time, source, id,
        upper((data ->> 'currency') COLLATE "C") AS currency, (data ->> 'amount')::numeric AS amount, reversed
    FROM paid
),
numbered AS (
    SELECT {column}goal_id, currency, amount, reversed,
        row_number() OVER (PARTITION BY contact_id, payment_id, goal_id ORDER BY time, source, id) AS of_goal,
        row_number() OVER (PARTITION BY contact_id, payment_id ORDER BY time, source, id{order}) AS of_workflow
    FROM payment
)
"""


def period_of(moment: str) -> str:
    """Return SQL for the start of the period in which a moment lies; `:by` says which periods."""
    return f"date_trunc(CAST(:by AS text), {moment}, 'UTC')"


async def execute(
    connection: sa_async.AsyncConnection, query: str, values: Mapping[str, Any], *, tracking: bool
) -> sa.CursorResult[Any]:
    """Run a query with the bounds that it names: those of the span from `since` to `until`, where they are not None."""
    values = {name: value for name, value in values.items() if value is not None}
    bounds = {
        rows: "".join(f" AND {bound}" for name, bound in zip(("since", "until"), span, strict=True) if name in values)
        for rows, span in (_SPANS_TRACKED if tracking else _SPANS_UNTRACKED).items()
    }
    return await connection.execute(sa.text(query.format(**bounds)), values)
