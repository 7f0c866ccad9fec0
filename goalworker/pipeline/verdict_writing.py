"""Rows of verdicts: achievements, exits, satisfied enrollments, and the messages of the outbox."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Final, NamedTuple
from uuid import UUID

from goalworker.domain.facts import Achievement, Enrollment
from goalworker.domain.messages import Message
from goalworker.domain.verdicts import Verdict
from goalworker.pipeline import message_rows
from goalworker.postgres import arrays, connections


class _AchievementRow(NamedTuple):
    enrollment: Enrollment
    goal_type: str
    achievement: Achievement
    revoked_at: datetime | None


_OUTCOMES: Final[arrays.Columns[Verdict]] = arrays.Columns(
    arrays.text("tenant_id", lambda verdicts: [verdict.enrollment.tenant_id for verdict in verdicts]),
    arrays.text("enrollment_id", lambda verdicts: [verdict.enrollment.enrollment_id for verdict in verdicts]),
    arrays.text("workflow_id", lambda verdicts: [verdict.enrollment.workflow_id for verdict in verdicts]),
    arrays.text("contact_id", lambda verdicts: [verdict.enrollment.contact_id for verdict in verdicts]),
    arrays.hidden("satisfied_at", "timestamptz", lambda verdicts: [verdict.satisfied_at for verdict in verdicts]),
    arrays.hidden("converted_at", "timestamptz", lambda verdicts: [verdict.converted_at for verdict in verdicts]),
    arrays.hidden("goal_id", "uuid", lambda verdicts: [v.exit and v.exit[1].goal_id for v in verdicts]),
    arrays.hidden("goal_type", "text", lambda verdicts: [v.exit and v.exit[0] for v in verdicts]),
    arrays.hidden("logic", "text", lambda verdicts: [v.exit and v.exit[1].logic for v in verdicts]),
    # As text, for unnest would flatten an array of arrays.
    arrays.hidden(
        "goal_ids", "text", lambda verdicts: [v.exit and ",".join(map(str, v.exit[1].goal_ids)) for v in verdicts]
    ),
)
_ACHIEVEMENTS: Final[arrays.Columns[_AchievementRow]] = arrays.Columns(
    arrays.text("tenant_id", lambda rows: [row.enrollment.tenant_id for row in rows]),
    arrays.text("enrollment_id", lambda rows: [row.enrollment.enrollment_id for row in rows]),
    arrays.text("workflow_id", lambda rows: [row.enrollment.workflow_id for row in rows]),
    arrays.text("contact_id", lambda rows: [row.enrollment.contact_id for row in rows]),
    arrays.text("goal_type", lambda rows: [row.goal_type for row in rows]),
    arrays.text("event_source", lambda rows: [row.achievement.trigger.source for row in rows]),
    arrays.text("event_id", lambda rows: [row.achievement.trigger.id for row in rows]),
    arrays.text("data", lambda rows: [row.achievement.trigger.data.decode() for row in rows], cast="json"),
    arrays.typed("goal_id", "uuid", lambda rows: [row.achievement.goal_id for row in rows]),
    arrays.typed("goal_version", "int", lambda rows: [row.achievement.goal_version for row in rows]),
    arrays.typed("enrolled_at", "timestamptz", lambda rows: [row.achievement.enrolled_at for row in rows]),
    arrays.typed("achieved_at", "timestamptz", lambda rows: [row.achievement.trigger.time for row in rows]),
    arrays.typed("traceparent", "text", lambda rows: [row.achievement.trigger.traceparent for row in rows]),
    arrays.typed("tracestate", "text", lambda rows: [row.achievement.trigger.tracestate for row in rows]),
    arrays.typed("revision", "int", lambda rows: [row.achievement.revision for row in rows]),
    arrays.typed("revoked_at", "timestamptz", lambda rows: [row.revoked_at for row in rows]),
    first=_OUTCOMES.next,
)
_REPLACED: Final = (
    *("goal_version", "enrolled_at", "achieved_at", "event_source", "event_id"),
    *("data", "traceparent", "tracestate", "revision", "revoked_at"),
)

# One exit per enrollment, ever (contract rule 3.4): a verdict has a goal only where exited_at is not set yet, and the
# enrollment exits when it is satisfied.
_WRITE_VERDICTS: Final = f"""
WITH judged AS (
    SELECT * FROM {_OUTCOMES.unnested("judged")}
), achieved AS (
    INSERT INTO achievements ({_ACHIEVEMENTS.names})
    SELECT {_ACHIEVEMENTS.selected}
    FROM {_ACHIEVEMENTS.unnested("achieved")}
    ON CONFLICT (tenant_id, enrollment_id, goal_id) DO UPDATE
        SET {", ".join(f"{name} = excluded.{name}" for name in _REPLACED)}
), exited AS (
    INSERT INTO exits (tenant_id, enrollment_id, workflow_id, contact_id, goal_id, goal_type, logic, goal_ids,
        achieved_at)
    SELECT tenant_id, enrollment_id, workflow_id, contact_id, goal_id, goal_type, logic,
        string_to_array(goal_ids, ',')::uuid[], satisfied_at
    FROM judged WHERE goal_id IS NOT NULL
)
UPDATE enrollments e
SET satisfied_at = judged.satisfied_at, converted_at = judged.converted_at,
    exited_at = CASE WHEN judged.goal_id IS NULL THEN e.exited_at ELSE judged.satisfied_at END
FROM judged
WHERE e.tenant_id = judged.tenant_id AND e.enrollment_id = judged.enrollment_id
    AND (judged.goal_id IS NOT NULL
        OR (e.satisfied_at, e.converted_at) IS DISTINCT FROM (judged.satisfied_at, judged.converted_at))
"""

_OUTBOX_COLUMNS: Final = (*message_rows.NAMES, "batch_id")


async def write(connection: connections.Connection, verdicts: Sequence[Verdict], now: datetime) -> None:
    """Write achievements, exits and satisfied enrollments; the verdicts come sorted by tenant and enrollment."""
    if verdicts:
        rows = [row for verdict in verdicts for row in _achievement_rows(verdict, now)]
        await connection.execute(_WRITE_VERDICTS, *_OUTCOMES.arguments(verdicts), *_ACHIEVEMENTS.arguments(rows))


async def write_outbox(connection: connections.Connection, outgoing: Sequence[Message], batch_id: UUID) -> None:
    """Write messages as one batch of the outbox."""
    if outgoing:
        rows = [(*message_rows.row_of(message), batch_id) for message in outgoing]
        await connection.copy_records_to_table("outbox", records=rows, columns=_OUTBOX_COLUMNS)


def _achievement_rows(verdict: Verdict, now: datetime) -> Iterator[_AchievementRow]:
    changes = verdict.changes
    for change in changes if len(changes) < 2 else sorted(changes, key=attrgetter("achievement.goal_id")):
        revoked_at = now if change.achievement.revoked else None
        yield _AchievementRow(verdict.enrollment, change.goal_type, change.achievement, revoked_at)
