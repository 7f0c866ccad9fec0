"""Results of plans as text for people: the difference that a plan makes, in sentences."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from goalworker.cli.paragraphs import wrapped
from goalworker.domain import phrases, plan_words
from goalworker.domain.faults import printable
from goalworker.domain.phrases import counted
from goalworker.stores import goal_store

_NEW: Final = "+"
_CHANGED: Final = "~"
_KEPT: Final = " "
_DELETED: Final = "-"
# Near misses that are shown of each goal; they are sorted by their number.
_NEAR_MISSES_MAX: Final = 3


def lines(
    workflow_id: str,
    request: Mapping[str, Any],
    stored: Mapping[UUID, goal_store.StoredGoal],
    result: Mapping[str, Any],
) -> list[str]:
    """Return the difference that a plan makes: a head, a paragraph for each goal, and a sum."""
    scope = f"{plan_words.judged(result)}, {plan_words.covered(result['coverage'])}"
    found = [*wrapped(f"{printable(workflow_id)}: {scope}", "", "  ")]
    for one in result["per_goal"]:
        found += _goal(one, request, stored)
    for one in request["delete"]:
        goal = stored[UUID(one)]
        found += _headed(_DELETED, _label(goal.goal_type, goal.criteria, goal.name))
    return [*found, *wrapped(_sum(result), "  = ", "    ")]


def _goal(
    one: Mapping[str, Any], request: Mapping[str, Any], stored: Mapping[UUID, goal_store.StoredGoal]
) -> Iterator[str]:
    if "index" in one:
        asked = request["goals"][one["index"]]
        goal_type, mark = asked["goal_type"], _NEW
        label = _label(goal_type, asked["criteria"], asked["name"])
    elif (goal := stored.get(UUID(one["goal_id"]))) is None or str(goal.id) in request["delete"]:
        return
    else:
        changes = {asked["goal_id"]: asked["changes"] for asked in request["goals"] if "goal_id" in asked}
        goal_type, label = goal.goal_type, _label(goal.goal_type, goal.criteria, goal.name)
        mark = _CHANGED if str(goal.id) in changes else _KEPT
    yield from _headed(mark, label)
    noun = phrases.NAMES[goal_type]
    parts = [_more(one, noun)]
    if mark != _KEPT:
        parts += [_when(one), *(plan_words.missed(near, noun) for near in one["near_misses"][:_NEAR_MISSES_MAX])]
    yield from wrapped("; ".join(part for part in parts if part), "      ")


def _headed(mark: str, label: str) -> Iterator[str]:
    return wrapped(label, f"  {mark} ", "    ")


def _more(one: Mapping[str, Any], noun: str) -> str:
    if not one["would_achieve"]:
        return f"nobody achieves it, {counted(one['matched_events'], noun)} matched"
    if not one["more"]:
        return f"{counted(one['would_achieve'], 'achievement')}, none of them new"
    more = f"+ {one['more']:,} more achieve"
    return f"{more}, {one['only_by_this']:,} of them only by this goal" if one["only_by_this"] else more


def _when(one: Mapping[str, Any]) -> str:
    if one["first_at"] is None:
        return ""
    first = f"the first on {plan_words.day(one['first_at'])}"
    if one["median_hours"] is None:
        return first
    return f"{first}, half of them within {plan_words.span(one['median_hours'])}"


def _sum(result: Mapping[str, Any]) -> str:
    compared = result["compared"]
    parts = [
        f"{counted(compared['only_planned'], 'more achievement')}, {_or_none(compared['only_live'])} fewer",
        *(f"{compared[name]:,} {name} than now" for name in ("earlier", "later") if compared[name]),
        counted(result["would_exit"], "exit"),
        *(f"revenue {amounts['net']} {currency}" for currency, amounts in sorted(result["revenue"].items())),
    ]
    return "; ".join(parts)


def _or_none(number: int) -> str:
    return f"{number:,}" if number else "none"


def _label(goal_type: str, criteria: Mapping[str, Any], name: str | None) -> str:
    described = phrases.goal(goal_type, criteria)
    return described if name is None else f"{printable(name)}: {described}"
