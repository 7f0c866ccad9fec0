"""Phase 1, FACTS: insert facts once, and never change them (design, The flow)."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct, json

from goalworker.domain import events, facts, ids
from goalworker.postgres import arrays, connections

_StateRow = tuple[str, str, datetime, bool]
"""(tenant_id, workflow_id, since, active)."""

# No goal is written while this lock is shared; the statement after it sees every goal written before (design, Goal
# freshness).
_LOCK_GOALS: Final = f"SELECT pg_advisory_xact_lock_shared({connections.GOAL_LOCK})"
NOTHING_NEWER: Final = "SELECT 0"

_ENROLLMENTS: Final[arrays.Columns[facts.Enrollment]] = arrays.Columns(
    arrays.plain("tenant_id", "text", lambda rows: [row.tenant_id for row in rows]),
    arrays.plain("enrollment_id", "text", lambda rows: [row.enrollment_id for row in rows]),
    arrays.plain("workflow_id", "text", lambda rows: [row.workflow_id for row in rows]),
    arrays.plain("contact_id", "text", lambda rows: [row.contact_id for row in rows]),
    arrays.plain("enrolled_at", "timestamptz", lambda rows: [row.enrolled_at for row in rows]),
    arrays.plain("ended_at", "timestamptz", lambda rows: [row.ended_at for row in rows]),
)
_INSERT_ENROLLMENTS: Final = f"""
INSERT INTO enrollments AS known ({_ENROLLMENTS.names})
SELECT * FROM unnest({_ENROLLMENTS.arrays})
ON CONFLICT (tenant_id, enrollment_id) DO UPDATE
    SET enrolled_at = least(known.enrolled_at, excluded.enrolled_at),
        ended_at = least(known.ended_at, excluded.ended_at)
    WHERE known.workflow_id = excluded.workflow_id AND known.contact_id = excluded.contact_id
        AND (least(known.enrolled_at, excluded.enrolled_at) IS DISTINCT FROM known.enrolled_at
            OR least(known.ended_at, excluded.ended_at) IS DISTINCT FROM known.ended_at)
RETURNING tenant_id, enrollment_id
"""

_KEYS: Final = arrays.plain_keys("tenant_id", "enrollment_id")
_OWNERS: Final = f"""
SELECT e.tenant_id, e.enrollment_id, e.workflow_id, e.contact_id
FROM {_KEYS.unnested("wanted")}
JOIN enrollments e USING (tenant_id, enrollment_id)
"""

_HITS: Final[arrays.Columns[facts.Hit]] = arrays.Columns(
    arrays.text("tenant_id", lambda hits: [hit.tenant_id for hit in hits]),
    arrays.text("workflow_id", lambda hits: [hit.workflow_id for hit in hits]),
    arrays.text("contact_id", lambda hits: [hit.contact_id for hit in hits]),
    arrays.text("event_source", lambda hits: [hit.trigger.source for hit in hits]),
    arrays.text("event_id", lambda hits: [hit.trigger.id for hit in hits]),
    arrays.text("data", lambda hits: [hit.trigger.data.decode() for hit in hits], cast="json"),
    arrays.typed("goal_id", "uuid", lambda hits: [hit.goal_id for hit in hits]),
    arrays.typed("goal_version", "int", lambda hits: [hit.goal_version for hit in hits]),
    arrays.typed("event_time", "timestamptz", lambda hits: [hit.trigger.time for hit in hits]),
    arrays.typed("traceparent", "text", lambda hits: [hit.trigger.traceparent for hit in hits]),
    arrays.typed("tracestate", "text", lambda hits: [hit.trigger.tracestate for hit in hits]),
)
# The hits come sorted by their key. The answer is NULL if all were new, otherwise the events of the new ones.
_INSERT_HITS: Final = f"""
WITH inserted AS (
    INSERT INTO goal_hits ({_HITS.names})
    SELECT {_HITS.selected}
    FROM {_HITS.unnested("hit")}
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, event_source, event_id
)
SELECT CASE WHEN count(*) < ${_HITS.next} THEN
    (SELECT coalesce(json_agg(json_build_array(tenant_id, event_source, event_id)), '[]') FROM inserted)::text
END FROM inserted
"""

_STATES: Final[arrays.Columns[_StateRow]] = arrays.Columns(
    arrays.plain("tenant_id", "text", lambda states: [tenant_id for tenant_id, *_ in states]),
    arrays.plain("workflow_id", "text", lambda states: [workflow_id for _, workflow_id, *_ in states]),
    arrays.plain("since", "timestamptz", lambda states: [since for _, _, since, _ in states]),
    arrays.plain("active", "bool", lambda states: [active for *_, active in states]),
)
_INSERT_STATES: Final = f"""
INSERT INTO workflow_states AS known ({_STATES.names})
SELECT * FROM unnest({_STATES.arrays})
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
        """Return the union of what two transactions recorded."""
        return Recorded(
            self.new_events | other.new_events,
            self.new_enrollments | other.new_enrollments,
            self.conflicts | other.conflicts,
        )


def lock_goals(revision: int) -> str:
    """Return SQL that begins the phase; its tag is NOTHING_NEWER if the goals are still at the revision."""
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
    first = {facts.enrollment_key(enrollment): enrollment for enrollment in reversed(enrollments)}
    new = await _insert_enrollments(connection, list(first.values()))
    # New enrollments belong to the workflow and contact of their message; the others are looked up.
    owners = {key: (enrollment.workflow_id, enrollment.contact_id) for key, enrollment in first.items() if key in new}
    owners |= await _owners(connection, [key for key in first if key not in new])
    repeated = [
        enrollment
        for enrollment in enrollments
        if enrollment is not first[facts.enrollment_key(enrollment)]
        and owners[facts.enrollment_key(enrollment)] == (enrollment.workflow_id, enrollment.contact_id)
    ]
    new |= await _insert_enrollments(connection, repeated)
    conflicts = {
        facts.event_key(event)
        for event, data in messages
        if owners[event.tenant_id, data.enrollment_id] != (data.workflow_id, data.contact_id)
    }
    return new, conflicts


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
    rows = await connection.fetch(
        _INSERT_ENROLLMENTS, *_ENROLLMENTS.arguments(sorted(enrollments, key=facts.enrollment_key))
    )
    return {(tenant_id, enrollment_id) for tenant_id, enrollment_id in rows}


async def _owners(
    connection: connections.Connection, keys: Sequence[facts.EnrollmentKey]
) -> dict[facts.EnrollmentKey, tuple[str, str]]:
    if not keys:
        return {}
    return {
        (tenant_id, enrollment_id): (workflow_id, contact_id)
        for tenant_id, enrollment_id, workflow_id, contact_id in await connection.fetch(_OWNERS, *_KEYS.arguments(keys))
    }


async def _insert_hits(connection: connections.Connection, hits: Sequence[facts.Hit]) -> set[facts.EventKey]:
    if not hits:
        return set()
    some = await connection.fetchval(_INSERT_HITS, *_HITS.arguments(sorted(hits, key=_hit_key)), len(hits))
    if some is None:
        return {(hit.tenant_id, hit.trigger.source, hit.trigger.id) for hit in hits}
    return {*_IDENTITIES.decode(some)}


_IDENTITIES: Final = json.Decoder(list[facts.EventKey])


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
    new = {tuple(row) for row in await connection.fetch(_INSERT_STATES, *_STATES.arguments(rows))}
    return {
        facts.event_key(event) for event, data in messages if (event.tenant_id, data.workflow_id, event.time) in new
    }
