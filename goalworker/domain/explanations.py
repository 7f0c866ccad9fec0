"""Explanations: the form in which people and programs read why a goal was achieved or not (contract section 7)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from goalworker.domain import events, facts, goals
from goalworker.domain.clauses import Clause, DataChange

# --- facts ---


class Run(Struct, frozen=True):
    """An enrollment with what is stored of it; is_published is None where that is not known."""

    enrollment: facts.Enrollment
    achievements: Sequence[facts.Achievement] = ()
    sent_at: datetime | None = None
    published_at: datetime | None = None
    is_published: bool | None = None
    is_withheld: bool = False
    """Whether a backfill satisfied it, which sends no exit."""


class Coverage(Struct, frozen=True):
    """The span that is known: kept events since history_from, hits since hits_from, all judged until fresh_as_of.

    history_from is None where nobody looked, and events that arrived from history_until on are not kept yet, which is
    None while they are kept within a minute. It is complete if nothing was missed since the enrollments began. is_cut
    says that history began earlier, and what came before is no longer kept.
    """

    history_from: datetime | None = None
    hits_from: datetime | None = None
    fresh_as_of: datetime | None = None
    complete: bool = False
    is_cut: bool = False
    history_until: datetime | None = None


class DeadLetter(Struct, frozen=True):
    """A dead letter that is the contact's by its key: its position in the topic of dead letters, and why."""

    topic: str
    partition: int
    offset: int
    reason: str


class ContactFacts(Struct, frozen=True):
    """All that is known of a contact in a workflow; events are those of goals, each once."""

    tenant_id: str
    workflow_id: str
    contact_id: str
    workflow: goals.Workflow
    runs: Sequence[Run]
    events: Sequence[events.Event]
    hits: Sequence[facts.Hit]
    reversals: Sequence[facts.Reversal]
    states: Sequence[facts.WorkflowState]
    coverage: Coverage
    asked_at: datetime
    tracked: bool = True
    dead_letters: tuple[DeadLetter, ...] | None = None


# --- answers ---


class GateResult(Struct, frozen=True):
    """The result at one gate: None where it was not evaluated."""

    gate: str
    result: bool | None


class ExplainedEvent(Struct, frozen=True):
    """An event of the contact; stopped_at is the gate that it did not pass, None if it counts."""

    source: str
    id: str
    type: str
    time: datetime
    goal_version: int | None
    stopped_at: str | None
    clauses: tuple[Clause, ...]
    would_achieve_if: tuple[DataChange, ...]


class ExitState(Struct, frozen=True):
    """State of an enrollment's exit; waits_for is `activation`, `backfill` or None."""

    sent_at: datetime | None
    published_at: datetime | None
    exit_id: UUID | None
    waits_for: str | None


class ReversalSeen(Struct, frozen=True):
    """A reversal of the contact, by its event; subject_id is the payment, appointment or submission."""

    source: str
    id: str
    type: str
    time: datetime
    subject_id: str


class Also(Struct, frozen=True):
    """Other facts about the contact; dead_letters is None where they were not searched."""

    dead_letters: tuple[DeadLetter, ...] | None
    reversed: tuple[ReversalSeen, ...]
    merged_from: tuple[str, ...] = ()


class Explanation(Struct, frozen=True):
    """`explanation` of contract section 7: the fields and their order."""

    enrollment_id: str | None
    goal_id: UUID
    goal_version: int | None
    answer: str
    summary: str
    furthest_gate: str | None
    reason: str
    gates: tuple[GateResult, ...]
    events: tuple[ExplainedEvent, ...]
    exit: ExitState
    also: Also


class ShownCoverage(Struct, frozen=True):
    """`coverage` of contract section 7, and whether dead letters were searched."""

    history_from: datetime | None
    hits_from: datetime | None
    fresh_as_of: datetime | None
    complete: bool
    dead_letters: str


SEARCHED: Final = "searched"
NOT_SEARCHED: Final = "not_searched"


class Explanations(Struct, frozen=True):
    """Explanations of one contact in one workflow, with what they rest on."""

    explanations: tuple[Explanation, ...]
    coverage: ShownCoverage
