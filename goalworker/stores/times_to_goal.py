"""Times to goal of a workflow: quantiles, histogram and cumulative incidence (contract section 9)."""

from collections.abc import Mapping
from datetime import datetime
from itertools import zip_longest
from typing import Any, Final

from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import incidence, rates
from goalworker.stores import report_queries

_QUANTILES: Final = """
SELECT extract(epoch FROM quantile)::float8 AS seconds
FROM unnest((
    SELECT percentile_cont(CAST(:quantiles AS float8[])) WITHIN GROUP (ORDER BY converted_at - enrolled_at)
    FROM enrollments
    WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id AND converted_at IS NOT NULL {of_enrollments}
)) WITH ORDINALITY AS found(quantile, number)
ORDER BY number
"""

# As incidence.cell_of.
_CELL: Final = (
    "(CASE "
    + " ".join(
        f"{'ELSE' if until is None else f'WHEN seconds <= {until} THEN'} ceil(seconds / {length}) * {length}"
        for until, length in incidence.CELLS
    )
    + " END)::bigint"
)

_CELLS: Final = f"""
WITH observed AS ({report_queries.OBSERVED_UNTIL}),
enrollment AS (
    SELECT converted_at IS NOT NULL AS converted, converted_at IS NULL AND ended_at IS NOT NULL AS ended,
        greatest(0, date_part(
            'epoch', coalesce(converted_at, ended_at, (SELECT until FROM observed)) - enrolled_at
        )) AS seconds
    FROM enrollments
    WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id AND enrolled_at IS NOT NULL {{of_enrollments}}
)
SELECT {_CELL} AS cell, count(*) FILTER (WHERE converted) AS converted, count(*) FILTER (WHERE ended) AS ended,
    count(*) FILTER (WHERE NOT converted AND NOT ended) AS open
FROM enrollment
GROUP BY cell
ORDER BY cell
"""


async def times_to_goal(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    workflow_id: str,
    since: datetime | None,
    until: datetime | None,
    *,
    tracking: bool,
) -> dict[str, Any]:
    """Return how long the enrollments with since <= enrolled_at < until took to convert; nothing without tracking."""
    values = {"tenant_id": tenant_id, "workflow_id": workflow_id, "since": since, "until": until}
    cells, quantiles = await _count(connection, values) if tracking else ([], [])
    counts: dict[str, int | None] = {
        "total_enrolled": sum(cell.converted + cell.ended + cell.open for cell in cells),
        "enrollments_converted": sum(cell.converted for cell in cells),
        "enrollments_ended": sum(cell.ended for cell in cells),
        "enrollments_open": sum(cell.open for cell in cells),
    }
    return {
        "workflow_id": workflow_id,
        "from": since,
        "to": until,
        **(counts if tracking else dict.fromkeys(counts)),
        "quantiles": [
            {"quantile": quantile, **_time(seconds)}
            for quantile, seconds in zip_longest(incidence.QUANTILES, quantiles)
        ],
        "histogram": incidence.histogram(cells),
        "cumulative_incidence": incidence.listed(incidence.cumulative(cells)),
    }


async def _count(
    connection: sa_async.AsyncConnection, values: Mapping[str, Any]
) -> tuple[list[incidence.Cell], list[float]]:
    """Return the cells in order, and the quantiles in seconds, or none without a conversion."""
    await connection.execute(report_queries.ONE_PROCESSOR)
    cells = (await report_queries.execute(connection, _CELLS, values, tracking=True)).all()
    with_quantiles = {**values, "quantiles": list(incidence.QUANTILES)}
    quantiles = (await report_queries.execute(connection, _QUANTILES, with_quantiles, tracking=True)).scalars().all()
    return [incidence.Cell(row.cell, row.converted, row.ended, row.open) for row in cells], list(quantiles)


def _time(seconds: float | None) -> dict[str, float | None]:
    return {"hours": rates.hours(seconds), "seconds": rates.seconds(seconds)}
