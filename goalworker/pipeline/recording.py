"""Phase 1, FACTS: insert facts once, and never change them (design, The flow)."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg
from msgspec import Struct, json

from goalworker.domain import events, facts, ids
from goalworker.pipeline import enrollment_recording
from goalworker.postgres import arrays, connections, database_errors

_StateRow = tuple[str, str, datetime, bool]
"""(tenant_id, workflow_id, since, active)."""

# No goal is written while this lock is shared; the statement after it sees every goal written before (design, Goal
# freshness).
_LOCK_GOALS: Final = f"SELECT pg_advisory_xact_lock_shared({connections.GOAL_LOCK})"
NOTHING_NEWER: Final = "SELECT 0"

_HIT_COLUMNS: Final[tuple[arrays.Column[facts.Hit], ...]] = (
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
    arrays.typed("contact_hash", "bigint", lambda hits: [_contact_hash(hit) for hit in hits]),
)


def _contact_hash(hit: facts.Hit) -> int:
    return ids.contact_hash(hit.tenant_id, hit.workflow_id, hit.contact_id)


_HITS: Final = arrays.Columns(*_HIT_COLUMNS)
_KEPT_SECONDS: Final[arrays.Column[facts.Hit]] = arrays.typed(
    "kept_seconds", "int", lambda hits: [hit.kept_seconds for hit in hits]
)
_KEPT_HITS: Final = arrays.Columns(*_HIT_COLUMNS, _KEPT_SECONDS)

# Today by the database's clock, or no day while today's partition is missing, so that no hit waits for it.
_TODAY: Final = """
WITH today AS MATERIALIZED (
    SELECT CASE WHEN to_regclass('goal_hits_' || to_char(day, 'YYYYMMDD')) IS NULL THEN '-infinity' ELSE day END AS day
    FROM (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS day OFFSET 0) AS clock
)"""
_DAY: Final = "(SELECT day FROM today)"


def _insert_hits_sql(columns: arrays.Columns[facts.Hit], more: str, selected: str) -> str:
    """Return SQL that inserts hits, which come sorted by their key, with more columns that are selected so.

    Its answer is NULL if all were new, otherwise the events of the new ones; the last parameter is their number. A hit
    that is there from another day counts as new.
    """
    return f"""{_TODAY}, inserted AS (
    INSERT INTO goal_hits ({_HITS.names}, {more})
    SELECT {_HITS.selected}, {selected}
    FROM {columns.unnested("hit")}
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, event_source, event_id
)
SELECT CASE WHEN count(*) < ${columns.next} THEN
    (SELECT coalesce(json_agg(json_build_array(tenant_id, event_source, event_id)), '[]') FROM inserted)::text
