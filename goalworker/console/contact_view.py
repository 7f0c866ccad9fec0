"""A contact's timeline as its page shows it: days with entries, each with a sentence and its details."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from msgspec import Struct, json

from goalworker.domain import clauses, events, explanation_words, facts, goals, ids, phrases, sightings, timelines
from goalworker.domain.criteria import criteria_to_json
from goalworker.domain.faults import printable

# Values of a list in an event's data that are shown; a payment may name 1,000 products.
_LISTED_MAX: Final = 20

KIND_NAMES: Final[Mapping[str, str]] = {
    timelines.STARTED: "Enrollment",
    timelines.EVENT: "Event",
    timelines.HIT: "Hit",
    timelines.ACHIEVEMENT: "Achievement",
    timelines.EXIT: "Exit",
    timelines.ENDED: "Enrollment",
}
TONES: Final[Mapping[str, str]] = {"passed": "good", "failed": "bad", "unknown": "muted"}
"""Classes of colours by the word that they repeat."""
PASSED, FAILED, UNKNOWN = ("passed", "\N{CHECK MARK}"), ("failed", "\N{BALLOT X}"), ("unknown", "?")


class Mask(Struct, frozen=True):
    """The contact's id as a page shows it: `label` stands for it wherever a text is just this id."""

    contact_id: str
    label: str

    def text(self, value: str, workflow_id: str | None = None) -> str:
        """Return a text from outside as it may be shown.

        Without tracking, an enrollment's id names the contact.
        """
        if value == self.contact_id:
            return self.label
        if workflow_id is not None and value == ids.contact_enrollment_id(workflow_id, self.contact_id):
            return f"contact:{printable(workflow_id)}:{self.label}"
        return printable(value)


class NamedGoal(Struct, frozen=True):
    """A goal with the name that people gave it."""

    goal: goals.Goal
    name: str | None

    @property
    def label(self) -> str:
        """The name, or else the newest criteria in words."""
        if self.name:
            return printable(self.name)
        newest = self.goal.versions[-1].criteria
        return phrases.goal(self.goal.goal_type, criteria_to_json(self.goal.goal_type, newest))


class Field(Struct, frozen=True):
    """A named value in the details of an entry."""

    name: str
    value: str


class Checked(Struct, frozen=True):
    """A clause as a sentence, with its result in a word and a sign."""

    word: str
    sign: str
    sentence: str

    @property
    def tone(self) -> str:
        """Class of its colour."""
        return TONES[self.word]


class Beside(Struct, frozen=True):
    """An event beside a goal of its type."""

    label: str
    workflow_id: str
    goal_id: UUID
    verdict: str
    clauses: tuple[Checked, ...]


class Line(Struct, frozen=True):
    """An entry: its sentence and its details. A failure is shown bold."""

    kind: str
    at: datetime
    title: str
    is_failure: bool = False
    workflow_id: str | None = None
    goal_id: UUID | None = None
    goal_label: str | None = None
    fields: tuple[Field, ...] = ()
    data: tuple[Field, ...] = ()
    beside: tuple[Beside, ...] = ()

    @property
    def kind_name(self) -> str:
        """Name of its kind."""
        return KIND_NAMES[self.kind]

    @property
    def workflow_name(self) -> str:
        """Name of its workflow."""
        return printable(self.workflow_id or "")


class Day(Struct, frozen=True):
    """Entries of one day in UTC, newest first."""

    date: date
    lines: tuple[Line, ...]


class Scene(Struct, frozen=True):
    """Surroundings of the entries: the tenant, the mask, and the goals that they may concern."""

    tenant_id: str
    mask: Mask
    goals: Mapping[UUID, NamedGoal]


def goal_ids(fact: timelines.Fact) -> tuple[UUID, ...]:
    """Return the goals that a fact names."""
    match fact:
        case timelines.ExitSent():
            return fact.goal_ids
        case timelines.Hit() | timelines.Achieved():
            return (fact.goal_id,)
        case _:
            return ()


def workflow_of(fact: timelines.Fact) -> str | None:
    """Return the workflow that a fact names; an event names none."""
    return None if isinstance(fact, timelines.Happened) else fact.workflow_id


