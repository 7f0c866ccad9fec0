"""Explanations of a contact's goals as its page shows them: a sentence to paste, the gates, and the nearest events."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from msgspec import Struct, structs

from goalworker.console import contact_view
from goalworker.domain import explaining, explanation_words, gates, phrases
from goalworker.domain.criteria import criteria_to_json
from goalworker.domain.explanations import ContactFacts, Coverage, ExitState, ExplainedEvent, Explanation, Run
from goalworker.domain.faults import printable

ENROLLMENTS_MAX: Final = 5
"""Enrollments that are explained at once, at most: those that began last. Each of the others has a link."""

_SIGNS: Final[Mapping[str, tuple[str, str]]] = {
    gates.ACHIEVED: contact_view.PASSED,
    gates.NOT_ACHIEVED: contact_view.FAILED,
    gates.UNKNOWN: contact_view.UNKNOWN,
}


class Gate(Struct, frozen=True):
    """A gate: its name in words, what it asks, and the result in a word and a sign."""

    name: str
    meaning: str
    word: str
    sign: str

    @property
    def tone(self) -> str:
        """Class of its colour."""
        return contact_view.TONES[self.word]


class Near(Struct, frozen=True):
    """An event that came far: where it stopped, its clauses, and the changes with which it would have achieved."""

    at: datetime
    source: str
    id: str
    type: str
    stopped: str
    clauses: tuple[contact_view.Checked, ...]
    would_achieve_if: str


class Undone(Struct, frozen=True):
    """A reversal that concerns goals of this type."""

    at: datetime
    type: str
    id: str
    subject_id: str


class Explained(Struct, frozen=True):
    """The explanation of one goal; `word` says the answer, and `result` is passed, failed or unknown."""

    goal_id: UUID
    name: str | None
    criteria: str
    version: int | None
    result: str
    sign: str
    word: str
    summary: str
    gates: tuple[Gate, ...]
    events: tuple[Near, ...]
    events_left: int
    reversals: tuple[Undone, ...]

    @property
    def tone(self) -> str:
        """Class of its colour."""
        return contact_view.TONES[self.result]


class OfEnrollment(Struct, frozen=True):
    """Explanations of the goals for one enrollment, or without one."""

    enrollment_id: str | None
    shown_id: str | None
    enrolled_at: datetime | None
    ended_at: datetime | None
    exit: tuple[str, ...]
    goals: tuple[Explained, ...]


class OtherEnrollment(Struct, frozen=True):
    """An enrollment that is not explained until it is asked for."""

    enrollment_id: str
    shown_id: str
    enrolled_at: datetime | None


class OfWorkflow(Struct, frozen=True):
    """Explanations of a contact's goals in one workflow, with the sentences that say what they rest on."""

    enrollments: tuple[OfEnrollment, ...]
    others: tuple[OtherEnrollment, ...]
    coverage: tuple[str, ...]


class Words(Struct, frozen=True):
    """Words that explanations use: the mask for the contact, and the names of goals that have one."""

    mask: contact_view.Mask
    names: Mapping[UUID, str]


def explain(known: ContactFacts, words: Words) -> OfWorkflow:
    """Explain the goals of the enrollments that began last. This may take long: run it in a thread."""
    mask = words.mask
    newest = sorted(known.runs, key=_began, reverse=True)
    explained = _explained(structs.replace(known, contact_id=mask.label, runs=newest[:ENROLLMENTS_MAX]), words)
    others = [
        OtherEnrollment(run.enrollment.enrollment_id, _shown_id(run, mask), run.enrollment.enrolled_at)
        for run in newest[ENROLLMENTS_MAX:]
    ]
    return OfWorkflow(explained, tuple(others), coverage(known.coverage))


def _began(run: Run) -> tuple[bool, datetime, str]:
    at = run.enrollment.enrolled_at
    return (at is not None, at or datetime.min.replace(tzinfo=UTC), run.enrollment.enrollment_id)


def _explained(known: ContactFacts, words: Words) -> tuple[OfEnrollment, ...]:
    found: dict[str | None, list[Explanation]] = {}
    for one in explaining.explain(known):
        found.setdefault(one.enrollment_id, []).append(one)
    runs = {run.enrollment.enrollment_id: run for run in known.runs}
    return tuple([_of_enrollment(runs.get(id_ or ""), of, known, words) for id_, of in found.items()])


