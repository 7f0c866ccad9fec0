"""Phase 2, JUDGE: lock the enrollments, read every committed fact, judge, write the difference (design, The flow)."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from goalworker import database, difference, events, index, messages

Contact = tuple[str, str, str]
"""(tenant_id, workflow_id, contact_id): whose enrollments are judged."""
EnrollmentKey = tuple[str, str]
Refresh = Callable[[database.Connection], Awaitable[None]]

# A statement of its own that returns the rows as they are after the wait; whatever is read before or in it may be old.
_LOCK_ENROLLMENTS: Final = """
SELECT e.tenant_id, e.enrollment_id, e.workflow_id, e.contact_id, e.enrolled_at, e.ended_at,
    e.satisfied_at, e.converted_at
FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (tenant_id, workflow_id, contact_id)
JOIN enrollments e USING (tenant_id, workflow_id, contact_id)
ORDER BY e.tenant_id, e.enrollment_id
FOR UPDATE OF e
"""

# The revision of the goals in the same statement as the hits: another worker's hit may be newer than our goals.
_READ_HITS: Final = """
SELECT r.revision, hit.*
FROM goal_revision r
LEFT JOIN (
    SELECT h.tenant_id, h.workflow_id, h.contact_id, h.goal_id, h.goal_version,
        h.event_source, h.event_id, h.event_time, h.data::text, h.traceparent, h.tracestate
    FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (tenant_id, workflow_id, contact_id)
    JOIN goal_hits h USING (tenant_id, workflow_id, contact_id)
) AS hit ON true
"""

_READ_STATES: Final = """
SELECT s.tenant_id, s.workflow_id, s.since, s.active
FROM unnest($1::text[], $2::text[]) AS wanted (tenant_id, workflow_id)
JOIN workflow_states s USING (tenant_id, workflow_id)
ORDER BY s.since
"""

_READ_ACHIEVEMENTS: Final = """
SELECT a.tenant_id, a.enrollment_id, a.goal_id, a.goal_version, a.enrolled_at, a.event_source, a.event_id,
    a.achieved_at, a.data::text, a.traceparent, a.tracestate, a.revision, a.revoked_at IS NOT NULL
FROM unnest($1::text[], $2::text[]) AS wanted (tenant_id, enrollment_id)
JOIN achievements a USING (tenant_id, enrollment_id)
"""

_WRITE_ACHIEVEMENTS: Final = """
INSERT INTO achievements (tenant_id, enrollment_id, goal_id, workflow_id, contact_id, goal_version, goal_type,
    enrolled_at, achieved_at, event_source, event_id, data, traceparent, tracestate, revision, revoked_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::int[], $7::text[],
    $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[], $12::json[], $13::text[], $14::text[],
    $15::int[], $16::timestamptz[])
ON CONFLICT (tenant_id, enrollment_id, goal_id) DO UPDATE
    SET goal_version = excluded.goal_version, enrolled_at = excluded.enrolled_at, achieved_at = excluded.achieved_at,
        event_source = excluded.event_source, event_id = excluded.event_id, data = excluded.data,
        traceparent = excluded.traceparent, tracestate = excluded.tracestate,
        revision = excluded.revision, revoked_at = excluded.revoked_at
"""

# One exit per enrollment, ever (contract rule 3.4): where there is a row, nothing is returned and nothing is sent.
_WRITE_EXITS: Final = """
INSERT INTO exits (tenant_id, enrollment_id, workflow_id, contact_id, goal_id, goal_type, logic, goal_ids, achieved_at)
SELECT t, e, w, c, g, y, l, string_to_array(i, ',')::uuid[], a
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[],
    $9::timestamptz[]) AS x (t, e, w, c, g, y, l, i, a)
ON CONFLICT (tenant_id, enrollment_id) DO NOTHING
RETURNING tenant_id, enrollment_id
"""

_WRITE_OUTCOMES: Final = """
UPDATE enrollments e
SET satisfied_at = judged.satisfied_at, converted_at = judged.converted_at,
    exited_at = coalesce(e.exited_at, judged.exited_at)
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
    AS judged (tenant_id, enrollment_id, satisfied_at, converted_at, exited_at)
WHERE e.tenant_id = judged.tenant_id AND e.enrollment_id = judged.enrollment_id
    AND (e.satisfied_at, e.converted_at, e.exited_at) IS DISTINCT FROM
        (judged.satisfied_at, judged.converted_at, coalesce(e.exited_at, judged.exited_at))
