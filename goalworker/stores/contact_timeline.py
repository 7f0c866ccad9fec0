"""Timeline of a contact in pages: each part reads the rows of one page, behind the last entry of the page before."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from goalworker.domain import facts, ids, timelines
from goalworker.domain.text import is_valid_text
from goalworker.domain.timelines import Entry, Part, Position
from goalworker.postgres import connections, tables
from goalworker.stores.achievements import CursorError, decode_cursor, encode_cursor

ENTRIES_MAX: Final = 100
"""Entries of a page, at most."""
BYTES_MAX: Final = 48 * 1024
"""Bytes of texts of a page, about: ids of 255 random bytes do not get smaller by compression."""
WORKFLOWS_MAX: Final = 500
"""Workflows of a tenant in which hits of a contact are looked for, at most; those with its enrollments come first."""
SHOWN_WORKFLOWS_MAX: Final = 50
"""Workflows of a contact that are listed, at most: those that it entered last."""

ENROLLMENTS: Final = "enrollments"
EVENTS: Final = "events"
HITS: Final = "hits"
ACHIEVEMENTS: Final = "achievements"
EXITS: Final = "exits"
KINDS: Final = (ENROLLMENTS, EVENTS, HITS, ACHIEVEMENTS, EXITS)
"""Kinds of entries by which people choose."""


class OfWorkflow(Struct, frozen=True):
    """A contact's enrollments in one workflow, and when the last one began."""

    workflow_id: str
    enrollments: int
    open_enrollments: int
    last_enrolled_at: datetime | None


class Workflows(Struct, frozen=True):
    """Workflows of a contact, the last one that it entered first, and those in which its hits are looked for.

    has_more says that the contact has others, is_whole that no workflow of the tenant has hits of it that are not
    looked for.
    """

    entered: tuple[OfWorkflow, ...]
    has_more: bool
    searched: tuple[str, ...]
    is_whole: bool


_ENTERED: Final = """
SELECT workflow_id, count(*), count(*) FILTER (WHERE ended_at IS NULL AND exited_at IS NULL), max(enrolled_at)
FROM enrollments WHERE tenant_id = $1 AND contact_id = $2
GROUP BY workflow_id ORDER BY max(enrolled_at) DESC NULLS LAST, workflow_id LIMIT $3
"""
_WITH_GOALS: Final = "SELECT DISTINCT workflow_id FROM goals WHERE tenant_id = $1 ORDER BY workflow_id LIMIT $2"


async def workflows_of(connection: connections.Connection, tenant_id: str, contact_id: str) -> Workflows:
    """Return the workflows of a contact, and those with goals that it may have hit."""
    rows = await connection.fetch(_ENTERED, tenant_id, contact_id, WORKFLOWS_MAX + 1)
    with_goals = [row[0] for row in await connection.fetch(_WITH_GOALS, tenant_id, WORKFLOWS_MAX + 1)]
    entered = [OfWorkflow(*row) for row in rows[:SHOWN_WORKFLOWS_MAX]]
    found = tuple(dict.fromkeys([*(row[0] for row in rows), *with_goals]))
    searched = found[:WORKFLOWS_MAX]
    return Workflows(tuple(entered), len(rows) > len(entered), searched, len(searched) == len(found))


class Asked(Struct, frozen=True):
    """The contact whose timeline is read, in one workflow or all, by kinds, behind a position."""

    tenant_id: str
    contact_id: str
    searched: Sequence[str]
    """Workflows in which hits are looked for."""
    workflow_id: str | None = None
    kinds: Collection[str] = KINDS
    before: Position | None = None


async def read(connection: connections.Connection, asked: Asked, entries_max: int = ENTRIES_MAX) -> timelines.Page:
    """Return a page of a timeline; CursorError. Events belong to no workflow, so that each one has them."""
    parts = [await _read_part(connection, part, asked, entries_max) for part in _PARTS if part.kind in asked.kinds]
    return timelines.page_of(parts, entries_max, BYTES_MAX)


def cursor_of(position: Position) -> str:
    """Return a position as a cursor."""
    return encode_cursor(msgspec.json.encode(position))


def position_of(cursor: str) -> Position:
    """Return the position that a cursor stands for; CursorError."""
    try:
        position = msgspec.json.decode(decode_cursor(cursor), type=Position)
        at = position.at.astimezone(UTC)  # overflows at the ends of the calendar
        at + _INSTANT
    except (ValueError, OverflowError) as error:
        raise CursorError from error
    is_known = 0 <= position.rank < len(timelines.RANKS) and all(map(is_valid_text, position.key))
    if position.at.tzinfo is None or not is_known:
        raise CursorError
    return Position(at, position.rank, position.key)


