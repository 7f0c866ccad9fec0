"""Phase 2, JUDGE: lock the enrollments, read every committed fact, judge, write the difference (design, The flow)."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final
from uuid import UUID, uuid4

import msgspec

from goalworker.domain import evidence, reversal_effects
from goalworker.domain.facts import (
    ContactKey,
    Enrollment,
    EventKey,
    Hit,
    PersonKey,
    SubjectKey,
    WorkflowKey,
    enrollment_key,
)
from goalworker.domain.messages import Message
from goalworker.domain.verdicts import Verdict, verdict_of
from goalworker.goal_index import index
from goalworker.pipeline import excess_hits, fact_reading, verdict_writing
from goalworker.postgres import arrays, connections

Timestamps = Callable[[], Mapping[EventKey, int]]
"""Return the timestamps of a batch's records, in milliseconds, by their events."""

_CONTACTS: Final = arrays.keys("tenant_id", "workflow_id", "contact_id")
_PEOPLE: Final = arrays.keys("tenant_id", "contact_id")

# A statement of its own, whose rows are as they are after the wait; facts read before or in it could be outdated.
#
# The workflow is compared together with the contact, so that only the index that begins with the contact serves. Where
# each tenant has workflows of its own, or statistics are missing, the planner takes a workflow for a few rows, and
# would read all of it for each contact.
_LOCK_ENROLLMENTS: Final = f"""
SELECT {", ".join(f"e.{name}" for name in Enrollment.__struct_fields__)}
FROM {_CONTACTS.unnested("wanted")}
JOIN enrollments e ON e.tenant_id = wanted.tenant_id AND e.contact_id = wanted.contact_id
    AND (e.contact_id, e.workflow_id) >= (wanted.contact_id, wanted.workflow_id)
    AND (e.contact_id, e.workflow_id) <= (wanted.contact_id, wanted.workflow_id)
ORDER BY e.tenant_id, e.enrollment_id
FOR UPDATE OF e
"""


# Enrollments that are judged at a time: then other batches take their next step, or the database would idle.
_STEP_ENROLLMENTS: Final = 100

_ENROLLED_CONTACTS: Final = f"""
SELECT DISTINCT e.tenant_id, e.workflow_id, e.contact_id
FROM {_PEOPLE.unnested("wanted")}
JOIN enrollments e USING (tenant_id, contact_id)
"""

_WAITING_CONTACTS: Final = """
SELECT DISTINCT contact_id FROM enrollments
WHERE tenant_id = $1 AND workflow_id = $2 AND exit_waits AND contact_id > $3
ORDER BY contact_id LIMIT $4
"""
_AWAIT_WAITING: Final = """
SELECT FROM workflow_states WHERE tenant_id = $1 AND workflow_id = $2 ORDER BY since FOR UPDATE
"""


class Judged(msgspec.Struct, frozen=True):
    """One committed transaction of judgements: its outbox batch, and counts by (kind of change or "exit", label).

    effects has the effect of each of the batch's reversals whose contact is enrolled.
    """

    batch_id: UUID
    messages: tuple[Message, ...] = ()
    counts: Mapping[tuple[str, str], int] = {}
    effects: Mapping[EventKey, str] = {}


def _no_timestamps() -> Mapping[EventKey, int]:
    return {}


async def enrolled_contacts(connection: connections.Connection, people: Sequence[PersonKey]) -> list[ContactKey]:
    """Return the contacts of every workflow in which these people are or were enrolled."""
    return [tuple(row) for row in await connection.fetch(_ENROLLED_CONTACTS, *_PEOPLE.arguments(people))]


async def await_waiting(connection: connections.Connection, workflow_key: WorkflowKey) -> None:
    """Wait for judgements that may not know a workflow's new state, and are about to let an exit wait.

    The caller's transaction ends before it locks enrollments, which those judgements hold.
    """
    await connection.execute(_AWAIT_WAITING, *workflow_key)


async def waiting_contacts(
    connection: connections.Connection, workflow_key: WorkflowKey, after: str, limit: int
) -> list[ContactKey]:
    """Return, in order, the next contacts of a workflow, after one, whose exit waits for an activation."""
    rows = await connection.fetch(_WAITING_CONTACTS, *workflow_key, after, limit)
    return [(*workflow_key, contact_id) for (contact_id,) in rows]


