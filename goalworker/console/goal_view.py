"""Data of a goal's pages in the form in which their templates show them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from goalworker.api import goal_models
from goalworker.console.goal_fields import Suggestion
from goalworker.domain import events, goal_sentences, phrases, plan_words, seen_values
from goalworker.domain.unseen_values import SeenValue
from goalworker.stores import goal_store

GOAL_TYPES: Final[Mapping[str, str]] = {
    name: f"{deed[0].upper()}{deed[1:]}" for name, deed in goal_models.DEEDS.items()
}
LOGICS: Final[Mapping[str, str]] = {
    "any": "One goal ends the enrollment.",
    "all": "Every goal has to be met before the enrollment ends.",
    "never": "Goals are counted only, and no enrollment is told to stop.",
}
_FROM_NOW_ON: Final = "It counts for events from now on."
_UNPLANNED: Final = "Nothing was planned: nobody looked at who would achieve it."
NOTICES: Final[Mapping[str, str]] = {
    "created": f"Created. {_FROM_NOW_ON} {_UNPLANNED}",
    "saved": f"Saved. {_FROM_NOW_ON} {_UNPLANNED}",
    "planned": f"Saved exactly as it was planned. {_FROM_NOW_ON}",
    "unchanged": "Nothing was saved, because nothing was changed.",
    "paused": "Paused. Events from now on do not count for this goal.",
    "resumed": "Resumed. Events from now on count for this goal; those from the pause do not.",
    "logic": "The workflow's logic is set, for events from now on.",
}
_STATES: Final = {True: "active", False: "paused"}
_NONE: Final = "none"


def title(goal_type: str, name: str | None) -> str:
    """Return how people call a goal."""
    return name or GOAL_TYPES[goal_type]


def row_of(goal_type: str) -> events.GoalType:
    """Return the row of a goal type."""
    return events.GOAL_TYPE_TABLE[goal_type]


# --- settings and versions ---


class Setting(Struct, frozen=True):
    """A criterion of a goal in words; `name` is that of the API."""

    name: str
    value: str


def settings(criteria: Mapping[str, Any]) -> list[Setting]:
    """Return each criterion by its name, as the API has it."""
    return [Setting(name, _shown(value)) for name, value in criteria.items()]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return _NONE if value is None else str(value)


class Difference(Struct, frozen=True):
    """A field with its value before and after a change."""

    name: str
    before: str
    after: str


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Difference]:
    """Return what differs between two states of a goal, criterion by criterion."""
    old, new = _flat(before or {}), _flat(after or {})
    names = dict.fromkeys([*old, *new])
    return [
        Difference(name, old.get(name, _NONE), new.get(name, _NONE)) for name in names if old.get(name) != new.get(name)
    ]


def _flat(state: Mapping[str, Any]) -> dict[str, str]:
    criteria = state.get("criteria") or {}
    named = {"name": state["name"]} if state.get("name") else {}
    active = {"state": _STATES[state["is_active"]]} if "is_active" in state else {}
    return {name: _shown(value) for name, value in {**named, **active, **criteria}.items()}


def state_of(goal: goal_store.StoredGoal) -> dict[str, Any]:
    """Return the state of a goal as its audit has it."""
    return {name: getattr(goal, name) for name in ("goal_type", "criteria", "name", "is_active")}


class Act(Struct, frozen=True):
    """A change in the audit: by whom, in words, and what is different since."""

    at: datetime
    actor: str
    version: int
    what: str
    sentence: str
    differences: Sequence[Difference]


def acts(entries: Iterable[goal_store.AuditEntry]) -> list[Act]:
    """Return the changes of a goal, the latest first."""
    return [_act(entry) for entry in entries][::-1]


def _act(entry: goal_store.AuditEntry) -> Act:
    after = entry.after or {}
    if entry.action == "backfilled":
        exits = "with exits" if after["exits"] else "without exits"
        return _done(entry, "Backfill begun", f"Counts from {_moment(after['from'])} on, {exits}.")
    if entry.action == "deleted":
        return _done(entry, "Deleted", "Its achievements stay.")
    sentence = goal_sentences.sentence(after["goal_type"], after["criteria"])
    if entry.action == "created":
        return _done(entry, "Created", sentence)
    changed = differences(entry.before, after)
    is_only_state = [one.name for one in changed] == ["state"]
    what = {"active": "Resumed", "paused": "Paused"}[changed[0].after] if is_only_state else "Changed"
    return _done(entry, what, sentence, changed)


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _done(entry: goal_store.AuditEntry, what: str, sentence: str, changed: Sequence[Difference] = ()) -> Act:
    return Act(entry.at, entry.actor, entry.version, what, sentence, changed)


def state_at(entries: Iterable[goal_store.AuditEntry], version: int) -> Mapping[str, Any] | None:
    """Return the state that a goal had in a version; None if the audit does not know it."""
    return next((one.after for one in entries if one.version == version and one.action in ("created", "updated")), None)


# --- seen values ---


def suggestions(field: str, seen: Sequence[SeenValue]) -> dict[str, list[Suggestion]]:
    """Return the suggestions that the values of a field make, by the criterion that they are for."""
    if field != seen_values.STAGE:
        return {field: [Suggestion(one.value, _note(one)) for one in seen]}
    pairs = [(*seen_values.parts_of_stage(one.value), one) for one in seen]
    pipelines = dict.fromkeys(pipeline_id for pipeline_id, _, _ in pairs)
    return {
        "pipeline_id": [Suggestion(pipeline_id, "") for pipeline_id in pipelines],
        "stage_id": [Suggestion(stage_id, f"{pipeline_id}, {_note(one)}") for pipeline_id, stage_id, one in pairs],
    }


def _note(one: SeenValue) -> str:
    seen = f"seen {phrases.counted(one.count, 'time')}"
    return f"{one.label}, {seen}" if one.label else seen


# --- plans ---


class PlannedChange(Struct, frozen=True):
    """A change that a plan asks for: of a stored goal, or a new goal without one."""

    goal_id: UUID | None
    goal_type: str
    name: str | None
    sentence: str
    differences: Sequence[Difference]


def planned_changes(request: Mapping[str, Any], stored: Mapping[UUID, goal_store.StoredGoal]) -> list[PlannedChange]:
    """Return what the request of a plan changes, without goals that were deleted since."""
    found = []
    for one in request["goals"]:
        if "goal_type" in one:
            found.append(_planned(None, one["goal_type"], None, {**one, "is_active": True}))
        elif (goal := stored.get(UUID(one["goal_id"]))) is not None:
            before = state_of(goal)
            found.append(_planned(goal.id, goal.goal_type, before, before | one["changes"]))
    return found


def _planned(
    goal_id: UUID | None, goal_type: str, before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> PlannedChange:
    sentence = goal_sentences.sentence(goal_type, after["criteria"])
    return PlannedChange(goal_id, goal_type, after["name"], sentence, differences(before, after) if before else ())


class GoalRow(Struct, frozen=True):
    """A goal with its numbers by a plan."""

    goal_id: UUID | None
    name: str
    sentence: str
    is_changed: bool
    would_achieve: int
    more: int
    only_by_this: int
    matched_events: int
    first_at: str
    median: str
    near_misses: Sequence[tuple[str, Sequence[str]]]
    """Sentences, each with contacts whose events say so."""


def plan_rows(
    request: Mapping[str, Any], result: Mapping[str, Any], stored: Mapping[UUID, goal_store.StoredGoal]
) -> list[GoalRow]:
    """Return the goals of a plan that is done, without those that were deleted since."""
    changes = {one["goal_id"]: one["changes"] for one in request["goals"] if "goal_id" in one}
    rows = []
    for one in result["per_goal"]:
        if "index" in one:
            asked = request["goals"][one["index"]]
            rows.append(_row(one, None, asked, is_changed=True))
        elif (goal := stored.get(UUID(one["goal_id"]))) is not None:
            asked = state_of(goal) | changes.get(one["goal_id"], {})
            rows.append(_row(one, goal.id, asked, is_changed=one["goal_id"] in changes))
    return sorted(rows, key=lambda row: not row.is_changed)


def _row(one: Mapping[str, Any], goal_id: UUID | None, asked: Mapping[str, Any], *, is_changed: bool) -> GoalRow:
    goal_type = asked["goal_type"]
    noun = phrases.NAMES[goal_type]
    numbers = {name: one[name] for name in ("would_achieve", "more", "only_by_this", "matched_events")}
    return GoalRow(
        goal_id,
        title(goal_type, asked["name"]),
        goal_sentences.sentence(goal_type, asked["criteria"]),
        is_changed,
        **numbers,
        first_at="" if one["first_at"] is None else plan_words.day(one["first_at"]),
        median="" if one["median_hours"] is None else plan_words.span(one["median_hours"]),
        near_misses=[
            (f"{plan_words.missed(near, noun)}.", near["example"]["contact_ids"]) for near in one["near_misses"]
        ],
    )
