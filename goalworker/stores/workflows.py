"""Workflows of a tenant with their numbers, in pages in the order of their ids (contract section 9)."""

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import goals, rates
from goalworker.domain.text import is_valid_text
from goalworker.stores import enrollments, report_queries, stats
from goalworker.stores.achievements import CursorError, decode_cursor, encode_cursor


class Workflow(Struct, frozen=True):
    """A workflow that a goal, logic or message has named; the numbers are those of its statistics."""

    workflow_id: str
    is_active: bool
    logic: str
    goals: int
    total_enrolled: int | None
    enrollments_converted: int
    conversion_rate: float | None
    exits_sent: int


# Of each table, ids are taken from the index one after the other: a workflow may have a million enrollments.
_IDS: Final = sa.text(
    """
WITH RECURSIVE enrolled AS (
    (
        SELECT workflow_id FROM enrollments WHERE tenant_id = :tenant_id AND workflow_id > :after
        ORDER BY workflow_id LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT workflow_id FROM enrollments WHERE tenant_id = :tenant_id AND workflow_id > enrolled.workflow_id
        ORDER BY workflow_id LIMIT 1
    )
    FROM enrolled WHERE workflow_id IS NOT NULL
)
SELECT workflow_id FROM (
    (SELECT workflow_id FROM enrolled WHERE workflow_id IS NOT NULL AND {matches} LIMIT :limit)
    UNION (
        SELECT DISTINCT workflow_id FROM goals
        WHERE tenant_id = :tenant_id AND workflow_id > :after AND {matches}
        ORDER BY workflow_id LIMIT :limit
    )
    UNION (
        SELECT DISTINCT workflow_id FROM workflow_settings
        WHERE tenant_id = :tenant_id AND workflow_id > :after AND {matches}
        ORDER BY workflow_id LIMIT :limit
    )
    UNION (
        SELECT DISTINCT workflow_id FROM workflow_states
        WHERE tenant_id = :tenant_id AND workflow_id > :after AND {matches}
        ORDER BY workflow_id LIMIT :limit
    )
) AS found
ORDER BY workflow_id LIMIT :limit
""".replace("{matches}", "strpos(lower(workflow_id), lower(:search)) > 0")
)

# The logic and the state of a workflow that are in force.
_IN_FORCE: Final = """
    (
        SELECT logic FROM workflow_settings AS setting
        WHERE setting.tenant_id = :tenant_id AND setting.workflow_id = asked.workflow_id
        ORDER BY active_from DESC LIMIT 1
    ) AS logic,
    (
        SELECT active FROM workflow_states AS state
        WHERE state.tenant_id = :tenant_id AND state.workflow_id = asked.workflow_id AND since <= clock_timestamp()
        ORDER BY since DESC LIMIT 1
    ) AS active"""

_NUMBERS: Final = f"""
WITH counted AS (
    SELECT workflow_id, count(enrolled_at) AS enrolled, count(converted_at) AS converted, count(exited_at) AS exits
    FROM enrollments
    WHERE tenant_id = :tenant_id AND workflow_id = ANY(CAST(:workflow_ids AS text[])) {{of_enrollments}}
    GROUP BY workflow_id
)
SELECT workflow_id, coalesce(enrolled, 0) AS enrolled, coalesce(converted, 0) AS converted,
    coalesce(exits, 0) AS exits,
    (
        SELECT count(*) FROM goals AS goal
        WHERE goal.tenant_id = :tenant_id AND goal.workflow_id = asked.workflow_id AND goal.deleted_at IS NULL
    ) AS goals,{_IN_FORCE}
FROM unnest(CAST(:workflow_ids AS text[])) AS asked(workflow_id) LEFT JOIN counted USING (workflow_id)
ORDER BY workflow_id
"""

_DESCRIPTION: Final = sa.text(f"SELECT {_IN_FORCE} FROM (SELECT CAST(:workflow_id AS text)) AS asked(workflow_id)")


class Description(Struct, frozen=True):
    """A workflow's state and logic, and the time until which its numbers are complete."""

    is_active: bool
    logic: str
    fresh_as_of: datetime | None


async def describe(connection: sa_async.AsyncConnection, tenant_id: str, workflow_id: str) -> Description:
    """Return what is in force for a workflow; UnknownWorkflowError."""
    await stats.require_workflow(connection, tenant_id, workflow_id)
    row = (await connection.execute(_DESCRIPTION, {"tenant_id": tenant_id, "workflow_id": workflow_id})).one()
    fresh_as_of = await enrollments.fresh_as_of(connection)
    return Description(row.active is not False, row.logic or goals.DEFAULT_LOGIC, fresh_as_of)


async def list_workflows(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    *,
    cursor: str | None,
    limit: int,
    since: datetime | None,
    until: datetime | None,
    tracking: bool,
    search: str | None = None,
) -> dict[str, Any]:
    """Return a page of workflows with the numbers of the enrollments with since <= enrolled_at < until; CursorError.

    search: only workflows whose ids contain this.
    """
    after = "" if cursor is None else _decode_cursor(cursor)
    page = {"tenant_id": tenant_id, "after": after, "limit": limit + 1, "search": search or ""}
    found = (await connection.execute(_IDS, page)).scalars().all()
    values = {"tenant_id": tenant_id, "workflow_ids": found[:limit], "since": since, "until": until}
    await connection.execute(report_queries.ONE_PROCESSOR)
    rows = await report_queries.execute(connection, _NUMBERS, values, tracking=tracking)
    return {
        "workflows": [_of_row(row, tracking=tracking) for row in rows],
        "next_cursor": encode_cursor(found[limit - 1].encode()) if len(found) > limit else None,
        "fresh_as_of": await enrollments.fresh_as_of(connection),
    }


def _of_row(row: Any, *, tracking: bool) -> Workflow:
    return Workflow(
        row.workflow_id,
        row.active is not False,
        row.logic or goals.DEFAULT_LOGIC,
        row.goals,
        row.enrolled if tracking else None,
        row.converted,
        rates.percentage(row.converted, row.enrolled) if tracking else None,
        row.exits,
    )


def _decode_cursor(cursor: str) -> str:
    try:
        workflow_id = decode_cursor(cursor).decode()
    except ValueError as error:
        raise CursorError from error
    if not is_valid_text(workflow_id):
        raise CursorError
    return workflow_id
