"""Timeline of a contact: facts of several kinds, newest first and in pages."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from heapq import merge
from typing import Final
from uuid import UUID

from msgspec import Struct

STARTED: Final = "enrollment_started"
EVENT: Final = "event"
HIT: Final = "hit"
ACHIEVEMENT: Final = "achievement"
EXIT: Final = "exit"
ENDED: Final = "enrollment_ended"
RANKS: Final = (STARTED, EVENT, HIT, ACHIEVEMENT, EXIT, ENDED)
"""Kinds of entries, of one moment the cause before its effect."""


class Position(Struct, frozen=True, order=True, array_like=True):
    """Position of an entry, which no other entry has: its time, the rank of its kind, and its ids."""

    at: datetime
    rank: int
    key: tuple[str, ...]


class Enrollment(Struct, frozen=True):
    """Start or end of an enrollment, and what started it."""

    enrollment_id: str
    workflow_id: str
    correlation_id: str | None = None
    started_by_source: str | None = None
    started_by_id: str | None = None


class Happened(Struct, frozen=True):
    """A kept event, data as JSON; a reversal that only facts hold has no position in Kafka."""

    type: str
    source: str
    id: str
    data: str
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None


class Hit(Struct, frozen=True):
    """An event that met a goal's criteria, data as JSON."""

    workflow_id: str
    goal_id: UUID
    goal_version: int
    source: str
    id: str
    data: str


class Achieved(Struct, frozen=True):
    """An achievement with its event, data as JSON; a revoked one is not counted any more."""

    enrollment_id: str
    workflow_id: str
    goal_id: UUID
    goal_version: int
    goal_type: str
    source: str
    id: str
    data: str
    revision: int
    revoked_at: datetime | None = None


class ExitSent(Struct, frozen=True):
    """The exit of an enrollment, with the goals that were achieved and the completing one."""

    enrollment_id: str
    workflow_id: str
    goal_id: UUID
    goal_type: str
    logic: str
    goal_ids: tuple[UUID, ...]
    achieved_at: datetime


Fact = Enrollment | Happened | Hit | Achieved | ExitSent


class Entry(Struct, frozen=True):
    """One entry: its position, and a fact."""

    position: Position
    fact: Fact

    @property
    def kind(self) -> str:
        """One of RANKS."""
        return RANKS[self.position.rank]

    @property
    def size_bytes(self) -> int:
        """Bytes of the texts that people see of it, about."""
        fact = self.fact
        data = "" if isinstance(fact, Enrollment | ExitSent) else fact.data
        return sum(len(text.encode()) for text in (data, *self.position.key))


class Part(Struct, frozen=True):
    """Entries of a part of the timeline, newest first; is_cut says that the part goes on behind them."""

    entries: Sequence[Entry]
    is_cut: bool = False


class Page(Struct, frozen=True):
    """A page of a timeline, newest first; the next one begins behind `before`, which is None on the last one."""

    entries: tuple[Entry, ...]
    before: Position | None = None


def page_of(parts: Iterable[Part], entries_max: int, bytes_max: int) -> Page:
    """Return the first page of several parts: up to both maxima, but at least one entry.

    Of entries at one position, that of the earliest part stands. Behind the end of a part that goes on nothing is
    taken, since the entries of that part that belong there are not known.
    """
    read = list(parts)
    horizon = max((part.entries[-1].position for part in read if part.is_cut), default=None)
    taken: list[Entry] = []
    left = bytes_max
    for entry in merge(*(part.entries for part in read), key=lambda one: one.position, reverse=True):
        if taken and entry.position == taken[-1].position:
            continue
        if horizon is not None and entry.position < horizon:
            break
        left -= entry.size_bytes
        if taken and (left < 0 or len(taken) == entries_max):
            return Page(tuple(taken), taken[-1].position)
        taken.append(entry)
    return Page(tuple(taken), None if horizon is None else taken[-1].position)
