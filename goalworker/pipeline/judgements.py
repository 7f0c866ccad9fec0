"""Phase 2, JUDGE: lock the enrollments, read every committed fact, judge, write the difference (design, The flow)."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple
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
    enrollment_key,
)
from goalworker.domain.verdicts import Verdict, verdict_of
from goalworker.goal_index import index
from goalworker.pipeline import verdict_writing
from goalworker.postgres import arrays, connections

Refresh = Callable[[connections.Connection], Awaitable[None]]
Timestamps = Callable[[], Mapping[EventKey, int]]
"""Return the timestamps of a batch's records, in milliseconds, by their events."""

_CONTACTS: Final = arrays.keys("tenant_id", "workflow_id", "contact_id")
_WORKFLOWS: Final = arrays.keys("tenant_id", "workflow_id", first=_CONTACTS.next)
_ENROLLMENTS: Final = arrays.keys("tenant_id", "enrollment_id", first=_WORKFLOWS.next)

# A statement of its own, whose rows are as they are after the wait; facts read before or in it could be outdated.
_LOCK_ENROLLMENTS: Final = f"""
SELECT {", ".join(f"e.{name}" for name in Enrollment.__struct_fields__)}
FROM {_CONTACTS.unnested("wanted")}
JOIN enrollments e USING (tenant_id, workflow_id, contact_id)
ORDER BY e.tenant_id, e.enrollment_id
FOR UPDATE OF e
"""


class _FactRow(NamedTuple):
    """A fact of any kind, with NULL for the columns of other kinds; owner_id is a workflow or an enrollment."""

    kind: str
    tenant_id: Any
    owner_id: Any
    contact_id: Any
    goal_id: Any
    goal_version: Any
    event_source: Any
    event_id: Any
    at: Any
    data: Any
    traceparent: Any
    tracestate: Any
    enrolled_at: Any
    revision: Any
    flag: Any


_FACT_TYPES: Final = {
    "goal_id": "uuid",
    "goal_version": "int",
    "at": "timestamptz",
    "enrolled_at": "timestamptz",
    "flag": "bool",
}
"""Types of the columns that are not texts; the first SELECT of a union decides on the types."""


def _facts_select(kind: str, columns: Mapping[str, str], *, is_first: bool = False) -> str:
    def selected(name: str) -> str:
        if name in columns:
            return columns[name]
        return f"NULL::{_FACT_TYPES[name]}" if is_first and name in _FACT_TYPES else "NULL"

    return ", ".join([f"SELECT '{kind}'", *(selected(name) for name in _FactRow._fields[1:])])


def _same(table: str, *names: str) -> dict[str, str]:
    return {name: f"{table}.{name}" for name in names}


_EVIDENCE: Final = ("goal_id", "goal_version", "event_source", "event_id", "traceparent", "tracestate")
_HIT: Final = _same("h", "tenant_id", "contact_id", *_EVIDENCE) | {
    "owner_id": "h.workflow_id",
    "at": "h.event_time",
    "data": "h.data::text",
}
_STATE: Final = _same("s", "tenant_id") | {"owner_id": "s.workflow_id", "at": "s.since", "flag": "s.active"}
_ACHIEVEMENT: Final = _same("a", "tenant_id", "enrolled_at", "revision", *_EVIDENCE) | {
    "owner_id": "a.enrollment_id",
    "at": "a.achieved_at",
    "data": "a.data::text",
    "flag": "a.revoked_at IS NOT NULL",
}

# All facts in one statement, since each is a round trip; with them, in the same snapshot, the revision of the goals,
# since another worker's hit may be newer than our goals.
_READ_FACTS: Final = f"""
{_facts_select("goals", {"revision": "revision"}, is_first=True)}
FROM goal_revision
UNION ALL
{_facts_select("hit", _HIT)}
FROM {_CONTACTS.unnested("wanted")}
JOIN goal_hits h USING (tenant_id, workflow_id, contact_id)
UNION ALL
{_facts_select("state", _STATE)}
FROM {_WORKFLOWS.unnested("wanted")}
JOIN workflow_states s USING (tenant_id, workflow_id)
UNION ALL
{_facts_select("achievement", _ACHIEVEMENT)}
FROM {_ENROLLMENTS.unnested("wanted")}
JOIN achievements a USING (tenant_id, enrollment_id)
"""

