"""Rows of verdicts: achievements, exits, satisfied enrollments, and the messages of the outbox."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Final, NamedTuple
from uuid import UUID

from goalworker.domain import evidence
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


_OUTCOME_COLUMNS: Final[tuple[arrays.Column[Verdict], ...]] = (
    arrays.text("tenant_id", lambda verdicts: [verdict.enrollment.tenant_id for verdict in verdicts]),
    arrays.text("enrollment_id", lambda verdicts: [verdict.enrollment.enrollment_id for verdict in verdicts]),
    arrays.text("workflow_id", lambda verdicts: [verdict.enrollment.workflow_id for verdict in verdicts]),
    arrays.text("contact_id", lambda verdicts: [verdict.enrollment.contact_id for verdict in verdicts]),
    arrays.hidden("satisfied_at", "timestamptz", lambda verdicts: [v.outcome.satisfied_at for v in verdicts]),
    arrays.hidden("converted_at", "timestamptz", lambda verdicts: [v.outcome.converted_at for v in verdicts]),
    arrays.hidden("goal_id", "uuid", lambda verdicts: [v.exit and v.exit[1].goal_id for v in verdicts]),
    arrays.hidden("goal_type", "text", lambda verdicts: [v.exit and v.exit[0] for v in verdicts]),
    arrays.hidden("logic", "text", lambda verdicts: [v.exit and v.exit[1].logic for v in verdicts]),
    # As text, for unnest would flatten an array of arrays.
    arrays.hidden(
        "goal_ids", "text", lambda verdicts: [v.exit and ",".join(map(str, v.exit[1].goal_ids)) for v in verdicts]
    ),
)
_ACHIEVEMENT_COLUMNS: Final[tuple[arrays.Column[_AchievementRow], ...]] = (
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
)
_REPLACED: Final = (
    *("goal_version", "enrolled_at", "achieved_at", "event_source", "event_id"),
    *("data", "traceparent", "tracestate", "revision", "revoked_at"),
)
# Few enrollments and achievements have a value in these: those of pauses, reversals, and goals that count occurrences.
_RARE_OUTCOMES: Final[tuple[arrays.Column[Verdict], ...]] = (
    arrays.plain("exit_waits", "bool", lambda verdicts: [verdict.outcome.exit_waits for verdict in verdicts]),
    arrays.plain("satisfied_by", "text", lambda verdicts: [verdict.outcome.satisfied_by for verdict in verdicts]),
    arrays.plain("payments", "text", lambda verdicts: [verdict.outcome.payments for verdict in verdicts]),
    arrays.plain("exit_withheld", "bool", lambda verdicts: [verdict.outcome.exit_withheld for verdict in verdicts]),
)
_COUNTED: Final[arrays.Column[_AchievementRow]] = arrays.plain(
    "counted", "text", lambda rows: [evidence.others_to_json(row.achievement) for row in rows]
)


class _Write:
    """A statement that writes verdicts, with further columns of enrollments and of achievements."""

    def __init__(
        self,
        outcomes: Sequence[arrays.Column[Verdict]] = (),
        achievements: Sequence[arrays.Column[_AchievementRow]] = (),
    ) -> None:
        self._outcomes = arrays.Columns(*_OUTCOME_COLUMNS, *outcomes)
        self._achievements = arrays.Columns(*_ACHIEVEMENT_COLUMNS, *achievements, first=self._outcomes.next)
        changed = ("satisfied_at", "converted_at", *(column.name for column in outcomes))
        replaced = ", ".join(f"{name} = excluded.{name}" for name in (*_REPLACED, "counted"))
        # One exit per enrollment, ever (contract rule 3.4): a verdict has a goal only where exited_at is not set yet.
        # An enrollment exits when it is satisfied.
        self.sql = f"""
WITH judged AS (
    SELECT * FROM {self._outcomes.unnested("judged")}
), achieved AS (
    INSERT INTO achievements ({self._achievements.names})
    SELECT {self._achievements.selected}
    FROM {self._achievements.unnested("achieved")}
    ON CONFLICT (tenant_id, enrollment_id, goal_id) DO UPDATE SET {replaced}
), exited AS (
    INSERT INTO exits (tenant_id, enrollment_id, workflow_id, contact_id, goal_id, goal_type, logic, goal_ids,
        achieved_at)
    SELECT tenant_id, enrollment_id, workflow_id, contact_id, goal_id, goal_type, logic,
        string_to_array(goal_ids, ',')::uuid[], satisfied_at
    FROM judged WHERE goal_id IS NOT NULL
)
UPDATE enrollments e
SET {", ".join(f"{name} = judged.{name}" for name in changed)},
    exited_at = CASE WHEN judged.goal_id IS NULL THEN e.exited_at ELSE judged.satisfied_at END
FROM judged
WHERE e.tenant_id = judged.tenant_id AND e.enrollment_id = judged.enrollment_id
    AND (judged.goal_id IS NOT NULL
        OR ({", ".join(f"e.{name}" for name in changed)}) IS DISTINCT FROM
            ({", ".join(f"judged.{name}" for name in changed)}))
"""

    def arguments(self, verdicts: Sequence[Verdict], rows: Sequence[_AchievementRow]) -> list[object]:
        """Return the parameters of the statement."""
        return [*self._outcomes.arguments(verdicts), *self._achievements.arguments(rows)]


_WRITE: Final = _Write()
_WRITE_ALL: Final = _Write(_RARE_OUTCOMES, (_COUNTED,))

_APART: Final[arrays.Columns[Verdict]] = arrays.Columns(
    arrays.plain("tenant_id", "text", lambda verdicts: [verdict.enrollment.tenant_id for verdict in verdicts]),
    arrays.plain("enrollment_id", "text", lambda verdicts: [verdict.enrollment.enrollment_id for verdict in verdicts]),
    arrays.plain("apart", "bool", lambda verdicts: [verdict.outcome.payments is not None for verdict in verdicts]),
)
# Revenue is the sum of the triggers of purchases, but for enrollments that list their payments.
_SET_APART: Final = f"""
UPDATE achievements a SET payments_apart = judged.apart
FROM {_APART.unnested("judged")}
WHERE a.tenant_id = judged.tenant_id AND a.enrollment_id = judged.enrollment_id
    AND a.goal_type = 'purchase_made' AND a.payments_apart IS DISTINCT FROM judged.apart
"""

_OUTBOX_COLUMNS: Final = (*message_rows.NAMES, "batch_id")


async def write(connection: connections.Connection, verdicts: Sequence[Verdict], now: datetime) -> None:
    """Write achievements, exits and satisfied enrollments; the verdicts come sorted by tenant and enrollment."""
    if not verdicts:
        return
    rows = [row for verdict in verdicts for row in _achievement_rows(verdict, now)]
    statement = _WRITE_ALL if any(map(_is_rare, verdicts)) else _WRITE
    await connection.execute(statement.sql, *statement.arguments(verdicts, rows))
    with_payments = [verdict for verdict in verdicts if verdict.outcome.payments or verdict.enrollment.payments]
    if with_payments:
        await connection.execute(_SET_APART, *_APART.arguments(with_payments))


def _is_rare(verdict: Verdict) -> bool:
    before, after = verdict.enrollment, verdict.outcome
    return (
        before.exit_waits
        or after.exit_waits
        or before.exit_withheld
        or after.exit_withheld
        or (before.satisfied_by, before.payments, after.satisfied_by, after.payments) != (None, None, None, None)
        or any(change.achievement.counted is not None or change.achievement.others for change in verdict.changes)
    )


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
