"""What people give as a goal or as a change of one, checked before anything is stored."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from goalworker import events, goals
from goalworker.goal_store import refusals

NAME_RULE: Final = "`name` must be text of 1 to 255 bytes without control characters, or null"


class Draft(Struct, frozen=True):
    """A goal that somebody wants."""

    goal_type: str
    criteria: goals.Criteria
    name: str | None = None


class Changes(Struct, frozen=True):
    """What somebody wants to be different; what is UNSET stays, and criteria replace the whole."""

    criteria: goals.Criteria | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


def draft(given: Mapping[str, Any]) -> Draft:
    """Return a new goal from {goal_type, criteria, name?}, numbers as int or Decimal; InvalidGoalError has every fault.

    The pointers of the faults begin at what was given.
    """
    faults = _unknown(given, ("goal_type", "criteria", "name"))
    goal_type, name = given.get("goal_type"), given.get("name")
    criteria: goals.Criteria | None = None
    if not isinstance(goal_type, str) or goal_type not in events.GOAL_TYPES:
        faults.append(goals.Fault("/goal_type", f"`goal_type` must be one of {', '.join(events.GOAL_TYPES)}"))
    else:
        criteria = _criteria(goal_type, given.get("criteria"), faults)
        if criteria is not None and not faults and _is_name(name):
            return Draft(goal_type, criteria, name)
    if not _is_name(name):
        faults.append(goals.Fault("/name", NAME_RULE))
    raise refusals.InvalidGoalError(faults)


def changes(goal_type: str, given: Mapping[str, Any]) -> Changes:
    """Return the change that {criteria?, name?, is_active?} asks for; InvalidGoalError has every fault."""
    faults = _unknown(given, ("criteria", "name", "is_active"))
    criteria = _criteria(goal_type, given["criteria"], faults) if "criteria" in given else UNSET
    name, is_active = given.get("name", UNSET), given.get("is_active", UNSET)
    if name is not UNSET and not _is_name(name):
        faults.append(goals.Fault("/name", NAME_RULE))
    if is_active is not UNSET and not isinstance(is_active, bool):
        faults.append(goals.Fault("/is_active", "`is_active` must be true or false"))
    if faults or criteria is None:
        raise refusals.InvalidGoalError(faults)
    return Changes(criteria, name, is_active)


def require_ids(**ids: str) -> None:
    """Refuse texts that can't be ids from outside (contract section 1)."""
    rule = "must be text of 1 to 255 bytes without control characters"
    faults = [goals.Fault(f"/{field}", f"`{field}` {rule}") for field, text in ids.items() if not events.is_text(text)]
    if faults:
        raise refusals.InvalidGoalError(faults)


def _criteria(goal_type: str, given: object, faults: list[goals.Fault]) -> goals.Criteria | None:
    if given is not None and not isinstance(given, Mapping):
        faults.append(goals.Fault("/criteria", "`criteria` must be an object"))
        return None
    try:
        return goals.criteria_of(goal_type, given or {})
    except goals.CriteriaError as error:
        faults += [goals.Fault(f"/criteria{fault.pointer}", fault.detail) for fault in error.faults]
        return None


def _is_name(value: object) -> bool:
    return value is None or (isinstance(value, str) and events.is_text(value))


def _unknown(given: Mapping[str, Any], known: Collection[str]) -> list[goals.Fault]:
    return [
        goals.Fault(
            f"/{goals.pointer(name)}", f"`{goals.printable(name[:64])}` is unknown; there are {', '.join(known)}"
        )
        for name in given
        if name not in known
    ]
