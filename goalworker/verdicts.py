"""Phase 2, JUDGE: lock the enrollments, read every committed fact, judge, write the difference (design, The flow)."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
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
    e.satisfied_at, e.converted_at, e.exited_at
FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (tenant_id, workflow_id, contact_id)
JOIN enrollments e USING (tenant_id, workflow_id, contact_id)
ORDER BY e.tenant_id, e.enrollment_id
FOR UPDATE OF e
"""

# All facts in one statement, for each is a round trip; with them, in the same snapshot, the revision of the goals,
# since another worker's hit may be newer than our goals. `owner` is a workflow, of an achievement an enrollment.
_READ_FACTS: Final = """
SELECT 'goals', NULL AS tenant_id, NULL AS owner, NULL AS contact_id, NULL::uuid AS goal_id, NULL::int AS goal_version,
    NULL AS event_source, NULL AS event_id, NULL::timestamptz AS at, NULL AS data, NULL AS traceparent,
    NULL AS tracestate, NULL::timestamptz AS enrolled_at, revision, NULL::bool AS flag
FROM goal_revision
UNION ALL
SELECT 'hit', h.tenant_id, h.workflow_id, h.contact_id, h.goal_id, h.goal_version,
    h.event_source, h.event_id, h.event_time, h.data::text, h.traceparent, h.tracestate, NULL, NULL, NULL
FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (tenant_id, workflow_id, contact_id)
JOIN goal_hits h USING (tenant_id, workflow_id, contact_id)
UNION ALL
SELECT 'state', s.tenant_id, s.workflow_id, NULL, NULL, NULL,
    NULL, NULL, s.since, NULL, NULL, NULL, NULL, NULL, s.active
FROM unnest($4::text[], $5::text[]) AS wanted (tenant_id, workflow_id)
JOIN workflow_states s USING (tenant_id, workflow_id)
UNION ALL
SELECT 'achievement', a.tenant_id, a.enrollment_id, NULL, a.goal_id, a.goal_version,
    a.event_source, a.event_id, a.achieved_at, a.data::text, a.traceparent, a.tracestate, a.enrolled_at, a.revision,
    a.revoked_at IS NOT NULL
FROM unnest($6::text[], $7::text[]) AS wanted (tenant_id, enrollment_id)
JOIN achievements a USING (tenant_id, enrollment_id)
"""