# --- parts ---


class _Source(Struct, frozen=True):
    """A query for a part: rows before a time and ids, newest first, with time and ids as their first columns."""

    of: str
    """One of timelines.RANKS."""
    kind: str
    sql: str
    key: tuple[type, ...]
    fact: Callable[..., timelines.Fact]
    arguments: Callable[[Asked], tuple[object, ...]] = lambda asked: (asked.workflow_id,)

    @property
    def rank(self) -> int:
        """Rank of its entries."""
        return timelines.RANKS.index(self.of)


# Times have microseconds.
_INSTANT: Final = timedelta(microseconds=1)
_END: Final = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)
_LEAST: Final = {str: "", UUID: UUID(int=0)}


async def _read_part(connection: connections.Connection, source: _Source, asked: Asked, entries_max: int) -> Part:
    behind = _behind(source, asked.before)
    whose = (asked.tenant_id, asked.contact_id)
    rows = await connection.fetch(source.sql, *whose, *source.arguments(asked), entries_max + 1, *behind)
    return Part([_entry(source, row) for row in rows], len(rows) > entries_max)


def _entry(source: _Source, row: Any) -> Entry:
    at, *values = row
    key = tuple([str(value) for value in values[: len(source.key)]])
    return Entry(Position(at, source.rank, key), source.fact(*values))


def _behind(source: _Source, before: Position | None) -> tuple[object, ...]:
    """Return the time and ids before which the rows of a source are behind a position.

    At the same time, sources of a higher rank are before it as a whole, and those of a lower one behind it.
    """
    least = tuple([_LEAST[type_] for type_ in source.key])
    if before is None:
        return (_END, *least)
    if source.rank != before.rank:
        return (before.at + _INSTANT * (source.rank < before.rank), *least)
    try:
        return (before.at, *(type_(text) for type_, text in zip(source.key, before.key, strict=True)))
    except ValueError as error:
        raise CursorError from error


_OF_CONTACT: Final = "tenant_id = $1 AND contact_id = $2"
_OF_WORKFLOW: Final = "($3::text IS NULL OR workflow_id = $3)"

_STARTS: Final = f"""
SELECT enrolled_at, enrollment_id, workflow_id, correlation_id, started_by_source, started_by_id FROM enrollments
WHERE {_OF_CONTACT} AND {_OF_WORKFLOW} AND (enrolled_at, enrollment_id) < ($5, $6)
ORDER BY enrolled_at DESC, enrollment_id DESC LIMIT $4
"""
_ENDS: Final = f"""
SELECT ended_at, enrollment_id, workflow_id FROM enrollments
WHERE {_OF_CONTACT} AND {_OF_WORKFLOW} AND (ended_at, enrollment_id) < ($5, $6)
ORDER BY ended_at DESC, enrollment_id DESC LIMIT $4
"""
# The index of each day leads to the time; of an event that came again, the row that was recorded first is the first.
_EVENTS: Final = f"""
SELECT event_time, event_source, event_id, type, data, topic, partition, "offset" FROM history_events
WHERE {_OF_CONTACT} AND (event_time, event_source, event_id) < ($4, $5, $6)
ORDER BY event_time DESC, event_source DESC, event_id DESC, recorded_on, topic, partition, "offset" LIMIT $3
"""
_REVERSALS: Final = f"""
SELECT event_time, event_source, event_id, contact_id, type, subject_id, refund_id, amount, currency FROM reversals
WHERE {_OF_CONTACT} AND (event_time, event_source, event_id) < ($4, $5, $6)
ORDER BY event_time DESC, event_source DESC, event_id DESC LIMIT $3
"""
_HIT: Final = "event_time, event_source, event_id, workflow_id, goal_id, goal_version, data::text, recorded_on"
_BEFORE: Final = "(event_time, event_source, event_id, workflow_id, goal_id) < ($6, $7, $8, $9, $10)"
# A hit that was found again on another day is there twice, and the first one stands.
_HITS: Final = f"""
SELECT {_HIT} FROM goal_hits_kept WHERE {_OF_CONTACT} AND workflow_id = ANY ($3::text[]) AND {_BEFORE}
UNION ALL
SELECT {_HIT} FROM goal_hits
WHERE {_OF_CONTACT} AND workflow_id = ANY ($3::text[]) AND contact_hash = ANY ($4::bigint[]) AND {tables.OF_DAYS}
    AND {_BEFORE}
ORDER BY event_time DESC, event_source DESC, event_id DESC, workflow_id DESC, goal_id DESC, recorded_on LIMIT $5
"""
# A contact has few enrollments; the keys of these tables lead by enrollment.
_ACHIEVEMENTS: Final = f"""
SELECT a.achieved_at, a.enrollment_id, a.goal_id, a.workflow_id, a.goal_version, a.goal_type, a.event_source,
    a.event_id, a.data::text, a.revision, a.revoked_at
FROM (SELECT tenant_id, enrollment_id FROM enrollments WHERE {_OF_CONTACT} AND {_OF_WORKFLOW}) AS e
JOIN achievements AS a USING (tenant_id, enrollment_id)
WHERE (a.achieved_at, a.enrollment_id, a.goal_id) < ($5, $6, $7)
ORDER BY a.achieved_at DESC, a.enrollment_id DESC, a.goal_id DESC LIMIT $4
"""
_EXITS: Final = f"""
SELECT x.created_at, x.enrollment_id, x.workflow_id, x.goal_id, x.goal_type, x.logic, x.goal_ids, x.achieved_at
FROM (SELECT tenant_id, enrollment_id FROM enrollments WHERE {_OF_CONTACT} AND {_OF_WORKFLOW}) AS e
JOIN exits AS x USING (tenant_id, enrollment_id)
WHERE (x.created_at, x.enrollment_id) < ($5, $6)
ORDER BY x.created_at DESC, x.enrollment_id DESC LIMIT $4
"""


