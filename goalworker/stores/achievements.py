"""Pages of achievements, in the order of their events (contract section 5)."""

import base64
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain import facts, messages
from goalworker.domain.text import is_valid_text


class CursorError(errors.GoalworkerError, ValueError):
    """The cursor is none of ours."""

    def __init__(self) -> None:
        super().__init__("`cursor` must be the `next_cursor` of an answer before")


_SHOWN: Final = """
a.tenant_id, a.enrollment_id, a.workflow_id, a.contact_id, a.goal_id, a.goal_version, a.goal_type, a.enrolled_at,
a.achieved_at, a.event_source, a.event_id, a.data::text AS data, a.revision
"""


_ACHIEVEMENTS: Final = f"""
SELECT {_SHOWN} FROM achievements a
WHERE a.tenant_id = :tenant_id AND a.workflow_id = :workflow_id AND a.revoked_at IS NULL {{filters}}
ORDER BY a.achieved_at, a.enrollment_id, a.goal_id LIMIT :limit
"""


_FILTERS: Final = {
    # By way of the contact's few enrollments, each of which has an index entry.
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
    """Return a page of achievements in the order of their events, and the cursor of the next one; CursorError."""
    given: dict[str, Any] = {"contact_id": contact_id, "goal_id": goal_id, "since": since, "until": until}
    given = {name: value for name, value in given.items() if value is not None}
    filters = [_FILTERS[name] for name in given]
    if cursor is not None:
        after = _opened(cursor)
        given |= {"after_at": after.achieved_at, "after_enrollment": after.enrollment_id, "after_goal": after.goal_id}
        filters.append(_FILTERS["after"])
    query = _ACHIEVEMENTS.format(filters="".join(f" AND {each}" for each in filters))
    given |= {"tenant_id": tenant_id, "workflow_id": workflow_id, "limit": limit + 1}
    rows = (await connection.execute(sa.text(query), given)).all()
    page = rows[:limit]
    more = _sealed(page[-1]) if len(rows) > limit else None
    return [_achievement(row) for row in page], more


def _achievement(row: sa.Row[Any]) -> messages.Achieved:
    run = facts.Enrollment(row.tenant_id, row.enrollment_id, row.workflow_id, row.contact_id)
    trigger = facts.Trigger(row.event_source, row.event_id, row.achieved_at, row.data.encode())
    achievement = facts.Achievement(row.goal_id, row.goal_version, row.enrolled_at, trigger, row.revision)
    return messages.achievement_data(run, row.goal_type, achievement)


def _sealed(row: sa.Row[Any]) -> str:
    cursor = msgspec.json.encode(_Cursor(row.achieved_at, row.enrollment_id, row.goal_id))
    return base64.urlsafe_b64encode(cursor).decode().rstrip("=")


def _opened(cursor: str) -> _Cursor:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=_Cursor)
        achieved_at = place.achieved_at.astimezone(UTC)  # may be out of what a time can be
    except (ValueError, OverflowError) as error:
        raise CursorError from error
    if place.achieved_at.tzinfo is None or not is_valid_text(place.enrollment_id):
        raise CursorError
    return _Cursor(achieved_at, place.enrollment_id, place.goal_id)
