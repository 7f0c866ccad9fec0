"""Phase 2, JUDGE: lock the enrollments, read every committed fact, judge, write the difference (design, The flow)."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from goalworker.domain import messages
from goalworker.domain.facts import (
    Achievement,
    ContactKey,
    Enrollment,
    EnrollmentKey,
    EventKey,
    Hit,
    Trigger,
    WorkflowKey,
    WorkflowState,
)
from goalworker.domain.verdicts import Change, Verdict, verdict_of
from goalworker.goal_index import index
from goalworker.postgres import arrays, connections

Refresh = Callable[[connections.Connection], Awaitable[None]]
Timestamps = Callable[[], Mapping[EventKey, int]]
"""When a batch's events were recorded in Kafka, in milliseconds, by (tenant_id, source, id)."""

# A statement of its own that returns the rows as they are after the wait; whatever is read before or in it may be old.
_LOCK_ENROLLMENTS: Final = f"""
SELECT e.tenant_id, e.enrollment_id, e.workflow_id, e.contact_id, e.enrolled_at, e.ended_at,
    e.satisfied_at, e.converted_at, e.exited_at
FROM unnest({arrays.arrays(1, 3)}) AS wanted (tenant_id, workflow_id, contact_id)
JOIN enrollments e USING (tenant_id, workflow_id, contact_id)
ORDER BY e.tenant_id, e.enrollment_id
FOR UPDATE OF e
"""

# All facts in one statement, for each is a round trip; with them, in the same snapshot, the revision of the goals,
# since another worker's hit may be newer than our goals. `owner` is a workflow, of an achievement an enrollment.
_READ_FACTS: Final = f"""
SELECT 'goals', NULL AS tenant_id, NULL AS owner, NULL AS contact_id, NULL::uuid AS goal_id, NULL::int AS goal_version,
    NULL AS event_source, NULL AS event_id, NULL::timestamptz AS at, NULL AS data, NULL AS traceparent,
    NULL AS tracestate, NULL::timestamptz AS enrolled_at, revision, NULL::bool AS flag
FROM goal_revision
UNION ALL
SELECT 'hit', h.tenant_id, h.workflow_id, h.contact_id, h.goal_id, h.goal_version,
    h.event_source, h.event_id, h.event_time, h.data::text, h.traceparent, h.tracestate, NULL, NULL, NULL
FROM unnest({arrays.arrays(1, 3)}) AS wanted (tenant_id, workflow_id, contact_id)
JOIN goal_hits h USING (tenant_id, workflow_id, contact_id)
UNION ALL
SELECT 'state', s.tenant_id, s.workflow_id, NULL, NULL, NULL,
    NULL, NULL, s.since, NULL, NULL, NULL, NULL, NULL, s.active
FROM unnest({arrays.arrays(4, 5)}) AS wanted (tenant_id, workflow_id)
JOIN workflow_states s USING (tenant_id, workflow_id)
UNION ALL
SELECT 'achievement', a.tenant_id, a.enrollment_id, NULL, a.goal_id, a.goal_version,
    a.event_source, a.event_id, a.achieved_at, a.data::text, a.traceparent, a.tracestate, a.enrolled_at, a.revision,
    a.revoked_at IS NOT NULL
FROM unnest({arrays.arrays(6, 7)}) AS wanted (tenant_id, enrollment_id)
JOIN achievements a USING (tenant_id, enrollment_id)
"""

