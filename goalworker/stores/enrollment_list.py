"""Enrollments of a workflow, in pages, the latest first: the rows behind its numbers (contract section 9)."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain.text import is_valid_text
from goalworker.stores.achievements import CursorError, decode_cursor, encode_cursor

_IN_STATE: Final = {
    "enrolled": "",
    "converted": " AND converted_at IS NOT NULL",
    "exited": " AND exited_at IS NOT NULL",
    "ended": " AND converted_at IS NULL AND ended_at IS NOT NULL",
    "open": " AND converted_at IS NULL AND ended_at IS NULL",
}
STATES: Final = tuple(_IN_STATE)
"""States by which enrollments are listed: as their numbers in statistics and times to goal count them."""


class Enrollment(Struct, frozen=True):
    """An enrollment, with the times at which it converted, was told to exit, and ended."""

    enrollment_id: str
    contact_id: str
    enrolled_at: datetime
    converted_at: datetime | None
    exited_at: datetime | None
    ended_at: datetime | None


class _Cursor(Struct, array_like=True):
    enrolled_at: datetime
    enrollment_id: str


_PAGE: Final = f"""
SELECT {", ".join(Enrollment.__struct_fields__)}
FROM enrollments
WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id AND enrolled_at IS NOT NULL {{filters}}
ORDER BY enrolled_at DESC, enrollment_id DESC LIMIT :limit
"""

_FILTERS: Final = {
    "since": " AND enrolled_at >= :since",
    "until": " AND enrolled_at < :until",
    "after_at": " AND (enrolled_at, enrollment_id) < (:after_at, :after_id)",
}


async def list_enrollments(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    workflow_id: str,
    *,
    state: str,
    since: datetime | None,
    until: datetime | None,
    cursor: str | None,
    limit: int,
) -> tuple[list[Enrollment], str | None]:
    """Return a page of enrollments with since <= enrolled_at < until, and the cursor of the next page; CursorError."""
    values: dict[str, Any] = {"since": since, "until": until}
    if cursor is not None:
        after = _decode_cursor(cursor)
        values |= {"after_at": after.enrolled_at, "after_id": after.enrollment_id}
    values = {name: value for name, value in values.items() if value is not None}
    filters = _IN_STATE[state] + "".join(_FILTERS.get(name, "") for name in values)
    values |= {"tenant_id": tenant_id, "workflow_id": workflow_id, "limit": limit + 1}
    rows = (await connection.execute(sa.text(_PAGE.format(filters=filters)), values)).all()
    page = [Enrollment(*row) for row in rows[:limit]]
    return page, _encode_cursor(page[-1]) if len(rows) > limit else None


def _encode_cursor(last: Enrollment) -> str:
    return encode_cursor(msgspec.json.encode(_Cursor(last.enrolled_at, last.enrollment_id)))


def _decode_cursor(cursor: str) -> _Cursor:
    try:
        decoded = msgspec.json.decode(decode_cursor(cursor), type=_Cursor)
        enrolled_at = decoded.enrolled_at.astimezone(UTC)  # overflows at the ends of the calendar
    except (ValueError, OverflowError) as error:
        raise CursorError from error
    if decoded.enrolled_at.tzinfo is None or not is_valid_text(decoded.enrollment_id):
        raise CursorError
    return _Cursor(enrolled_at, decoded.enrollment_id)