def _happened(
    source: str, id_: str, type_: str, data: str, topic: str, partition: int, offset: int
) -> timelines.Happened:
    return timelines.Happened(type_, source, id_, data, topic, partition, offset)


def _reversed(source: str, id_: str, contact_id: str, type_: str, *of_reversal: Any) -> timelines.Happened:
    reversal = facts.Reversal(source, id_, facts.BEGINNING, type_, *of_reversal)
    data = facts.data_of_reversal(reversal, contact_id)
    return timelines.Happened(type_, source, id_, data.decode())


def _hit(
    source: str, id_: str, workflow_id: str, goal_id: UUID, version: int, data: str, _recorded_on: object
) -> timelines.Hit:
    return timelines.Hit(workflow_id, goal_id, version, source, id_, data)


def _achieved(
    enrollment_id: str, goal_id: UUID, workflow_id: str, version: int, *of_achievement: Any
) -> timelines.Achieved:
    return timelines.Achieved(enrollment_id, workflow_id, goal_id, version, *of_achievement)


def _exit(
    enrollment_id: str, workflow_id: str, goal_id: UUID, goal_type: str, logic: str, goal_ids: Iterable[UUID], at: Any
) -> timelines.ExitSent:
    return timelines.ExitSent(enrollment_id, workflow_id, goal_id, goal_type, logic, tuple(goal_ids), at)


def _nothing(_asked: Asked) -> tuple[object, ...]:
    return ()


def _places_of_hits(asked: Asked) -> tuple[object, ...]:
    searched = asked.searched if asked.workflow_id is None else [asked.workflow_id]
    hash_of = partial(ids.contact_hash, asked.tenant_id)
    return (searched, [hash_of(workflow_id, asked.contact_id) for workflow_id in searched])


# A reversal that history keeps, too, is shown as it is kept, with its record's position.
_PARTS: Final = (
    _Source(timelines.STARTED, ENROLLMENTS, _STARTS, (str,), timelines.Enrollment),
    _Source(timelines.EVENT, EVENTS, _EVENTS, (str, str), _happened, _nothing),
    _Source(timelines.EVENT, EVENTS, _REVERSALS, (str, str), _reversed, _nothing),
    _Source(timelines.HIT, HITS, _HITS, (str, str, str, UUID), _hit, _places_of_hits),
    _Source(timelines.ACHIEVEMENT, ACHIEVEMENTS, _ACHIEVEMENTS, (str, UUID), _achieved),
    _Source(timelines.EXIT, EXITS, _EXITS, (str,), _exit),
    _Source(timelines.ENDED, ENROLLMENTS, _ENDS, (str,), timelines.Enrollment),
)
