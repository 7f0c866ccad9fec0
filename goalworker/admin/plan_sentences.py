"""Sentences about the result of a plan, as a person reads them."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from msgspec import json

from goalworker.domain.faults import printable
from goalworker.domain.phrases import counted
from goalworker.domain.text import parse_time
from goalworker.stores import goal_store

EVENT_NOUNS: Final = {
    "tag_added": "tag",
    "purchase_made": "payment",
    "appointment_booked": "booking",
    "form_submitted": "form",
    "pipeline_stage_reached": "move",
}
"""What an event of each goal type is called; a plural has an s."""
_MARKS: Final = {"new": "+", "changed": "~", "kept": " "}


def lines(
    workflow_id: str,
    request: Mapping[str, Any],
    stored: Mapping[UUID, goal_store.StoredGoal],
    result: Mapping[str, Any],
) -> list[str]:
    """Return the difference that a plan makes: a head, a line for each goal, and a sum."""
    head = f"{printable(workflow_id)}: {_judged(result)}, {_covered(result['coverage'])}"
    goals = [line for one in result["per_goal"] for line in _goal(one, request, stored)]
    deleted = [f"  - {_label(stored[UUID(one)])}" for one in request["delete"]]
    return [head, *goals, *deleted, f"  = {_sum(result)}"]


def _judged(result: Mapping[str, Any]) -> str:
    sampled = result["sampled"]
    drawn = f" of {sampled['of']:,}" if sampled else ""
    return f"{counted(result['enrollments'], 'enrollment')}{drawn}, {counted(result['events'], 'kept event')}"


def _covered(coverage: Mapping[str, Any]) -> str:
    if coverage["history_from"] is None:
        return "no history: goalworker insight keeps no events here, so only what is stored was judged"
    since = f"history since {_day(coverage['history_from'])}"
    return since if coverage["complete"] else f"{since}, which is later than this plan counts from"


def _goal(
    one: Mapping[str, Any], request: Mapping[str, Any], stored: Mapping[UUID, goal_store.StoredGoal]
) -> Iterator[str]:
    if "index" in one:
        asked = request["goals"][one["index"]]
        goal_type, label, mark = asked["goal_type"], _described(asked["goal_type"], asked["criteria"]), _MARKS["new"]
    elif (goal := stored.get(UUID(one["goal_id"]))) is None or str(goal.id) in request["delete"]:
        return
    else:
        changes = {asked["goal_id"]: asked["changes"] for asked in request["goals"] if "goal_id" in asked}
        goal_type, label = goal.goal_type, _label(goal)
        mark = _MARKS["changed" if str(goal.id) in changes else "kept"]
    noun = EVENT_NOUNS[goal_type]
    parts = [_more(one, noun), _when(one), *(_missed(near, noun) for near in one["near_misses"][:3])]
    yield f"  {mark} {label}"
    yield f"      {'; '.join(part for part in parts if part)}"


def _more(one: Mapping[str, Any], noun: str) -> str:
    if not one["would_achieve"]:
        return f"nobody achieves it, by {counted(one['matched_events'], f'matching {noun}')}"
    if not one["more"]:
        return f"{counted(one['would_achieve'], 'achievement')}, none of them new"
    more = f"+ {one['more']:,} more achieve"
    return f"{more}, {one['only_by_this']:,} of them only by this goal" if one["only_by_this"] else more


def _when(one: Mapping[str, Any]) -> str:
    if one["first_at"] is None:
        return ""
    first = f"the first on {_day(one['first_at'])}"
    return first if one["median_hours"] is None else f"{first}, half of them within {one['median_hours']:g} h"


def _missed(near: Mapping[str, Any], noun: str) -> str:
    criterion, actual = near["pointer"].removeprefix("/"), near["example"]["actual"]
    missed = f"{counted(near['count'], noun)} missed `{criterion}`"
    if actual is None:
        return f"{missed}, most of them without any"
    shown = printable(actual if isinstance(actual, str) else ", ".join(actual))[:64]
    return f"{missed}, {'nearest' if criterion == 'min_amount' else 'most often'} {shown}"


def _sum(result: Mapping[str, Any]) -> str:
    compared = result["compared"]
    parts = [
        f"{counted(compared['only_planned'], 'achievement')} more, {compared['only_live']:,} fewer",
        counted(result["would_exit"], "exit"),
        *(f"{amounts['net']} {currency}" for currency, amounts in sorted(result["revenue"].items())),
    ]
    moved = [f"{compared[name]:,} {name}" for name in ("earlier", "later") if compared[name]]
    return "; ".join([parts[0], *moved, *parts[1:]])


def _label(goal: goal_store.StoredGoal) -> str:
    described = _described(goal.goal_type, goal.criteria)
    return described if goal.name is None else f"{printable(goal.name)}: {described}"


def _described(goal_type: str, criteria: Mapping[str, Any]) -> str:
    return f"{goal_type} {printable(json.encode(criteria).decode())}"


def _day(text: str) -> str:
    time = parse_time(text)
    return text if time is None else f"{time:%-d %B %Y}"
