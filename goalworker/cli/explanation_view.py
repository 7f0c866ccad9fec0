"""Explanations as text for people: a sentence, the gates, and the events that came nearest."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from goalworker.cli.paragraphs import wrapped
from goalworker.domain import explanation_words, phrases
from goalworker.domain.criteria import criteria_to_json
from goalworker.domain.explanations import NOT_SEARCHED, ContactFacts, ExplainedEvent, Explanation, Explanations
from goalworker.domain.faults import printable


class Marks(Struct, frozen=True):
    """Signs for true, false and null."""

    passed: str = "\N{CHECK MARK}"
    stopped: str = "\N{BALLOT X}"
    unknown: str = "?"

    def of(self, result: bool | None) -> str:
        """Return the sign of a result."""
        if result is None:
            return self.unknown
        return self.passed if result else self.stopped


PLAIN: Final = Marks("+", "x")
"""Signs for an output that cannot show others."""


def marks_for(encoding: str | None) -> Marks:
    """Return the signs that an output with this encoding can show."""
    marks = Marks()
    try:
        (marks.passed + marks.stopped).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return marks


def text_of(found: Explanations, known: ContactFacts, marks: Marks) -> str:
    """Return explanations as text of at most 80 columns, but for long ids, which stay whole."""
    lines = [f"{printable(known.contact_id)} in {printable(known.workflow_id)}"]
    for one in found.explanations:
        lines += ["", *_explanation(one, known, marks)]
    return "\n".join([*lines, "", *_coverage(found)])


def _explanation(one: Explanation, known: ContactFacts, marks: Marks) -> Iterator[str]:
    whose = "no enrollment" if one.enrollment_id is None else f"enrollment {printable(one.enrollment_id)}"
    yield from wrapped(_goal(one, known))
    yield from wrapped(f"goal {one.goal_id}, {whose}", "  ")
    yield ""
    yield from wrapped(f"{explanation_words.ANSWERS[one.answer]}: {one.summary}", "  ")
    yield ""
    for gate in one.gates:
        yield f"  {marks.of(gate.result)} {gate.gate:<18}  {explanation_words.MEANING[gate.gate]}"
    yield from _exit(one)
    yield from _events(one.events, marks)
    yield from _also(one)


def _goal(one: Explanation, known: ContactFacts) -> str:
    goal = known.workflow.goals_by_id[one.goal_id]
    number = "" if one.goal_version is None else f", version {one.goal_version}"
    version = next((version for version in goal.versions if version.number == one.goal_version), goal.versions[-1])
    return f"{phrases.goal(goal.goal_type, criteria_to_json(goal.goal_type, version.criteria))}{number}"


def _exit(one: Explanation) -> Iterator[str]:
    if one.exit.sent_at is not None:
        yield f"    exit {one.exit.exit_id}, {_time(one.exit.sent_at)}"
    if one.exit.published_at is not None:
        yield f"    published {_time(one.exit.published_at)}"


def _events(found: tuple[ExplainedEvent, ...], marks: Marks) -> Iterator[str]:
    if not found:
        return
    nearest = explanation_words.nearest(found)
    left = len(found) - len(nearest)
    yield ""
    yield "  events, the nearest last" + (f", without {left:,} others:" if left else ":")
    for event in nearest:
        yield from _event(event, marks)


def _event(event: ExplainedEvent, marks: Marks) -> Iterator[str]:
    stop = "counts" if event.stopped_at is None else f"stopped at {event.stopped_at}"
    yield f"    {_time(event.time)}  {printable(event.id)}  {stop}"
    for clause in event.clauses:
        yield from wrapped(f"{marks.of(clause.result)} {explanation_words.clause(clause)}", "      ", "        ")
    if event.would_achieve_if:
        changes = explanation_words.changes(event.would_achieve_if)
        yield from wrapped(f"would achieve the goal with {changes}", "      ")


def _also(one: Explanation) -> Iterator[str]:
    for reversal in one.also.reversed:
        yield f"  also {_time(reversal.time)}  {printable(reversal.id)}  {reversal.type}"
    for letter in one.also.dead_letters or ():
        yield f"  also dead letter {letter.partition}:{letter.offset} of {letter.topic}, {letter.reason}"


def _coverage(found: Explanations) -> Iterator[str]:
    coverage = found.coverage
    kept = "no events are kept" if coverage.history_from is None else f"events since {_time(coverage.history_from)}"
    parts = [
        f"known: {kept}{'' if coverage.complete else ' (not everything)'}",
        "" if coverage.hits_from is None else f"hits since {_time(coverage.hits_from)}",
        "no worker ever ran" if coverage.fresh_as_of is None else f"judged until {_time(coverage.fresh_as_of)}",
        "dead letters were not searched" if coverage.dead_letters == NOT_SEARCHED else "",
    ]
    return wrapped("; ".join(filter(None, parts)))


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
