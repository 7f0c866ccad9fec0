"""Words of explanations for people: what gates mean, what answers are called, and clauses as sentences."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from goalworker.domain import clauses, gates
from goalworker.domain.explanations import ExplainedEvent
from goalworker.domain.faults import printable

EVENTS_SHOWN_MAX: Final = 5
"""Events that are shown of each goal: those that came furthest, of these the newest."""

MEANING: Final[Mapping[str, str]] = {
    gates.ENROLLED: "the contact is enrolled",
    gates.EVENT_SEEN: "an event of the goal's type was seen",
    gates.VERSION_IN_FORCE: "the goal was in force at its time",
    gates.CRITERIA: "it meets the goal's criteria",
    gates.WINDOW: "it lies within the enrollment, and belongs to it",
    gates.OCCURRENCE: "it is new, and was not taken back",
    gates.THRESHOLD: "there are as many as the goal asks for",
    gates.NOT_STOPPED_BEFORE: "the workflow had not reached its goal before",
    gates.WORKFLOW_ACTIVE: "the workflow is active, so the exit does not wait",
    gates.EXIT_PUBLISHED: "the exit was sent",
}
"""What is true once an event has passed a gate."""
ANSWERS: Final[Mapping[str, str]] = {
    gates.ACHIEVED: "achieved",
    gates.NOT_ACHIEVED: "not achieved",
    gates.UNKNOWN: "unknown",
}
_RELATIONS: Final[Mapping[str, str]] = {
    clauses.EQUALS: "is",
    clauses.ONE_OF: "is one of",
    clauses.SAME_NAME: "is called",
    clauses.CONTAINS: "contains",
    clauses.CONTAINS_ONE_OF: "contains one of",
    clauses.AT_LEAST: "is at least",
}


def clause(of: clauses.Clause) -> str:
    """Return a clause as a sentence: /min_amount is at least 50: the event has 49.90."""
    actual = "the event lacks it" if of.actual is None else f"the event has {_shown(of.actual)}"
    return f"{of.pointer} {_RELATIONS[of.op]} {_shown(of.expected)}: {actual}"


def _shown(value: clauses.Shown) -> str:
    return printable(value) if isinstance(value, str) else ", ".join(map(printable, value)) or "none"


def changes(of: Iterable[clauses.DataChange]) -> str:
    """Return the changes with which an event would achieve a goal: /amount 50, /currency EUR."""
    return ", ".join(f"{change.pointer} {printable(change.to)}" for change in of)


def nearest(found: Iterable[ExplainedEvent]) -> list[ExplainedEvent]:
    """Return the events that came furthest, the nearest last."""
    return sorted(found, key=_progress)[-EVENTS_SHOWN_MAX:]


def _progress(event: ExplainedEvent) -> tuple[int, int, datetime]:
    stop = len(gates.GATES) if event.stopped_at is None else gates.GATES.index(event.stopped_at)
    return (stop, sum(clause.result for clause in event.clauses), event.time)
