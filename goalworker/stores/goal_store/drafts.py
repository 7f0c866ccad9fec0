"""Drafts and changes of goals, parsed from JSON and checked before anything is stored."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from goalworker.domain import criteria_parsing, events
from goalworker.domain.criteria import Criteria
from goalworker.domain.faults import Fault, pointer, printable
from goalworker.domain.text import TEXT_RULE, is_valid_text
from goalworker.stores.goal_store import refusals

NAME_RULE: Final = f"`name` {TEXT_RULE}, or null"


class Draft(Struct, frozen=True):
    """A new goal."""

    goal_type: str
    criteria: Criteria
    name: str | None = None


class Changes(Struct, frozen=True):
    """Changes to a goal; UNSET fields stay, and criteria replace the whole."""

    criteria: Criteria | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


def parse_draft(given: Mapping[str, Any]) -> Draft:
    """Return a new goal from {goal_type, criteria, name?}, numbers as int or Decimal; InvalidGoalError has every fault.

    Pointers of faults are relative to the given object.
    """
    faults = _unknown_fields(given, ("goal_type", "criteria", "name"))
    goal_type, name = given.get("goal_type"), given.get("name")
    criteria: Criteria | None = None
    if not isinstance(goal_type, str) or goal_type not in events.GOAL_TYPES:
        faults.append(Fault("/goal_type", f"`goal_type` must be one of {', '.join(events.GOAL_TYPES)}"))
    else:
        criteria = _criteria(goal_type, given.get("criteria"), faults)
        if criteria is not None and not faults and _is_valid_name(name):
            return Draft(goal_type, criteria, name)
    if not _is_valid_name(name):
        faults.append(Fault("/name", NAME_RULE))
    raise refusals.InvalidGoalError(faults)


def parse_changes(goal_type: str, given: Mapping[str, Any]) -> Changes:
    """Return the changes in {criteria?, name?, is_active?}; InvalidGoalError has every fault."""
    faults = _unknown_fields(given, ("criteria", "name", "is_active"))
    criteria = _criteria(goal_type, given["criteria"], faults) if "criteria" in given else UNSET
    name, is_active = given.get("name", UNSET), given.get("is_active", UNSET)
    if name is not UNSET and not _is_valid_name(name):
        faults.append(Fault("/name", NAME_RULE))
    if is_active is not UNSET and not isinstance(is_active, bool):
        faults.append(Fault("/is_active", "`is_active` must be true or false"))
    if faults or criteria is None:
        raise refusals.InvalidGoalError(faults)
    return Changes(criteria, name, is_active)


def warnings(criteria: Criteria) -> list[Fault]:
    """Return what a goal's criteria may say but seldom mean; pointers are relative to the goal."""
    return [_of_goal(warning) for warning in criteria_parsing.warnings(criteria)]


def require_ids(**ids: str) -> None:
    """Raise InvalidGoalError unless every text is a valid id from outside (contract section 1)."""
    faults = [Fault(f"/{field}", f"`{field}` {TEXT_RULE}") for field, text in ids.items() if not is_valid_text(text)]
    if faults:
        raise refusals.InvalidGoalError(faults)


def _criteria(goal_type: str, given: object, faults: list[Fault]) -> Criteria | None:
    if given is not None and not isinstance(given, Mapping):
        faults.append(Fault("/criteria", "`criteria` must be an object"))
        return None
    try:
        return criteria_parsing.parse_criteria(goal_type, given or {})
    except criteria_parsing.CriteriaError as error:
        faults += map(_of_goal, error.faults)
        return None


def _of_goal(of_criteria: Fault) -> Fault:
    return Fault(f"/criteria{of_criteria.pointer}", of_criteria.detail)


def _is_valid_name(value: object) -> bool:
    return value is None or (isinstance(value, str) and is_valid_text(value))


def _unknown_fields(given: Mapping[str, Any], allowed: Collection[str]) -> list[Fault]:
    return [
        Fault(f"/{pointer(name)}", f"`{printable(name[:64])}` is unknown; there are {', '.join(allowed)}")
        for name in given
        if name not in allowed
    ]