def days(entries: Iterable[timelines.Entry], scene: Scene) -> list[Day]:
    """Return entries, which are newest first, by day."""
    lines = [_line(entry, scene) for entry in entries]
    return [Day(day, tuple(of_day)) for day, of_day in groupby(lines, lambda line: line.at.astimezone(UTC).date())]


def _line(entry: timelines.Entry, scene: Scene) -> Line:
    match entry.fact:
        case timelines.Enrollment() as fact:
            return _enrollment(entry, fact, scene)
        case timelines.Happened() as fact:
            return _happened(entry, fact, scene)
        case timelines.Hit() as fact:
            return _hit(entry, fact, scene)
        case timelines.Achieved() as fact:
            return _achieved(entry, fact, scene)
        case timelines.ExitSent() as fact:
            return _exit(entry, fact, scene)


def _enrollment(entry: timelines.Entry, fact: timelines.Enrollment, scene: Scene) -> Line:
    verb = "Enrolled in" if entry.kind == timelines.STARTED else "Enrollment ended in"
    given = [
        ("enrollment", scene.mask.text(fact.enrollment_id, fact.workflow_id)),
        ("correlation id", _optional(fact.correlation_id, scene)),
        ("started by source", _optional(fact.started_by_source, scene)),
        ("started by event", _optional(fact.started_by_id, scene)),
    ]
    return Line(
        entry.kind,
        entry.position.at,
        f"{verb} {printable(fact.workflow_id)}",
        workflow_id=fact.workflow_id,
        fields=_fields(given),
    )


def _happened(entry: timelines.Entry, fact: timelines.Happened, scene: Scene) -> Line:
    event = _event(scene.tenant_id, fact.type, entry.position.at, fact)
    is_reversal = fact.type in events.REVERSAL_TYPES
    title = _sentence(event.data)
    given = [
        *_identity(fact, fact.type, scene),
        ("topic", None if fact.topic is None else printable(fact.topic)),
        ("partition", None if fact.partition is None else str(fact.partition)),
        ("offset", None if fact.offset is None else str(fact.offset)),
    ]
    return Line(
        entry.kind,
        entry.position.at,
        title,
        is_failure=is_reversal,
        fields=_fields(given),
        data=_data(fact.data, scene),
        beside=() if is_reversal else _beside(event, scene),
    )


def _hit(entry: timelines.Entry, fact: timelines.Hit, scene: Scene) -> Line:
    known = scene.goals.get(fact.goal_id)
    given = [*_identity(fact, None, scene), ("goal version", str(fact.goal_version))]
    beside: tuple[Beside, ...] = ()
    title = f"Met the goal {_label(known, fact.goal_id)}"
    if known is not None:
        type_ = events.GOAL_TYPE_TABLE[known.goal.goal_type].event_type
        event = _event(scene.tenant_id, type_, entry.position.at, fact)
        hit = facts.Hit(
            *(scene.tenant_id, fact.workflow_id, scene.mask.contact_id, fact.goal_id, fact.goal_version),
            facts.trigger_of(event),
        )
        beside = (_seen(known, sightings.sighting_of_hit(known.goal, hit)),)
        title = f"{_sentence(event.data)}, which met the goal {known.label}"
    return _of_goal(entry, fact, title, known, _fields(given), data=_data(fact.data, scene), beside=beside)


def _achieved(entry: timelines.Entry, fact: timelines.Achieved, scene: Scene) -> Line:
    known, is_revoked = scene.goals.get(fact.goal_id), fact.revoked_at is not None
    label = _label(known, fact.goal_id)
    given = [
        ("enrollment", scene.mask.text(fact.enrollment_id, fact.workflow_id)),
        *_identity(fact, None, scene),
        ("goal version", str(fact.goal_version)),
        ("revision", str(fact.revision)),
        ("revoked", None if fact.revoked_at is None else moment(fact.revoked_at)),
        ("achievement id", str(ids.achievement_id(scene.tenant_id, fact.enrollment_id, fact.goal_id))),
    ]
    title = f"Achievement of the goal {label} was revoked" if is_revoked else f"Achieved the goal {label}"
    return _of_goal(entry, fact, title, known, _fields(given), is_failure=is_revoked, data=_data(fact.data, scene))


