"""Fields of the form of a goal: from texts as they were typed to the JSON of the API, and back, without a loss."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from starlette.datastructures import ImmutableMultiDict

from goalworker.domain import criteria, events
from goalworker.domain.faults import Fault
from goalworker.domain.text import parse_duration

Typed = Mapping[str, Sequence[str]]
"""Texts of the fields as somebody typed them, by the names of the fields; one without a text is left out."""

NAME: Final = "name"
IDS: Final = "ids"
TEXT: Final = "text"
NUMBER: Final = "number"
DURATION: Final = "duration"
CHOICE: Final = "choice"
FLAG: Final = "flag"

_CHECKED: Final = "yes"
_UNIT: Final = "{}_unit"
_UNITS_SECONDS: Final[Mapping[str, int]] = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
_DURATION_OF: Final = {"days": "P{}D", "hours": "PT{}H", "minutes": "PT{}M", "seconds": "PT{}S"}
_WHOLE: Final = re.compile(r"[0-9]{1,9}")


class Suggestion(Struct, frozen=True):
    """A value that events had, with a note about it."""

    value: str
    note: str


class Field(Struct, frozen=True):
    """A field of the form: its texts, the unit of a duration, what may be chosen, and what is wrong with it."""

    name: str
    kind: str
    label: str
    hint: str
    values: tuple[str, ...]
    unit: str = "days"
    choices: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def value(self) -> str:
        """The only text of a field that takes one."""
        return self.values[0] if self.values else ""

    @property
    def is_setting(self) -> bool:
        """True if goals of every type have the field."""
        return self.name in criteria.SETTING_FIELDS


_ANY_OF: Final = "Any of these will do."
_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    NAME: ("Name", "For people; nothing depends on it."),
    "tag_id": ("Tag, by id", _ANY_OF),
    "tag_name": ("Tag, by name", "Compared without regard to case, where the goal or the event has no tag id."),
    "product_id": ("Product", _ANY_OF),
    "min_amount": ("Least amount", "In major units such as 49.90; a payment of exactly this much counts."),
    "currency": ("Currency", "Three letters, such as EUR."),
    "any_purchase": ("Any purchase", "Stands alone: leave the fields above empty."),
    "calendar_id": ("Calendar", _ANY_OF),
    "service_id": ("Service", _ANY_OF),
    "any_appointment": ("Any appointment", "Stands alone: leave the fields above empty."),
    "form_id": ("Form", _ANY_OF),
    "pipeline_id": ("Pipeline", _ANY_OF),
    "stage_id": ("Stage", _ANY_OF),
    "times": ("Times", "How often it has to happen, from 2 to 1,000; empty for once. Needs a window or a deadline."),
    "total_amount": ("Total amount", "Sum of payments at which the goal is achieved. Needs a currency."),
    "within": ("Window", "Span in which the times or the total have to come together."),
    "deadline": ("Deadline", "Longest time since the enrollment; empty for none."),
    "reversals": ("Refunds, failures, cancellations and rejections", "Whether they take an achievement back."),
    "correlate_by": ("Correlation", "Field of the event that has to be the enrollment's correlation_id."),
}
_REVERSALS: Final = (("", "take the achievement back"), (criteria.KEEP, "change nothing"))


# --- from the form and the goal ---


def typed_of_form(form: ImmutableMultiDict[str, str], row: events.GoalType) -> Typed:
    """Return what somebody typed."""
    names = [*names_of(row), *(_UNIT.format(name) for name in criteria.DURATIONS)]
    return {name: tuple(form.getlist(name)) for name in names if any(form.getlist(name))}


def typed_of_goal(given: Mapping[str, Any], name: str | None) -> Typed:
    """Return criteria, in the form of JSON, and a name as somebody would type them."""
    typed: dict[str, Sequence[str]] = {NAME: (name,)} if name else {}
    for field, value in given.items():
        if field in criteria.DURATIONS:
            number, unit = _number_and_unit(value)
            typed |= {field: (number,), _UNIT.format(field): (unit,)}
        else:
            typed[field] = (_CHECKED,) if value is True else (*value,) if isinstance(value, list) else (str(value),)
    return typed


def _number_and_unit(duration: str) -> tuple[str, str]:
    seconds = parse_duration(duration) or 0
    unit = next(unit for unit, size in _UNITS_SECONDS.items() if seconds % size == 0)
    return str(seconds // _UNITS_SECONDS[unit]), unit


def names_of(row: events.GoalType) -> tuple[str, ...]:
    """Return the names of the fields of a goal type, in the order of the form."""
    flag = (row.any_flag,) if row.any_flag else ()
    return (NAME, *row.criteria, *flag, *criteria.settings_of(row))


# --- to the API ---


def given(typed: Typed) -> dict[str, Any]:
    """Return {name, criteria} for the API, which judges them."""
    asked = {name: _given(name, typed) for name in typed if name in _WORDS and name != NAME}
    name = typed[NAME][0] if NAME in typed else None
    return {"name": name or None, "criteria": {name: value for name, value in asked.items() if value is not None}}


def _given(name: str, typed: Typed) -> Any:
    values = typed[name]
    if name in criteria.ID_FIELDS:
        entered = [value for value in values if value]
        return entered[0] if len(entered) == 1 else entered or None
    # Blanks count in a name, whose tag may have them; numbers and codes are better off without.
    value = values[0] if name == "tag_name" else values[0].strip()
    if not value:
        return None
    match _kind(name):
        case "flag":
            return True
        case "number" if name == "times":
            return int(value) if _WHOLE.fullmatch(value) else value
        case "duration":
            unit = typed.get(_UNIT.format(name), ("days",))[0]
            return _DURATION_OF.get(unit, "{}").format(value) if _WHOLE.fullmatch(value) else value
        case _:
            return value


def _kind(name: str) -> str:
    if name in criteria.ID_FIELDS:
        return IDS
    if name in ("min_amount", "total_amount", "times"):
        return NUMBER
    if name in criteria.DURATIONS:
        return DURATION
    if name in ("reversals", "correlate_by"):
        return CHOICE
    return FLAG if name.startswith("any_") else TEXT


# --- to the page ---


class Problems(Struct, frozen=True):
    """Sentences about what is wrong: by field, and those about the goal as a whole."""

    by_field: Mapping[str, tuple[str, ...]] = {}
    general: tuple[str, ...] = ()


_POINTER: Final = re.compile(r"(?:/goals/[0-9]+)?(?:/changes)?(?:/criteria)?(?:/([^/]+))?.*")


def problems_of(faults: Iterable[Fault], row: events.GoalType) -> Problems:
    """Return the faults that the API found, beside the fields that their pointers name."""
    names, by_field = names_of(row), dict[str, tuple[str, ...]]()
    general: list[str] = []
    for fault in faults:
        found = _POINTER.fullmatch(fault.pointer)
        name = found[1] if found else None
        if name in names:
            by_field[name] = (*by_field.get(name, ()), fault.detail)
        else:
            general.append(fault.detail)
    return Problems(by_field, tuple(general))


def fields(
    row: events.GoalType,
    typed: Typed,
    problems: Problems = Problems(),  # noqa: B008 - it is frozen
    suggestions: Mapping[str, Sequence[Suggestion]] | None = None,
) -> list[Field]:
    """Return the fields of the form of a goal type, filled in."""
    seen = suggestions or {}
    return [
        Field(
            name,
            _kind(name),
            *_WORDS[name],
            tuple(typed.get(name, ())),
            unit=typed.get(_UNIT.format(name), ("days",))[0],
            choices=_choices(name, row),
            problems=problems.by_field.get(name, ()),
            suggestions=tuple(seen.get(name, ())),
        )
        for name in names_of(row)
        if name != "reversals" or row.reversals or name in typed  # nothing reverses some events
    ]


def _choices(name: str, row: events.GoalType) -> tuple[tuple[str, str], ...]:
    if name == "reversals":
        return _REVERSALS
    if name == "correlate_by":
        return (("", "none"), *((field, field) for field in criteria.correlations_of(row)))
    return tuple((unit, unit) for unit in _UNITS_SECONDS) if name in criteria.DURATIONS else ()
