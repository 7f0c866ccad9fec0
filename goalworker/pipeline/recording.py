"""Phase 1, FACTS: what happened is written down, once, and never changed (design, The flow)."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct, json

from goalworker.domain import events, facts, ids
from goalworker.postgres import arrays, connections

# A goal written while this lock is held in share is seen by the statement after it (design, Goal freshness).
_LOCK_GOALS: Final = f"SELECT pg_advisory_xact_lock_shared({connections.GOAL_LOCK})"
NOTHING_NEWER: Final = "SELECT 0"

_INSERT_ENROLLMENTS: Final = """
INSERT INTO enrollments AS known (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at, ended_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
ON CONFLICT (tenant_id, enrollment_id) DO UPDATE
    SET enrolled_at = least(known.enrolled_at, excluded.enrolled_at),
        ended_at = least(known.ended_at, excluded.ended_at)
    WHERE known.workflow_id = excluded.workflow_id AND known.contact_id = excluded.contact_id
        AND (least(known.enrolled_at, excluded.enrolled_at) IS DISTINCT FROM known.enrolled_at
            OR least(known.ended_at, excluded.ended_at) IS DISTINCT FROM known.ended_at)
RETURNING tenant_id, enrollment_id
"""

_WHOSE_ENROLLMENTS: Final = """
SELECT e.tenant_id, e.enrollment_id, e.workflow_id, e.contact_id
FROM unnest($1::text[], $2::text[]) AS wanted (tenant_id, enrollment_id)
JOIN enrollments e USING (tenant_id, enrollment_id)
"""

# It comes sorted by the key. Which ones were new is told only where not all were.
_INSERT_HITS: Final = f"""
WITH inserted AS (
    INSERT INTO goal_hits (tenant_id, workflow_id, contact_id, event_source, event_id, data,
        goal_id, goal_version, event_time, traceparent, tracestate)
    SELECT t, w, c, s, i, d::json, g, v, at, traceparent, tracestate
    FROM unnest({arrays.arrays(1, 6)}, $7::text::uuid[], $8::text::int[], $9::text::timestamptz[],
        $10::text::text[], $11::text::text[]) AS hit (t, w, c, s, i, d, g, v, at, traceparent, tracestate)
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, event_source, event_id
)
SELECT CASE WHEN count(*) < $12 THEN
    (SELECT coalesce(json_agg(json_build_array(tenant_id, event_source, event_id)), '[]') FROM inserted)::text
END FROM inserted
"""

_INSERT_STATES: Final = """
INSERT INTO workflow_states AS known (tenant_id, workflow_id, since, active)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bool[])
ON CONFLICT (tenant_id, workflow_id, since) DO UPDATE
    SET active = false WHERE known.active AND NOT excluded.active
RETURNING tenant_id, workflow_id, since
"""


class Recorded(Struct, frozen=True):
    """The facts of a batch that were new, and the enrollment messages that contradict what was recorded before."""

    new_events: frozenset[facts.EventKey] = frozenset()
    new_enrollments: frozenset[facts.EnrollmentKey] = frozenset()
    conflicts: frozenset[facts.EventKey] = frozenset()

    def merged(self, other: "Recorded") -> "Recorded":
        """Return what two transactions recorded."""
        return Recorded(
            self.new_events | other.new_events,
            self.new_enrollments | other.new_enrollments,
            self.conflicts | other.conflicts,
        )


def lock_goals(revision: int) -> str:
    """Return SQL that begins the phase; its tag is NOTHING_NEWER where the goals are still at a revision."""
    return f"{_LOCK_GOALS}; SELECT FROM goal_revision WHERE revision > {revision:d}"


async def record(
    connection: connections.Connection,
    hits: Sequence[facts.Hit],
    lifecycle: Sequence[events.Event],
    *,
    tracking: bool,
) -> Recorded:
    """Write the facts of a batch in the caller's transaction: enrollments, hits, states, each sorted by its key.

    Without tracking, enrollment messages are ignored and each contact with a hit is enrolled (contract rule 3.8).
    """
    if tracking:
        new_enrollments, conflicts = await _record_enrollments(connection, lifecycle)
    else:
        await _insert_enrollments(connection, _contacts_as_enrollments(hits))
        new_enrollments, conflicts = set(), set()
    new_hits = await _insert_hits(connection, hits)
    new_states = await _insert_states(connection, lifecycle)
    return Recorded(frozenset(new_hits | new_states), frozenset(new_enrollments), frozenset(conflicts))


async def _record_enrollments(
    connection: connections.Connection, lifecycle: Iterable[events.Event]
) -> tuple[set[facts.EnrollmentKey], set[facts.EventKey]]:
    messages = [(event, event.data) for event in lifecycle if isinstance(event.data, events.EnrollmentChanged)]
    enrollments = _merged(messages)
    first = {_key(enrollment): enrollment for enrollment in reversed(enrollments)}
    new = await _insert_enrollments(connection, list(first.values()))
    # What was written is as the message said; of the rest the database knows whose they are.
    owners = {key: (enrollment.workflow_id, enrollment.contact_id) for key, enrollment in first.items() if key in new}
    owners |= await _owners(connection, [key for key in first if key not in new])
    late = [
        enrollment
        for enrollment in enrollments
        if enrollment is not first[_key(enrollment)]
        and owners[_key(enrollment)] == (enrollment.workflow_id, enrollment.contact_id)
    ]
    new |= await _insert_enrollments(connection, late)
    conflicts = {
        facts.event_key(event)
        for event, data in messages
        if owners[event.tenant_id, data.enrollment_id] != (data.workflow_id, data.contact_id)
    }
    return new, conflicts


def _key(enrollment: facts.Enrollment) -> facts.EnrollmentKey:
    return (enrollment.tenant_id, enrollment.enrollment_id)


def _merged(messages: Iterable[tuple[events.Event, events.EnrollmentChanged]]) -> list[facts.Enrollment]:
    """Merge the messages of one enrollment: one statement can't touch a row twice. The earlier time stands."""
    enrollments: dict[tuple[str, str, str, str], facts.Enrollment] = {}
    for event, data in messages:
        key = (event.tenant_id, data.enrollment_id, data.workflow_id, data.contact_id)
        earlier = enrollments.get(key) or facts.Enrollment(*key)
        started, ended = earlier.enrolled_at, earlier.ended_at
        if event.type == events.ENROLLMENT_STARTED:
            started = event.time if started is None else min(started, event.time)
        else:
            ended = event.time if ended is None else min(ended, event.time)
        enrollments[key] = facts.Enrollment(*key, started, ended)
    return list(enrollments.values())