def _exit(entry: timelines.Entry, fact: timelines.ExitSent, scene: Scene) -> Line:
    known = scene.goals.get(fact.goal_id)
    achieved = [_label(scene.goals.get(goal_id), goal_id) for goal_id in fact.goal_ids]
    given = [
        ("enrollment", scene.mask.text(fact.enrollment_id, fact.workflow_id)),
        ("logic", fact.logic),
        ("goals", phrases.listed(achieved) if achieved else None),
        ("satisfied", moment(fact.achieved_at)),
        ("exit id", str(ids.exit_id(scene.tenant_id, fact.enrollment_id))),
    ]
    title = f"Exit from {printable(fact.workflow_id)} was sent for the goal {_label(known, fact.goal_id)}"
    return _of_goal(entry, fact, title, known, _fields(given))


# --- parts of a line ---


def _of_goal(
    entry: timelines.Entry,
    fact: timelines.Hit | timelines.Achieved | timelines.ExitSent,
    title: str,
    known: NamedGoal | None,
    fields: tuple[Field, ...],
    **others: Any,
) -> Line:
    return Line(
        entry.kind,
        entry.position.at,
        title,
        workflow_id=fact.workflow_id,
        goal_id=fact.goal_id,
        goal_label=_label(known, fact.goal_id),
        fields=fields,
        **others,
    )


def _label(known: NamedGoal | None, goal_id: UUID) -> str:
    return str(goal_id) if known is None else known.label


def _event(
    tenant_id: str, type_: str, at: datetime, fact: timelines.Happened | timelines.Hit | timelines.Achieved
) -> events.Event:
    return facts.event_of(tenant_id, type_, facts.Trigger(fact.source, fact.id, at, fact.data.encode()))


def _sentence(data: object) -> str:
    deed = phrases.deed(data) if isinstance(data, events.GoalData) else ""
    text = phrases.undoing(data) if isinstance(data, events.ReversalData) else deed
    return f"{text[:1].upper()}{text[1:]}"


def _identity(
    fact: timelines.Happened | timelines.Hit | timelines.Achieved, type_: str | None, scene: Scene
) -> list[tuple[str, str | None]]:
    return [("type", type_), ("source", scene.mask.text(fact.source)), ("event id", scene.mask.text(fact.id))]


def _optional(value: str | None, scene: Scene) -> str | None:
    return None if value is None else scene.mask.text(value)


def _fields(given: Iterable[tuple[str, str | None]]) -> tuple[Field, ...]:
    return tuple([Field(name, value) for name, value in given if value is not None])


def _data(text: str, scene: Scene) -> tuple[Field, ...]:
    return tuple([Field(name, _value(value, scene)) for name, value in json.decode(text).items()])


def _value(value: object, scene: Scene) -> str:
    if isinstance(value, list):
        listed = [_value(one, scene) for one in value[:_LISTED_MAX]]
        more = [f"and {phrases.counted(len(value) - _LISTED_MAX, 'other')}"] if len(value) > _LISTED_MAX else []
        return ", ".join([*listed, *more])
    return str(value).lower() if isinstance(value, bool) else scene.mask.text(str(value))


def _beside(event: events.Event, scene: Scene) -> tuple[Beside, ...]:
    """Return an event beside the goals of its type."""
    found = []
    for known in scene.goals.values():
        seen = sightings.sightings_of(known.goal, [event])
        found += [_seen(known, one) for one in seen.values()]
    return tuple(found)


def _seen(known: NamedGoal, seen: sightings.Sighting) -> Beside:
    verdict = "meets the criteria" if seen.is_hit else "misses the criteria"
    if seen.version is None:
        verdict = "the goal was not in force then"
    return Beside(known.label, known.goal.workflow_id, known.goal.goal_id, verdict, checked(seen.clauses))


def checked(given: Sequence[clauses.Clause]) -> tuple[Checked, ...]:
    """Return clauses as sentences with their results."""
    return tuple([Checked(*mark(clause.result), explanation_words.clause(clause)) for clause in given])


def mark(result: bool | None) -> tuple[str, str]:
    """Return a result as a word and a sign, since colour alone says nothing to many."""
    if result is None:
        return UNKNOWN
    return PASSED if result else FAILED


def moment(at: datetime) -> str:
    """Return a time in UTC as people read it, with the fraction that it has."""
    time = at.astimezone(UTC)
    return f"{time:%Y-%m-%d} {time.time().isoformat('auto')} UTC"