def _of_enrollment(
    run: Run | None, explained: Sequence[Explanation], known: ContactFacts, words: Words
) -> OfEnrollment:
    of_goals = tuple([_goal(one, known, words) for one in explained])
    if run is None:
        return OfEnrollment(None, None, None, None, (), of_goals)
    of = run.enrollment
    # Each explanation of an enrollment has the state of its only exit.
    exit_ = _exit(explained[0].exit)
    return OfEnrollment(of.enrollment_id, _shown_id(run, words.mask), of.enrolled_at, of.ended_at, exit_, of_goals)


def _shown_id(run: Run, mask: contact_view.Mask) -> str:
    return mask.text(run.enrollment.enrollment_id, run.enrollment.workflow_id)


def _goal(one: Explanation, known: ContactFacts, words: Words) -> Explained:
    mask, (result, sign) = words.mask, _SIGNS[one.answer]
    name = words.names.get(one.goal_id)
    nearest = explanation_words.nearest(one.events)
    return Explained(
        one.goal_id,
        None if name is None else printable(name),
        _criteria(one, known),
        one.goal_version,
        result,
        sign,
        explanation_words.ANSWERS[one.answer],
        one.summary,
        tuple([_gate(gate.gate, gate.result) for gate in one.gates]),
        tuple([_near(event, mask) for event in reversed(nearest)]),
        len(one.events) - len(nearest),
        tuple([Undone(of.time, of.type, mask.text(of.id), mask.text(of.subject_id)) for of in one.also.reversed]),
    )


def _criteria(one: Explanation, known: ContactFacts) -> str:
    goal = known.workflow.goals_by_id[one.goal_id]
    version = next((version for version in goal.versions if version.number == one.goal_version), goal.versions[-1])
    return phrases.goal(goal.goal_type, criteria_to_json(goal.goal_type, version.criteria))


def _gate(gate: str, result: bool | None) -> Gate:
    return Gate(gate.replace("_", " "), explanation_words.MEANING[gate], *contact_view.mark(result))


def _near(event: ExplainedEvent, mask: contact_view.Mask) -> Near:
    stopped = "counts" if event.stopped_at is None else f"stopped at {event.stopped_at.replace('_', ' ')}"
    return Near(
        event.time,
        mask.text(event.source),
        mask.text(event.id),
        event.type,
        stopped,
        contact_view.checked(event.clauses),
        explanation_words.changes(event.would_achieve_if),
    )


def _exit(state: ExitState) -> tuple[str, ...]:
    sentences = []
    if state.waits_for is not None:
        sentences.append(_WAITS[state.waits_for])
    if state.sent_at is not None:
        sentences.append(f"The exit was written on {contact_view.moment(_whole(state.sent_at))}.")
    if state.published_at is not None:
        sentences.append(f"Its record has been in Kafka since {contact_view.moment(_whole(state.published_at))}.")
    return tuple(sentences)


_WAITS: Final[Mapping[str, str]] = {
    "activation": "The exit waits until the workflow is activated.",
    "backfill": "A backfill found this, and it was not asked to send exits.",
}


# --- coverage ---


def coverage(of: Coverage, *, keeps_all: bool = True) -> tuple[str, ...]:
    """Return sentences that tell apart what was not found, what nobody looked for, and what is no longer kept.

    keeps_all: events of contacts without an enrollment are kept, too.
    """
    sentences = [*_history(of)]
    if of.history_from is not None and not keeps_all:
        sentences.append("Only events of contacts with an enrollment are kept.")
    if of.hits_from is not None:
        sentences.append(f"Hits are kept at least since {contact_view.moment(_whole(of.hits_from))}.")
    if of.fresh_as_of is None:
        sentences.append("No worker has judged every topic to its end yet, so what is missing may still come.")
    else:
        judged = contact_view.moment(_whole(of.fresh_as_of))
        sentences.append(f"Every record that reached Kafka before {judged} has been judged.")
    return (*sentences, "Dead letters were not searched.")


def _history(of: Coverage) -> Iterable[str]:
    if of.history_from is None:
        yield "Nobody looked at events that miss every goal: no insight process keeps them."
        return
    since = contact_view.moment(_whole(of.history_from))
    if of.is_cut:
        yield f"Events are kept since {since}; older ones are no longer kept."
    else:
        yield f"Events are kept since {since}; nobody looked before that."
    if of.history_until is not None:
        until = contact_view.moment(_whole(of.history_until))
        yield f"Events that arrived after {until} are not kept yet."
    if of.complete:
        yield "Nothing was left out since then: an event that is not shown was not found."


def _whole(at: datetime) -> datetime:
    return at.replace(microsecond=0)


def nothing_known(of: Sequence[str]) -> tuple[str, ...]:
    """Return the sentences for an unknown contact, with those about coverage."""
    return ("Nothing was found: no enrollment, event, hit, achievement or exit names this contact.", *of)