END FROM inserted
"""


# A hit of a day needs no time of recording.
_INSERT_HITS: Final = _insert_hits_sql(
    _HITS, "recorded_on, recorded_at", f"{_DAY}, CASE WHEN isfinite({_DAY}) THEN NULL ELSE clock_timestamp() END"
)
# Hits of goals without `times` and `total_amount` are kept for the lateness from when they were recorded (rule 3.6);
# the others have no day.
_INSERT_KEPT_HITS: Final = _insert_hits_sql(
    _KEPT_HITS,
    "recorded_on, recorded_at, kept_until",
    f"""CASE WHEN kept_seconds IS NULL THEN {_DAY} ELSE '-infinity' END,
        CASE WHEN kept_seconds IS NULL AND isfinite({_DAY}) THEN NULL ELSE clock_timestamp() END,
        CASE WHEN kept_seconds IS NOT NULL
        THEN clock_timestamp() + greatest(make_interval(secs => kept_seconds), ${_KEPT_HITS.next + 1}) END""",
)

_ReversalRow = tuple[str, str, facts.Reversal]
"""(tenant_id, contact_id, reversal)."""

_REVERSALS: Final[arrays.Columns[_ReversalRow]] = arrays.Columns(
    arrays.plain("tenant_id", "text", lambda rows: [tenant_id for tenant_id, *_ in rows]),
    arrays.plain("contact_id", "text", lambda rows: [contact_id for _, contact_id, _ in rows]),
    arrays.plain("event_source", "text", lambda rows: [reversal.source for *_, reversal in rows]),
    arrays.plain("event_id", "text", lambda rows: [reversal.id for *_, reversal in rows]),
    arrays.plain("type", "text", lambda rows: [reversal.type for *_, reversal in rows]),
    arrays.plain("subject_id", "text", lambda rows: [reversal.subject_id for *_, reversal in rows]),
    arrays.plain("event_time", "timestamptz", lambda rows: [reversal.time for *_, reversal in rows]),
    arrays.plain("refund_id", "text", lambda rows: [reversal.refund_id for *_, reversal in rows]),
    arrays.plain("amount", "numeric", lambda rows: [reversal.amount for *_, reversal in rows]),
    arrays.plain("currency", "text", lambda rows: [reversal.currency for *_, reversal in rows]),
)
_INSERT_REVERSALS: Final = f"""
INSERT INTO reversals ({_REVERSALS.names})
SELECT * FROM unnest({_REVERSALS.arrays})
ON CONFLICT DO NOTHING
RETURNING tenant_id, event_source, event_id
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
    reversals: Sequence[events.Event],
    *,
    tracking: bool,
    lateness: timedelta,
) -> Recorded:
    """Write the facts of a batch in the caller's transaction, each sorted by its key.

    In this order: enrollments, hits, reversals, states. Without tracking, enrollment messages are ignored and each
    contact with a hit is enrolled (contract rule 3.8).
    """
    if tracking:
        new_enrollments, conflicts = await enrollment_recording.record(connection, lifecycle)
    else:
        await enrollment_recording.record_contacts(connection, hits)
        new_enrollments, conflicts = set(), set()
    new = await _insert_hits(connection, hits, lateness)
    new |= await _insert_reversals(connection, reversals)
    new |= await _insert_states(connection, lifecycle)
    return Recorded(frozenset(new), frozenset(new_enrollments), frozenset(conflicts))


async def _insert_hits(
    connection: connections.Connection, hits: Sequence[facts.Hit], lateness: timedelta
) -> set[facts.EventKey]:
    if not hits:
        return set()
    ordered = sorted(hits, key=_hit_key)
    try:
        if any(hit.kept_seconds is not None for hit in hits):
            some = await connection.fetchval(_INSERT_KEPT_HITS, *_KEPT_HITS.arguments(ordered), len(hits), lateness)
        else:
            some = await connection.fetchval(_INSERT_HITS, *_HITS.arguments(ordered), len(hits))
    except asyncpg.CheckViolationError as error:
        if error.constraint_name is not None:
            raise
        raise database_errors.PartitionMadeError(str(error)) from error  # no constraint of the table refuses a row
    if some is None:
        return {(hit.tenant_id, hit.trigger.source, hit.trigger.id) for hit in hits}
    return {*_IDENTITIES.decode(some)}


_IDENTITIES: Final = json.Decoder(list[facts.EventKey])


def _hit_key(hit: facts.Hit) -> tuple[object, ...]:
    return (hit.tenant_id, hit.workflow_id, hit.contact_id, hit.goal_id, hit.trigger.source, hit.trigger.id)


async def _insert_reversals(
    connection: connections.Connection, reversals: Sequence[events.Event]
) -> set[facts.EventKey]:
    if not reversals:
        return set()
    by_key = {
        (event.tenant_id, event.data.contact_id, event.source, event.id): facts.reversal_of(event)
        for event in reversed(reversals)  # of two payloads under one identity the first stands
        if isinstance(event.data, events.ReversalData)
    }
    rows = [(*key[:2], by_key[key]) for key in sorted(by_key)]
    return {tuple(row) for row in await connection.fetch(_INSERT_REVERSALS, *_REVERSALS.arguments(rows))}


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