# One exit per enrollment, ever (contract rule 3.4): none is written where exited_at says that there is one. Who is
# judged to exit, with a goal, does so when satisfied.
_WRITE_VERDICTS: Final = f"""
WITH judged AS (
    SELECT * FROM unnest({arrays.arrays(1, 4)}, (SELECT $5::text)::timestamptz[],
        (SELECT $6::text)::timestamptz[], (SELECT $7::text)::uuid[], (SELECT $8::text)::text[],
        (SELECT $9::text)::text[], (SELECT $10::text)::text[])
        AS judged (tenant_id, enrollment_id, workflow_id, contact_id, satisfied_at, converted_at, goal_id,
            goal_type, logic, goal_ids)
), achieved AS (
    INSERT INTO achievements (tenant_id, enrollment_id, workflow_id, contact_id, goal_type, event_source, event_id,
        data, goal_id, goal_version, enrolled_at, achieved_at, traceparent, tracestate, revision, revoked_at)
    SELECT t, e, w, c, y, s, i, data::json, g, v, enrolled_at, achieved_at, traceparent, tracestate, r, revoked_at
    FROM unnest({arrays.arrays(11, 18)}, $19::text::uuid[], $20::text::int[], $21::text::timestamptz[],
        $22::text::timestamptz[], $23::text::text[], $24::text::text[], $25::text::int[], $26::text::timestamptz[])
        AS x (t, e, w, c, y, s, i, data, g, v, enrolled_at, achieved_at, traceparent, tracestate, r, revoked_at)
    ON CONFLICT (tenant_id, enrollment_id, goal_id) DO UPDATE
        SET goal_version = excluded.goal_version, enrolled_at = excluded.enrolled_at,
            achieved_at = excluded.achieved_at, event_source = excluded.event_source, event_id = excluded.event_id,
            data = excluded.data, traceparent = excluded.traceparent, tracestate = excluded.tracestate,
            revision = excluded.revision, revoked_at = excluded.revoked_at
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

# So many are judged before other batches take their next step: the database would have nothing to do meanwhile.
_STEP_ENROLLMENTS: Final = 100

_OUTBOX_COLUMNS: Final = ("topic", "key", "value", "traceparent", "tracestate", "event_timestamp_ms", "batch_id")

_CONTACTS_FROM: Final = """
SELECT contact_id FROM goal_hits
WHERE tenant_id = $1 AND workflow_id = $2 AND contact_id > $4 AND event_time >= $3
UNION
SELECT contact_id FROM achievements
WHERE tenant_id = $1 AND workflow_id = $2 AND contact_id > $4 AND achieved_at >= $3
ORDER BY contact_id LIMIT $5
"""


class Judged(msgspec.Struct, frozen=True):
    """One committed transaction of judgements: its outbox batch, and counts by (kind of change or "exit", label)."""

    batch_id: UUID
    messages: tuple[messages.Message, ...]
    counts: Mapping[tuple[str, str], int]


def _no_timestamps() -> Mapping[EventKey, int]:
    return {}


async def contacts_from(
    connection: connections.Connection, tenant_id: str, workflow_id: str, since: datetime, after: str, limit: int
) -> list[ContactKey]:
    """Return, in order, whom a workflow state from `since` on may concern: a slice of contacts after one of them."""
    rows = await connection.fetch(_CONTACTS_FROM, tenant_id, workflow_id, since, after, limit)
    return [(tenant_id, workflow_id, row[0]) for row in rows]


async def judge_contacts(
    connection: connections.Connection,
    contacts: Iterable[ContactKey],
    batch_hits: Sequence[Hit],
    goal_index: index.Index,
    refresh: Refresh,
    *,
    tracking: bool,
    timestamps: Timestamps = _no_timestamps,
) -> Judged:
    """Judge every enrollment of the contacts in the caller's transaction and write what differs from what is stored.

    The timestamps are asked for only where there is an exit.
    """
    enrollments = await _lock(connection, sorted(set(contacts)))
    batch_id = uuid4()
    if not enrollments:
        return Judged(batch_id, (), {})
    facts = await _read(connection, enrollments, batch_hits, goal_index, refresh)
    now = datetime.now(UTC)
    verdicts = await _verdicts(enrollments, facts, goal_index, now, tracking=tracking)
    await _write(connection, verdicts, now)
    outgoing = _outgoing(verdicts, timestamps)
    await _write_outbox(connection, outgoing, batch_id)
    return Judged(batch_id, outgoing, _counts(verdicts))


class _Facts(msgspec.Struct, frozen=True):
    hits: defaultdict[ContactKey, list[Hit]]
    states: defaultdict[WorkflowKey, list[WorkflowState]]
    achievements: defaultdict[EnrollmentKey, list[Achievement]]


async def _lock(connection: connections.Connection, contacts: Sequence[ContactKey]) -> list[Enrollment]:
    if not contacts:
        return []
    rows = await connection.fetch(_LOCK_ENROLLMENTS, *map(arrays.texts, zip(*contacts, strict=True)))
    return [Enrollment(*row) for row in rows]


async def _read(
    connection: connections.Connection,
    enrollments: Sequence[Enrollment],
    batch_hits: Sequence[Hit],
    goal_index: index.Index,
    refresh: Refresh,
) -> _Facts:
    contacts = sorted({_contact(enrollment) for enrollment in enrollments})
    workflows = sorted({contact[:2] for contact in contacts})
    keys = [(enrollment.tenant_id, enrollment.enrollment_id) for enrollment in enrollments]
    facts = _Facts(defaultdict(list), defaultdict(list), defaultdict(list))
    arguments = (*zip(*contacts, strict=True), *zip(*workflows, strict=True), *zip(*keys, strict=True))
    for row in await connection.fetch(_READ_FACTS, *map(arrays.texts, arguments)):
        if row[0] != "goals":
            _ADD[row[0]](facts, row)
        elif row[13] > goal_index.revision:
            await refresh(connection)
    for hit in batch_hits:  # A hit recorded long ago may be swept between the two phases: the batch still has it.
        facts.hits[hit.tenant_id, hit.workflow_id, hit.contact_id].append(hit)
    for states in facts.states.values():
        states.sort(key=attrgetter("since"))
    return facts


def _contact(enrollment: Enrollment) -> ContactKey:
    return (enrollment.tenant_id, enrollment.workflow_id, enrollment.contact_id)


def _add_hit(facts: _Facts, row: Any) -> None:
    hit = Hit(row[1], row[2], row[3], row[4], row[5], _trigger(*row[6:12]))
    facts.hits[row[1:4]].append(hit)


def _add_state(facts: _Facts, row: Any) -> None:
    facts.states[row[1:3]].append(WorkflowState(row[8], row[14]))


def _add_achievement(facts: _Facts, row: Any) -> None:
    achievement = Achievement(row[4], row[5], row[12], _trigger(*row[6:12]), row[13], row[14])
    facts.achievements[row[1:3]].append(achievement)


_ADD: Final[Mapping[str, Callable[[_Facts, Any], None]]] = {
    "hit": _add_hit,
    "state": _add_state,
    "achievement": _add_achievement,
}


def _trigger(
    source: str, event_id: str, time: datetime, data: str, traceparent: str | None, tracestate: str | None
) -> Trigger:
    return Trigger(source, event_id, time, data.encode(), traceparent, tracestate)


async def _verdicts(
    enrollments: Iterable[Enrollment], facts: _Facts, goal_index: index.Index, now: datetime, *, tracking: bool
) -> list[Verdict]:
    verdicts = []
    for number, enrollment in enumerate(enrollments, 1):
        if number % _STEP_ENROLLMENTS == 0:
            await asyncio.sleep(0)
        verdict = verdict_of(
            enrollment,
            facts.achievements.get((enrollment.tenant_id, enrollment.enrollment_id), []),
            facts.hits.get(_contact(enrollment), []),
            facts.states.get((enrollment.tenant_id, enrollment.workflow_id), []),
            goal_index.workflow(enrollment.tenant_id, enrollment.workflow_id),
            now,
            tracking=tracking,
        )
        if verdict is not None:
            verdicts.append(verdict)
    return verdicts


async def _write(connection: connections.Connection, verdicts: Sequence[Verdict], now: datetime) -> None:
    """Write achievements, exits and what came of the enrollments; the verdicts come by tenant and enrollment."""
    if not verdicts:
        return
    changes = [(verdict.enrollment, change) for verdict in verdicts for change in _by_goal(verdict.changes)]
    await connection.execute(_WRITE_VERDICTS, *_outcome_columns(verdicts), *_achievement_columns(changes, now))


def _by_goal(changes: Sequence[Change]) -> Sequence[Change]:
    return changes if len(changes) < 2 else sorted(changes, key=attrgetter("achievement.goal_id"))


def _outcome_columns(verdicts: Sequence[Verdict]) -> Iterable[str]:
    exits = [verdict.exit for verdict in verdicts]
    return (
        *_whose([verdict.enrollment for verdict in verdicts]),
        arrays.array([verdict.satisfied_at for verdict in verdicts]),
        arrays.array([verdict.converted_at for verdict in verdicts]),
        arrays.array([exit_ and exit_[1].goal_id for exit_ in exits]),
        arrays.array([exit_ and exit_[0] for exit_ in exits]),
        arrays.array([exit_ and exit_[1].logic for exit_ in exits]),
        # As text, for unnest would flatten an array of arrays.
        arrays.array([exit_ and ",".join(map(str, exit_[1].goal_ids)) for exit_ in exits]),
    )


def _achievement_columns(changes: Sequence[tuple[Enrollment, Change]], now: datetime) -> Iterable[str]:
    achievements = [change.achievement for _, change in changes]
    triggers = [achievement.trigger for achievement in achievements]
    return (
        *_whose([enrollment for enrollment, _ in changes]),
        arrays.texts([change.goal_type for _, change in changes]),
        arrays.texts([trigger.source for trigger in triggers]),
        arrays.texts([trigger.id for trigger in triggers]),
        arrays.texts([trigger.data.decode() for trigger in triggers]),
        arrays.array([achievement.goal_id for achievement in achievements]),
        arrays.array([achievement.goal_version for achievement in achievements]),
        arrays.array([achievement.enrolled_at for achievement in achievements]),
        arrays.array([trigger.time for trigger in triggers]),
        arrays.array([trigger.traceparent for trigger in triggers]),
        arrays.array([trigger.tracestate for trigger in triggers]),
        arrays.array([achievement.revision for achievement in achievements]),
        arrays.array([now if achievement.revoked else None for achievement in achievements]),
    )


def _whose(enrollments: Sequence[Enrollment]) -> tuple[str, str, str, str]:
    return (
        arrays.texts([enrollment.tenant_id for enrollment in enrollments]),
        arrays.texts([enrollment.enrollment_id for enrollment in enrollments]),
        arrays.texts([enrollment.workflow_id for enrollment in enrollments]),
        arrays.texts([enrollment.contact_id for enrollment in enrollments]),
    )


async def _write_outbox(
    connection: connections.Connection, outgoing: Sequence[messages.Message], batch_id: UUID
) -> None:
    if outgoing:
        rows = [
            (m.topic, m.key, m.value, m.traceparent, m.tracestate, m.event_timestamp_ms, batch_id) for m in outgoing
        ]
        await connection.copy_records_to_table("outbox", records=rows, columns=_OUTBOX_COLUMNS)


def _outgoing(verdicts: Sequence[Verdict], timestamps: Timestamps) -> tuple[messages.Message, ...]:
    outgoing = [message for verdict in verdicts for message in verdict.messages]
    if not any(verdict.exit for verdict in verdicts):
        return tuple(outgoing)
    recorded_at = timestamps()
    ends = itertools.accumulate([len(verdict.messages) for verdict in verdicts])
    for verdict, end in zip(verdicts, ends, strict=True):
        if verdict.exit is not None and verdict.satisfied_by is not None:  # its exit is the last of its messages
            event = (verdict.enrollment.tenant_id, verdict.satisfied_by.source, verdict.satisfied_by.id)
            timestamp_ms = recorded_at.get(event)
            outgoing[end - 1] = msgspec.structs.replace(outgoing[end - 1], event_timestamp_ms=timestamp_ms)
    return tuple(outgoing)


def _counts(verdicts: Iterable[Verdict]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for verdict in verdicts:
        for change in verdict.changes:
            counts[change.kind, change.goal_type] += 1
        if verdict.exit is not None:
            counts["exit", verdict.exit[1].logic] += 1
    return dict(counts)
