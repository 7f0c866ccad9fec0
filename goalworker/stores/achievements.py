"""Achievements of a workflow, in pages, in the order of their events (contract section 5)."""

import base64
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain import evidence, facts, messages
from goalworker.domain.text import is_valid_text


class CursorError(errors.GoalworkerError, ValueError):
    """The cursor did not come from an earlier answer."""

    def __init__(self) -> None:
        super().__init__("`cursor` must be the `next_cursor` of an earlier answer")


_PAGE: Final = """
SELECT a.tenant_id, a.enrollment_id, a.workflow_id, a.contact_id, a.goal_id, a.goal_version, a.goal_type, a.enrolled_at,
    a.achieved_at, a.event_source, a.event_id, a.data::text AS data, a.revision, a.counted
FROM achievements a
WHERE a.tenant_id = :tenant_id AND a.workflow_id = :workflow_id AND a.revoked_at IS NULL {filters}
ORDER BY a.achieved_at, a.enrollment_id, a.goal_id LIMIT :limit
"""

_FILTERS: Final = {
    # A contact has few enrollments; the index of achievements leads by enrollment.
    "contact_id": """a.enrollment_id IN (SELECT e.enrollment_id FROM enrollments e
        WHERE e.tenant_id = :tenant_id AND e.workflow_id = :workflow_id AND e.contact_id = :contact_id)""",
    "goal_id": "a.goal_id = :goal_id",
    "since": "a.achieved_at >= :since",
    "until": "a.achieved_at < :until",
    "after": "(a.achieved_at, a.enrollment_id, a.goal_id) > (:after_at, :after_enrollment, :after_goal)",
}


class _Cursor(msgspec.Struct, array_like=True):
    achieved_at: datetime
    enrollment_id: str
    goal_id: UUID


async def list_achievements(  # noqa: PLR0913 - the filters of the contract
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    workflow_id: str,
    *,
    cursor: str | None,
    limit: int,
    contact_id: str | None = None,
    goal_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[list[messages.Achieved], str | None]:
    """Return a page of achievements in the order of their events, and the cursor of the next page; CursorError."""
    values: dict[str, Any] = {"contact_id": contact_id, "goal_id": goal_id, "since": since, "until": until}
    values = {name: value for name, value in values.items() if value is not None}
    filters = [_FILTERS[name] for name in values]
    if cursor is not None:
        after = _decode_cursor(cursor)
        values |= {"after_at": after.achieved_at, "after_enrollment": after.enrollment_id, "after_goal": after.goal_id}
        filters.append(_FILTERS["after"])
    query = _PAGE.format(filters="".join(f" AND {condition}" for condition in filters))
    values |= {"tenant_id": tenant_id, "workflow_id": workflow_id, "limit": limit + 1}
    rows = (await connection.execute(sa.text(query), values)).all()
    page = rows[:limit]
    next_cursor = _encode_cursor(page[-1]) if len(rows) > limit else None
    return [achievement_from_row(_enrollment(row), row) for row in page], next_cursor


def _enrollment(row: sa.Row[*tuple[Any, ...]]) -> facts.Enrollment:
    return facts.Enrollment(row.tenant_id, row.enrollment_id, row.workflow_id, row.contact_id)


def achievement_from_row(enrollment: facts.Enrollment, row: Any) -> messages.Achieved:
    """Return an achievement from a row that has the columns of `achievements`, data as text."""
    trigger = facts.Trigger(row.event_source, row.event_id, row.achieved_at, row.data.encode())
    counted = evidence.counted_from_json(row.counted)
    achievement = facts.Achievement(
        row.goal_id, row.goal_version, row.enrolled_at, trigger, row.revision, counted=counted
    )
    return messages.achievement_data(enrollment, row.goal_type, achievement)


def encode_cursor(position: bytes) -> str:
    """Return a position in a list as a text that callers need not understand."""
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


def decode_cursor(cursor: str) -> bytes:
    """Return the position that a cursor stands for; CursorError."""
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise CursorError from error


def _encode_cursor(row: sa.Row[*tuple[Any, ...]]) -> str:
    return encode_cursor(msgspec.json.encode(_Cursor(row.achieved_at, row.enrollment_id, row.goal_id)))


def _decode_cursor(cursor: str) -> _Cursor:
    try:
        decoded = msgspec.json.decode(decode_cursor(cursor), type=_Cursor)
        achieved_at = decoded.achieved_at.astimezone(UTC)  # overflows at the ends of the calendar
    except (ValueError, OverflowError) as error:
        raise CursorError from error
    if decoded.achieved_at.tzinfo is None or not is_valid_text(decoded.enrollment_id):
        raise CursorError
    return _Cursor(achieved_at, decoded.enrollment_id, decoded.goal_id)