def _contacts_as_enrollments(hits: Iterable[facts.Hit]) -> list[facts.Enrollment]:
    contacts = {(hit.tenant_id, hit.workflow_id, hit.contact_id) for hit in hits}
    return [
        facts.Enrollment(tenant_id, ids.contact_enrollment_id(workflow_id, contact_id), workflow_id, contact_id)
        for tenant_id, workflow_id, contact_id in contacts
    ]


async def _insert_enrollments(
    connection: connections.Connection, enrollments: Sequence[facts.Enrollment]
) -> set[facts.EnrollmentKey]:
    if not enrollments:
        return set()
    rows = sorted(
        (
            (
                enrollment.tenant_id,
                enrollment.enrollment_id,
                enrollment.workflow_id,
                enrollment.contact_id,
                enrollment.enrolled_at,
                enrollment.ended_at,
            )
            for enrollment in enrollments
        ),
        key=lambda row: row[:2],
    )
    return {tuple(row) for row in await connection.fetch(_INSERT_ENROLLMENTS, *zip(*rows, strict=True))}


async def _owners(
    connection: connections.Connection, keys: Sequence[facts.EnrollmentKey]
) -> dict[facts.EnrollmentKey, tuple[str, str]]:
    if not keys:
        return {}
    rows = await connection.fetch(_WHOSE_ENROLLMENTS, *zip(*keys, strict=True))
    return {(row[0], row[1]): (row[2], row[3]) for row in rows}


async def _insert_hits(connection: connections.Connection, hits: Sequence[facts.Hit]) -> set[facts.EventKey]:
    if not hits:
        return set()
    some = await connection.fetchval(_INSERT_HITS, *_hit_columns(sorted(hits, key=_hit_key)), len(hits))
    if some is None:
        return {(hit.tenant_id, hit.trigger.source, hit.trigger.id) for hit in hits}
    return {*_IDENTITIES.decode(some)}


_IDENTITIES: Final = json.Decoder(list[facts.EventKey])


def _hit_columns(hits: Sequence[facts.Hit]) -> Iterable[str]:
    triggers = [hit.trigger for hit in hits]
    return (
        arrays.texts([hit.tenant_id for hit in hits]),
        arrays.texts([hit.workflow_id for hit in hits]),
        arrays.texts([hit.contact_id for hit in hits]),
        arrays.texts([trigger.source for trigger in triggers]),
        arrays.texts([trigger.id for trigger in triggers]),
        arrays.texts([trigger.data.decode() for trigger in triggers]),
        arrays.array([hit.goal_id for hit in hits]),
        arrays.array([hit.goal_version for hit in hits]),
        arrays.array([trigger.time for trigger in triggers]),
        arrays.array([trigger.traceparent for trigger in triggers]),
        arrays.array([trigger.tracestate for trigger in triggers]),
    )


def _hit_key(hit: facts.Hit) -> tuple[object, ...]:
    return (hit.tenant_id, hit.workflow_id, hit.contact_id, hit.goal_id, hit.trigger.source, hit.trigger.id)


async def _insert_states(connection: connections.Connection, lifecycle: Iterable[events.Event]) -> set[facts.EventKey]:
    messages = [(event, event.data) for event in lifecycle if isinstance(event.data, events.WorkflowChanged)]
    states: dict[tuple[str, str, datetime], bool] = {}
    for event, data in messages:
        key = (event.tenant_id, data.workflow_id, event.time)
        states[key] = states.get(key, True) and event.type == events.WORKFLOW_ACTIVATED
    if not states:
        return set()
    rows = sorted((*key, active) for key, active in states.items())
    new = {tuple(row) for row in await connection.fetch(_INSERT_STATES, *zip(*rows, strict=True))}
    return {
        facts.event_key(event) for event, data in messages if (event.tenant_id, data.workflow_id, event.time) in new
    }