# Enrollments that are judged at a time: then other batches take their next step, or the database would idle.
_STEP_ENROLLMENTS: Final = 100

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
    """Return, in order, the next contacts after one whom a workflow state from `since` on may concern."""
    rows = await connection.fetch(_CONTACTS_FROM, tenant_id, workflow_id, since, after, limit)
    return [(tenant_id, workflow_id, contact_id) for (contact_id,) in rows]


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
    """Judge every enrollment of the contacts in the caller's transaction, and write the changes.

    `timestamps` is called only if there is an exit.
    """
    enrollments = await _lock(connection, sorted(set(contacts)))
    batch_id = uuid4()
    if not enrollments:
        return Judged(batch_id, (), {})
    facts = await _read(connection, enrollments, batch_hits, goal_index, refresh)
    now = datetime.now(UTC)
    verdicts = await _verdicts(enrollments, facts, goal_index, now, tracking=tracking)
    await verdict_writing.write(connection, verdicts, now)
    outgoing = _outgoing(verdicts, timestamps)
    await verdict_writing.write_outbox(connection, outgoing, batch_id)
    return Judged(batch_id, outgoing, _counts(verdicts))


class _Facts(msgspec.Struct, frozen=True):
    hits: defaultdict[ContactKey, list[Hit]]
    states: defaultdict[WorkflowKey, list[WorkflowState]]
    achievements: defaultdict[EnrollmentKey, list[Achievement]]


async def _lock(connection: connections.Connection, contacts: Sequence[ContactKey]) -> list[Enrollment]:
    if not contacts:
        return []
    rows = await connection.fetch(_LOCK_ENROLLMENTS, *_CONTACTS.arguments(contacts))
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
    keys = [enrollment_key(enrollment) for enrollment in enrollments]
    facts = _Facts(defaultdict(list), defaultdict(list), defaultdict(list))
    arguments = (*_CONTACTS.arguments(contacts), *_WORKFLOWS.arguments(workflows), *_ENROLLMENTS.arguments(keys))
    for values in await connection.fetch(_READ_FACTS, *arguments):
        row = _FactRow(*values)
        if row.kind != "goals":
            _ADD[row.kind](facts, row)
        elif row.revision > goal_index.revision:
            await refresh(connection)
    for hit in batch_hits:  # An old hit may be swept between the two phases: the batch still has it.
        facts.hits[hit.tenant_id, hit.workflow_id, hit.contact_id].append(hit)
    for states in facts.states.values():
        states.sort(key=attrgetter("since"))
    return facts


def _contact(enrollment: Enrollment) -> ContactKey:
    return (enrollment.tenant_id, enrollment.workflow_id, enrollment.contact_id)


def _add_hit(facts: _Facts, row: _FactRow) -> None:
    hit = Hit(row.tenant_id, row.owner_id, row.contact_id, row.goal_id, row.goal_version, _trigger(row))
    facts.hits[row.tenant_id, row.owner_id, row.contact_id].append(hit)


def _add_state(facts: _Facts, row: _FactRow) -> None:
    facts.states[row.tenant_id, row.owner_id].append(WorkflowState(row.at, row.flag))


def _add_achievement(facts: _Facts, row: _FactRow) -> None:
    achievement = Achievement(row.goal_id, row.goal_version, row.enrolled_at, _trigger(row), row.revision, row.flag)
    facts.achievements[row.tenant_id, row.owner_id].append(achievement)


_ADD: Final[Mapping[str, Callable[[_Facts, _FactRow], None]]] = {
    "hit": _add_hit,
    "state": _add_state,
    "achievement": _add_achievement,
}


def _trigger(row: _FactRow) -> Trigger:
    return Trigger(row.event_source, row.event_id, row.at, row.data.encode(), row.traceparent, row.tracestate)


async def _verdicts(
    enrollments: Iterable[Enrollment], facts: _Facts, goal_index: index.Index, now: datetime, *, tracking: bool
) -> list[Verdict]:
    verdicts = []
    for number, enrollment in enumerate(enrollments, 1):
        if number % _STEP_ENROLLMENTS == 0:
            await asyncio.sleep(0)
        verdict = verdict_of(
            enrollment,
            facts.achievements.get(enrollment_key(enrollment), []),
            facts.hits.get(_contact(enrollment), []),
            facts.states.get((enrollment.tenant_id, enrollment.workflow_id), []),
            goal_index.workflow(enrollment.tenant_id, enrollment.workflow_id),
            now,
            tracking=tracking,
        )
        if verdict is not None:
            verdicts.append(verdict)
    return verdicts


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