# One exit per enrollment, ever (contract rule 3.4): none is written where exited_at says that there is one.
_WRITE_VERDICTS: Final = """
WITH achieved AS (
    INSERT INTO achievements (tenant_id, enrollment_id, goal_id, workflow_id, contact_id, goal_version, goal_type,
        enrolled_at, achieved_at, event_source, event_id, data, traceparent, tracestate, revision, revoked_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::int[], $7::text[],
        $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[], $12::json[], $13::text[], $14::text[],
        $15::int[], $16::timestamptz[])
    ON CONFLICT (tenant_id, enrollment_id, goal_id) DO UPDATE
        SET goal_version = excluded.goal_version, enrolled_at = excluded.enrolled_at,
            achieved_at = excluded.achieved_at, event_source = excluded.event_source, event_id = excluded.event_id,
            data = excluded.data, traceparent = excluded.traceparent, tracestate = excluded.tracestate,
            revision = excluded.revision, revoked_at = excluded.revoked_at
), exited AS (
    INSERT INTO exits (tenant_id, enrollment_id, workflow_id, contact_id, goal_id, goal_type, logic, goal_ids,
        achieved_at)
    SELECT t, e, w, c, g, y, l, string_to_array(i, ',')::uuid[], a
    FROM unnest($17::text[], $18::text[], $19::text[], $20::text[], $21::uuid[], $22::text[], $23::text[],
        $24::text[], $25::timestamptz[]) AS x (t, e, w, c, g, y, l, i, a)
)
UPDATE enrollments e
SET satisfied_at = judged.satisfied_at, converted_at = judged.converted_at,
    exited_at = coalesce(e.exited_at, judged.exited_at)
FROM unnest($26::text[], $27::text[], $28::timestamptz[], $29::timestamptz[], $30::timestamptz[])
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
    await _write(connection, verdicts, now)
    outgoing = tuple([message for verdict in verdicts for message in verdict.messages])
    await _write_outbox(connection, outgoing, batch_id)
    return Written(batch_id, outgoing, _counts(verdicts))


class _Facts(msgspec.Struct, frozen=True):
    hits: defaultdict[Contact, list[events.Hit]]
    states: defaultdict[tuple[str, str], list[events.WorkflowState]]
    achievements: defaultdict[EnrollmentKey, list[events.Achievement]]


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
    workflows = sorted({contact[:2] for contact in contacts})
    runs = [(run.tenant_id, run.enrollment_id) for run in enrollments]
    facts = _Facts(defaultdict(list), defaultdict(list), defaultdict(list))
    arguments = (*zip(*contacts, strict=True), *zip(*workflows, strict=True), *zip(*runs, strict=True))
    for row in await connection.fetch(_READ_FACTS, *arguments):
        kind, *columns = row
        if kind == "goals":
            if columns[-2] > known.revision:
                await refresh(connection)
        else:
            _ADD[kind](facts, *columns)
    for hit in batch_hits:  # A hit recorded long ago may be swept between the two phases: the batch still has it.
        facts.hits[hit.tenant_id, hit.workflow_id, hit.contact_id].append(hit)
    for states in facts.states.values():
        states.sort(key=attrgetter("since"))
    return facts


def _contact(run: events.Enrollment) -> Contact:
    return (run.tenant_id, run.workflow_id, run.contact_id)


def _add_hit(facts: _Facts, tenant_id: str, workflow_id: str, contact_id: str, *columns: Any) -> None:
    goal_id, version, *trigger, _, _, _ = columns
    hit = events.Hit(tenant_id, workflow_id, contact_id, goal_id, version, _trigger(*trigger))
    facts.hits[tenant_id, workflow_id, contact_id].append(hit)


def _add_state(facts: _Facts, tenant_id: str, workflow_id: str, *columns: Any) -> None:
    *_, since, _, _, _, _, _, active = columns
    facts.states[tenant_id, workflow_id].append(events.WorkflowState(since, active))


def _add_achievement(facts: _Facts, tenant_id: str, enrollment_id: str, _: None, *columns: Any) -> None:
    goal_id, version, *trigger, enrolled_at, revision, revoked = columns
    achievement = events.Achievement(goal_id, version, enrolled_at, _trigger(*trigger), revision, revoked)
    facts.achievements[tenant_id, enrollment_id].append(achievement)


_ADD: Final[Mapping[str, Callable[..., None]]] = {
    "hit": _add_hit,
    "state": _add_state,
    "achievement": _add_achievement,
}


def _trigger(
    source: str, event_id: str, time: datetime, data: str, traceparent: str | None, tracestate: str | None
) -> events.Trigger:
    return events.Trigger(source, event_id, time, data.encode(), traceparent, tracestate)


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


async def _write(connection: database.Connection, verdicts: Sequence[difference.Verdict], now: datetime) -> None:
    """Write achievements, exits and what came of the enrollments."""
    if not verdicts:
        return
    achievements = [row for verdict in verdicts for row in _achievement_rows(verdict, now)]
    achievements.sort(key=lambda row: row[:3])
    exits = [_exit_row(verdict.enrollment, *verdict.exit) for verdict in verdicts if verdict.exit is not None]
    outcomes = [_outcome_row(verdict) for verdict in verdicts]
    columns = (*_columns(achievements, 16), *_columns(exits, 9), *_columns(outcomes, 5))
    await connection.execute(_WRITE_VERDICTS, *columns)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> Iterable[Sequence[Any]]:
    return zip(*rows, strict=True) if rows else [()] * width


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


def _outcome_row(verdict: difference.Verdict) -> tuple[Any, ...]:
    run = verdict.enrollment
    exited_at = None if verdict.exit is None else verdict.exit[1].achieved_at
    return (run.tenant_id, run.enrollment_id, verdict.satisfied_at, verdict.converted_at, exited_at)


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


async def _write_outbox(connection: database.Connection, outgoing: Sequence[messages.Message], batch_id: UUID) -> None:
    if outgoing:
        rows = [(m.topic, m.key, m.value, m.traceparent, m.tracestate, batch_id) for m in outgoing]
        await connection.copy_records_to_table("outbox", records=rows, columns=_OUTBOX_COLUMNS)


def _counts(verdicts: Iterable[difference.Verdict]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for verdict in verdicts:
        for change in verdict.changes:
            counts[change.kind, change.goal_type] += 1
        if verdict.exit is not None:
            counts["exit", verdict.exit[1].logic] += 1
    return dict(counts)
