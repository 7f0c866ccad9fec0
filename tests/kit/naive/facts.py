"""One enrollment with everything that bears on it, and the order of the walk."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from goalworker.domain import events, goals


class Walked(NamedTuple):
    """Position of an event in the walk (rule 4)."""

    time: datetime
    source: str
    id: str


def walked(event: events.Event) -> Walked:
    """Return the position of an event in the walk: (E.time, source, id)."""
    return Walked(event.time, event.source, event.id)


class Facts(NamedTuple):
    """Everything that bears on one enrollment: its messages, its contact's events, its workflow's states and goals."""

    enrolled_at: datetime | None
    ended_at: datetime | None
    happened: Collection[events.Event]
    """Events and reversals of the contact, each identity once."""
    states: Collection[tuple[datetime, bool]]
    """(since, active) of the workflow, as its messages say."""
    workflow: goals.Workflow
    correlation_id: str | None = None
    started_by: events.EventReference | None = None