"""

_OUTBOX_COLUMNS: Final = ("topic", "key", "value", "traceparent", "tracestate", "batch_id")

_CONTACTS_FROM: Final = """
SELECT contact_id FROM goal_hits
WHERE tenant_id = $1 AND workflow_id = $2 AND contact_id > $4 AND event_time >= $3
UNION
SELECT contact_id FROM achievements
WHERE tenant_id = $1 AND workflow_id = $2 AND contact_id > $4 AND achieved_at >= $3
ORDER BY contact_id LIMIT $5
"""


class Written(msgspec.Struct, frozen=True):
    """What a judgement committed: the outbox batch to publish, and what is to be counted (kind or exit, label)."""

    batch_id: UUID
    messages: tuple[messages.Message, ...]
    counts: Mapping[tuple[str, str], int]


async def contacts_from(
    connection: database.Connection, tenant_id: str, workflow_id: str, since: datetime, after: str, limit: int
) -> list[Contact]:
    """Return, in order, whom a workflow state from `since` on may concern: a slice of contacts after one of them."""
    rows = await connection.fetch(_CONTACTS_FROM, tenant_id, workflow_id, since, after, limit)
    return [(tenant_id, workflow_id, row[0]) for row in rows]


async def judge_contacts(
    connection: database.Connection,
    contacts: Iterable[Contact],
    batch_hits: Sequence[events.Hit],
    known: index.Index,
    refresh: Refresh,
    *,
    tracking: bool,
) -> Written:
    """Judge every enrollment of the contacts in the caller's transaction and write what differs from what is stored."""
    enrollments = await _lock(connection, sorted(set(contacts)))
    batch_id = uuid4()
    if not enrollments:
        return Written(batch_id, (), {})
    facts = await _read(connection, enrollments, batch_hits, known, refresh)
    now = datetime.now(UTC)
    verdicts = _verdicts(enrollments, facts, known, now, tracking=tracking)
    exited = await _write(connection, verdicts, now)
    outgoing = _outgoing(verdicts, exited)
    await _write_outbox(connection, outgoing, batch_id)
    return Written(batch_id, outgoing, _counts(verdicts, exited))


class _Facts(msgspec.Struct, frozen=True):
    hits: Mapping[Contact, list[events.Hit]]
    states: Mapping[tuple[str, str], list[events.WorkflowState]]
    achievements: Mapping[EnrollmentKey, list[events.Achievement]]


async def _lock(connection: database.Connection, contacts: Sequence[Contact]) -> list[events.Enrollment]:
    if not contacts:
        return []
    rows = await connection.fetch(_LOCK_ENROLLMENTS, *zip(*contacts, strict=True))
    return [events.Enrollment(*row) for row in rows]


async def _read(
    connection: database.Connection,
    enrollments: Sequence[events.Enrollment],
    batch_hits: Sequence[events.Hit],
    known: index.Index,
    refresh: Refresh,
) -> _Facts:
    contacts = sorted({_contact(run) for run in enrollments})
    hits: dict[Contact, list[events.Hit]] = defaultdict(list)
    rows = await connection.fetch(_READ_HITS, *zip(*contacts, strict=True))
    if rows[0][0] > known.revision:
        await refresh(connection)
    for row in rows:
        if row[1] is not None:
            hits[row[1], row[2], row[3]].append(_hit(row))
    for hit in batch_hits:  # A hit recorded long ago may be swept between the two phases: the batch still has it.
        hits[hit.tenant_id, hit.workflow_id, hit.contact_id].append(hit)
    workflows = sorted({(run.tenant_id, run.workflow_id) for run in enrollments})
    return _Facts(hits, await _states(connection, workflows), await _achievements(connection, enrollments))


def _contact(run: events.Enrollment) -> Contact:
    return (run.tenant_id, run.workflow_id, run.contact_id)


def _hit(row: Any) -> events.Hit:
    _, tenant_id, workflow_id, contact_id, goal_id, version, source, event_id, time, data, parent, state = row
    trigger = events.Trigger(source, event_id, time, data.encode(), parent, state)
    return events.Hit(tenant_id, workflow_id, contact_id, goal_id, version, trigger)


async def _states(
    connection: database.Connection, workflows: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], list[events.WorkflowState]]:
    states: dict[tuple[str, str], list[events.WorkflowState]] = defaultdict(list)
    for tenant_id, workflow_id, since, active in await connection.fetch(_READ_STATES, *zip(*workflows, strict=True)):
        states[tenant_id, workflow_id].append(events.WorkflowState(since, active))
    return states


