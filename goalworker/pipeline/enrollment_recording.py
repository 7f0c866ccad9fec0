"""Recording of enrollments: their messages in any order merge into one row each, and owners never change."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from goalworker.domain import events, facts, ids
from goalworker.postgres import arrays, connections


class _EnrollmentRow(Struct, frozen=True, gc=False):
    """An enrollment as messages tell it: correlation is (time, id) and founder (time, source, id), the least of each.

    Both belong to the earliest started message that has one (contract rule 3.2).
    """

    tenant_id: str
    enrollment_id: str
    workflow_id: str
    contact_id: str
    enrolled_at: datetime | None = None
    ended_at: datetime | None = None
    correlation: tuple[datetime, str] | None = None
    founder: tuple[datetime, str, str] | None = None


def _key_of(row: _EnrollmentRow) -> facts.EnrollmentKey:
    return (row.tenant_id, row.enrollment_id)


_MESSAGE_COLUMNS: Final[tuple[arrays.Column[_EnrollmentRow], ...]] = (
    arrays.plain("tenant_id", "text", lambda rows: [row.tenant_id for row in rows]),
    arrays.plain("enrollment_id", "text", lambda rows: [row.enrollment_id for row in rows]),
    arrays.plain("workflow_id", "text", lambda rows: [row.workflow_id for row in rows]),
    arrays.plain("contact_id", "text", lambda rows: [row.contact_id for row in rows]),
    arrays.plain("enrolled_at", "timestamptz", lambda rows: [row.enrolled_at for row in rows]),
    arrays.plain("ended_at", "timestamptz", lambda rows: [row.ended_at for row in rows]),
)
_CORRELATION_COLUMNS: Final[tuple[arrays.Column[_EnrollmentRow], ...]] = (
    arrays.plain("correlated_at", "timestamptz", lambda rows: [row.correlation and row.correlation[0] for row in rows]),
    arrays.plain("correlation_id", "text", lambda rows: [row.correlation and row.correlation[1] for row in rows]),
    arrays.plain("started_by_at", "timestamptz", lambda rows: [row.founder and row.founder[0] for row in rows]),
    arrays.plain("started_by_source", "text", lambda rows: [row.founder and row.founder[1] for row in rows]),
    arrays.plain("started_by_id", "text", lambda rows: [row.founder and row.founder[2] for row in rows]),
)
_ENROLLMENTS: Final = arrays.Columns(*_MESSAGE_COLUMNS)
_CORRELATED: Final = arrays.Columns(*_MESSAGE_COLUMNS, *_CORRELATION_COLUMNS)


def _insert_enrollments_sql(columns: arrays.Columns[_EnrollmentRow], merged: Mapping[str, str]) -> str:
    """Return SQL that inserts enrollments or merges them; merged is the new value of each column that may change."""
    changes = "\n            OR ".join(f"{value} IS DISTINCT FROM known.{name}" for name, value in merged.items())
    return f"""
INSERT INTO enrollments AS known ({columns.names})
SELECT * FROM unnest({columns.arrays})
ON CONFLICT (tenant_id, enrollment_id) DO UPDATE
    SET {", ".join(f"{name} = {value}" for name, value in merged.items())}
    WHERE known.workflow_id = excluded.workflow_id AND known.contact_id = excluded.contact_id
        AND ({changes})