async def judge_contacts(
    connection: connections.Connection,
    contacts: Iterable[ContactKey],
    batch_hits: Sequence[Hit],
    goal_index: index.Index,
    refresh: fact_reading.Refresh,
    *,
    tracking: bool,
    timestamps: Timestamps = _no_timestamps,
    reversals: Mapping[EventKey, SubjectKey] = MappingProxyType({}),
) -> Judged:
    """Judge every enrollment of the contacts in the caller's transaction, and write the changes.

    `timestamps` is called only if there is an exit; `reversals` are those of the batch, with what they undo.
    """
    enrollments = await _lock(connection, sorted(set(contacts)))
    batch_id = uuid4()
    if not enrollments:
        return Judged(batch_id)
    facts = await fact_reading.read(
        connection, enrollments, batch_hits, goal_index, refresh, lambda _people: reversals.values()
    )
    now = datetime.now(UTC)
    verdicts = await _verdicts(enrollments, facts, goal_index, now, tracking=tracking)
    if waiting := _about_to_wait(verdicts):
        await fact_reading.settle_states(connection, facts, waiting)
        verdicts = await _verdicts(enrollments, facts, goal_index, now, tracking=tracking)
    await verdict_writing.write(connection, verdicts, now)
    await excess_hits.delete(connection, facts.hits, goal_index)
    outgoing = _outgoing(verdicts, timestamps)
    await verdict_writing.write_outbox(connection, outgoing, batch_id)
    return Judged(batch_id, outgoing, _counts(verdicts), _effects(enrollments, facts, reversals) if reversals else {})


async def _lock(connection: connections.Connection, contacts: Sequence[ContactKey]) -> list[Enrollment]:
    if not contacts:
        return []
    rows = await connection.fetch(_LOCK_ENROLLMENTS, *_CONTACTS.arguments(contacts))
    return [Enrollment(*row) for row in rows]


async def _verdicts(
    enrollments: Iterable[Enrollment],
    facts: fact_reading.Facts,
    goal_index: index.Index,
    now: datetime,
    *,
    tracking: bool,
) -> list[Verdict]:
    verdicts = []
    for number, enrollment in enumerate(enrollments, 1):
        if number % _STEP_ENROLLMENTS == 0:
            await asyncio.sleep(0)
        verdict = verdict_of(
            enrollment,
            facts.achievements.get(enrollment_key(enrollment), []),
            facts.hits.get(fact_reading.contact_key(enrollment), []),
            facts.states.get((enrollment.tenant_id, enrollment.workflow_id), []),
            goal_index.workflow(enrollment.tenant_id, enrollment.workflow_id),
            now,
            facts.reversals.get((enrollment.tenant_id, enrollment.contact_id), ()) if facts.reversals else (),
            tracking=tracking,
        )
        if verdict is not None:
            verdicts.append(verdict)
    return verdicts


def _about_to_wait(verdicts: Iterable[Verdict]) -> set[WorkflowKey]:
    """Return the workflows with an exit that waits and did not before."""
    return {
        (verdict.enrollment.tenant_id, verdict.enrollment.workflow_id)
        for verdict in verdicts
        if verdict.outcome.exit_waits and not verdict.enrollment.exit_waits
    }


def _effects(
    enrollments: Iterable[Enrollment], facts: fact_reading.Facts, wanted: Collection[EventKey]
) -> dict[EventKey, str]:
    hits: defaultdict[PersonKey, list[Hit]] = defaultdict(list)
    for enrollment in enrollments:
        stored = facts.achievements.get(enrollment_key(enrollment), ())
        of_contact = facts.hits.get(fact_reading.contact_key(enrollment), ())
        hits[enrollment.tenant_id, enrollment.contact_id] += evidence.hits_of(enrollment, stored, of_contact)
    effects = {}
    for person, reversals in facts.reversals.items():
        history = reversal_effects.History(hits[person], reversals)
        for reversal in reversals:
            key = (person[0], reversal.source, reversal.id)
            if key in wanted:
                effects[key] = history.effect_of(reversal)
    return effects


def _outgoing(verdicts: Sequence[Verdict], timestamps: Timestamps) -> tuple[Message, ...]:
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
            if change.kind is not None:
                counts[change.kind, change.goal_type] += 1
        if verdict.exit is not None:
            counts["exit", verdict.exit[1].logic] += 1
    return dict(counts)