async def _achievements(
    connection: database.Connection, enrollments: Sequence[events.Enrollment]
) -> dict[EnrollmentKey, list[events.Achievement]]:
    keys = [(run.tenant_id, run.enrollment_id) for run in enrollments]
    stored: dict[EnrollmentKey, list[events.Achievement]] = defaultdict(list)
    for row in await connection.fetch(_READ_ACHIEVEMENTS, *zip(*keys, strict=True)):
        tenant_id, enrollment_id, goal_id, version, enrolled_at, source, event_id, time, data, parent, state, *rest = (
            row
        )
        trigger = events.Trigger(source, event_id, time, data.encode(), parent, state)
        stored[tenant_id, enrollment_id].append(events.Achievement(goal_id, version, enrolled_at, trigger, *rest))
    return stored


def _verdicts(
    enrollments: Iterable[events.Enrollment], facts: _Facts, known: index.Index, now: datetime, *, tracking: bool
) -> list[difference.Verdict]:
    verdicts = []
    for run in enrollments:
        verdict = difference.verdict(
            run,
            facts.achievements.get((run.tenant_id, run.enrollment_id), []),
            facts.hits.get(_contact(run), []),
            facts.states.get((run.tenant_id, run.workflow_id), []),
            known.workflow(run.tenant_id, run.workflow_id),
            now,
            tracking=tracking,
        )
        if verdict is not None:
            verdicts.append(verdict)
    return verdicts


async def _write(
    connection: database.Connection, verdicts: Sequence[difference.Verdict], now: datetime
) -> set[EnrollmentKey]:
    """Write achievements, exits and what came of the enrollments; return whose exit is new."""
    if rows := [row for verdict in verdicts for row in _achievement_rows(verdict, now)]:
        await connection.execute(_WRITE_ACHIEVEMENTS, *zip(*sorted(rows, key=lambda row: row[:3]), strict=True))
    exited: set[EnrollmentKey] = set()
    if exits := [_exit_row(verdict.enrollment, *verdict.exit) for verdict in verdicts if verdict.exit is not None]:
        exited = {tuple(row) for row in await connection.fetch(_WRITE_EXITS, *zip(*exits, strict=True))}
    if outcomes := [_outcome_row(verdict, exited) for verdict in verdicts]:
        await connection.execute(_WRITE_OUTCOMES, *zip(*outcomes, strict=True))
    return exited


def _achievement_rows(verdict: difference.Verdict, now: datetime) -> Iterable[tuple[Any, ...]]:
    run = verdict.enrollment
    for change in verdict.changes:
        achievement = change.achievement
        trigger = achievement.trigger
        yield (
            run.tenant_id,
            run.enrollment_id,
            achievement.goal_id,
            run.workflow_id,
            run.contact_id,
            achievement.goal_version,
            change.goal_type,
            achievement.enrolled_at,
            trigger.time,
            trigger.source,
            trigger.id,
            trigger.data.decode(),
            trigger.traceparent,
            trigger.tracestate,
            achievement.revision,
            now if achievement.revoked else None,
        )


def _outcome_row(verdict: difference.Verdict, exited: set[EnrollmentKey]) -> tuple[Any, ...]:
    key = (verdict.enrollment.tenant_id, verdict.enrollment.enrollment_id)
    exited_at = verdict.exit[1].achieved_at if verdict.exit is not None and key in exited else None
    return (*key, verdict.satisfied_at, verdict.converted_at, exited_at)


def _exit_row(run: events.Enrollment, goal_type: str, command: events.Exit) -> tuple[Any, ...]:
    return (
        run.tenant_id,
        run.enrollment_id,
        run.workflow_id,
        run.contact_id,
        command.goal_id,
        goal_type,
        command.logic,
        ",".join(map(str, command.goal_ids)),  # unnest would flatten an array of arrays
        command.achieved_at,
    )


def _outgoing(verdicts: Iterable[difference.Verdict], exited: set[EnrollmentKey]) -> tuple[messages.Message, ...]:
    outgoing: list[messages.Message] = []
    for verdict in verdicts:
        outgoing += verdict.messages
        run = verdict.enrollment
        if verdict.exit is not None and (run.tenant_id, run.enrollment_id) in exited:
            outgoing.append(messages.exit_goal(run, *verdict.exit))
    return tuple(outgoing)


async def _write_outbox(connection: database.Connection, outgoing: Sequence[messages.Message], batch_id: UUID) -> None:
    if outgoing:
        rows = [(m.topic, m.key, m.value, m.traceparent, m.tracestate, batch_id) for m in outgoing]
        await connection.copy_records_to_table("outbox", records=rows, columns=_OUTBOX_COLUMNS)


def _counts(verdicts: Iterable[difference.Verdict], exited: set[EnrollmentKey]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for verdict in verdicts:
        for change in verdict.changes:
            counts[change.kind, change.goal_type] += 1
        run = verdict.enrollment
        if verdict.exit is not None and (run.tenant_id, run.enrollment_id) in exited:
            counts["exit", verdict.exit[1].logic] += 1
    return dict(counts)