RETURNING tenant_id, enrollment_id
"""


def _of_the_least(*names: str) -> dict[str, str]:
    """Return the merged values of columns that change together; of two rows the least stands, one with NULL never."""
    mine, theirs = (", ".join(f"{row}.{name}" for name in names) for row in ("known", "excluded"))
    is_less = f"excluded.{names[0]} IS NOT NULL AND (known.{names[0]} IS NULL OR ({theirs}) < ({mine}))"
    return {name: f"CASE WHEN {is_less} THEN excluded.{name} ELSE known.{name} END" for name in names}


_EARLIEST: Final = {name: f"least(known.{name}, excluded.{name})" for name in ("enrolled_at", "ended_at")}
_INSERT_ENROLLMENTS: Final = _insert_enrollments_sql(_ENROLLMENTS, _EARLIEST)
_INSERT_CORRELATED: Final = _insert_enrollments_sql(
    _CORRELATED,
    _EARLIEST
    | _of_the_least("correlated_at", "correlation_id")
    | _of_the_least("started_by_at", "started_by_source", "started_by_id"),
)

_KEYS: Final = arrays.plain_keys("tenant_id", "enrollment_id")
_OWNERS: Final = f"""
SELECT e.tenant_id, e.enrollment_id, e.workflow_id, e.contact_id
FROM {_KEYS.unnested("wanted")}
JOIN enrollments e USING (tenant_id, enrollment_id)
"""


async def record(
    connection: connections.Connection, lifecycle: Iterable[events.Event]
) -> tuple[set[facts.EnrollmentKey], set[facts.EventKey]]:
    """Record the messages of enrollments; return the enrollments that changed, and the messages that contradict."""
    messages = [(event, event.data) for event in lifecycle if isinstance(event.data, events.EnrollmentChanged)]
    enrollments = _merged(messages)
    first = {_key_of(enrollment): enrollment for enrollment in reversed(enrollments)}
    new = await _insert(connection, list(first.values()))
    # New enrollments belong to the workflow and contact of their message; the others are looked up.
    owners = {key: (enrollment.workflow_id, enrollment.contact_id) for key, enrollment in first.items() if key in new}
    owners |= await _owners(connection, [key for key in first if key not in new])
    repeated = [
        enrollment
        for enrollment in enrollments
        if enrollment is not first[_key_of(enrollment)]
        and owners[_key_of(enrollment)] == (enrollment.workflow_id, enrollment.contact_id)
    ]
    new |= await _insert(connection, repeated)
    conflicts = {
        facts.event_key(event)
        for event, data in messages
        if owners[event.tenant_id, data.enrollment_id] != (data.workflow_id, data.contact_id)
    }
    return new, conflicts


async def record_contacts(connection: connections.Connection, hits: Iterable[facts.Hit]) -> None:
    """Enroll each contact with a hit, where enrollments are not tracked (contract rule 3.8)."""
    contacts = {(hit.tenant_id, hit.workflow_id, hit.contact_id) for hit in hits}
    rows = [
        _EnrollmentRow(tenant_id, ids.contact_enrollment_id(workflow_id, contact_id), workflow_id, contact_id)
        for tenant_id, workflow_id, contact_id in contacts
    ]
    await _insert(connection, rows)


def _merged(messages: Iterable[tuple[events.Event, events.EnrollmentChanged]]) -> list[_EnrollmentRow]:
    """Merge the messages of one enrollment, as the statement does: it can't touch a row twice."""
    enrollments: dict[tuple[str, str, str, str], _EnrollmentRow] = {}
    for event, data in messages:
        key = (event.tenant_id, data.enrollment_id, data.workflow_id, data.contact_id)
        known = enrollments.get(key) or _EnrollmentRow(*key)
        if event.type == events.ENROLLMENT_STARTED:
            started = event.time if known.enrolled_at is None else min(known.enrolled_at, event.time)
            correlation, founder = known.correlation, known.founder
            if data.correlation_id is not None:
                told = (event.time, data.correlation_id)
                correlation = told if correlation is None else min(correlation, told)
            if data.started_by is not None:
                by = (event.time, data.started_by.source, data.started_by.id)
                founder = by if founder is None else min(founder, by)
            enrollments[key] = _EnrollmentRow(*key, started, known.ended_at, correlation, founder)
        else:
            ended = event.time if known.ended_at is None else min(known.ended_at, event.time)
            enrollments[key] = structs.replace(known, ended_at=ended)
    return list(enrollments.values())


async def _insert(
    connection: connections.Connection, enrollments: Sequence[_EnrollmentRow]
) -> set[facts.EnrollmentKey]:
    if not enrollments:
        return set()
    ordered = sorted(enrollments, key=_key_of)
    if any(row.correlation is not None or row.founder is not None for row in ordered):
        rows = await connection.fetch(_INSERT_CORRELATED, *_CORRELATED.arguments(ordered))
    else:
        rows = await connection.fetch(_INSERT_ENROLLMENTS, *_ENROLLMENTS.arguments(ordered))
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
