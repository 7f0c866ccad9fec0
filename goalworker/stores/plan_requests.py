"""Requests of plans: checked as the changes themselves would be, stored as JSON, and read by the runner."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import goals, planning
from goalworker.domain.criteria import Criteria, criteria_of_json, criteria_to_json
from goalworker.domain.faults import Fault, pointer, printable
from goalworker.domain.text import TIME_RULE, parse_time
from goalworker.postgres import tables
from goalworker.stores import goal_store, jobs

PLANNED: Final = "planned"
"""Action of the audit for a plan."""
FIELDS: Final = ("goals", "delete", "logic", "from", "sample")
SAMPLE_MAX: Final = 100_000
"""Enrollments of a sample, at most; they are held in memory."""

_Goal = dict[str, Any]
_Identity = tuple[str, Mapping[str, Any]]


def parse(given: Mapping[str, Any], stored: Iterable[goal_store.StoredGoal], maximum: int) -> dict[str, Any]:
    """Return a request as it is stored; `stored` are the workflow's goals that are not deleted.

    InvalidGoalError with every fault, GoalNotFoundError, DuplicateGoalError, TooManyGoalsError.
    """
    known, faults = {goal.id: goal for goal in stored}, _unknown_fields(given)
    deleted = [_known_id(one, known, f"/delete/{n}") for n, one in enumerate(_list(given, "delete", faults))]
    asked = [_goal(one, f"/goals/{number}", known, faults) for number, one in enumerate(_list(given, "goals", faults))]
    request = {
        "goals": asked,
        "delete": sorted({str(goal.id) for goal in deleted}),
        "logic": _logic(given.get("logic"), faults),
        "from": _moment(given.get("from"), faults),
        "sample": _sample(given.get("sample"), faults),
    }
    if faults:
        raise goal_store.InvalidGoalError(faults)
    left = {goal.id: goal for goal in known.values() if goal not in deleted}
    _refuse_twins(asked, left)
    new = [one for one in asked if "goal_type" in one]
    if new and len(left) + len(new) > maximum:
        raise goal_store.TooManyGoalsError(maximum)
    return request


def criteria_asked(request: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the criteria that a parsed request asks for, by the pointer to what has them."""
    found = {
        f"/goals/{number}{'/changes' if 'changes' in one else ''}": one.get("changes", one).get("criteria")
        for number, one in enumerate(request["goals"])
    }
    return {at: criteria for at, criteria in found.items() if criteria is not None}


async def insert(
    connection: sa_async.AsyncConnection, tenant_id: str, workflow_id: str, request: Mapping[str, Any], *, actor: str
) -> UUID:
    """Queue a plan, record it in the audit, and return its id."""
    job_id = await jobs.insert(connection, tenant_id, jobs.PLAN, workflow_id, request, actor=actor)
    entry = {"tenant_id": tenant_id, "workflow_id": workflow_id, "at": sa.func.clock_timestamp(), "actor": actor}
    after = {"plan_id": str(job_id), **request}
    await connection.execute(sa.insert(tables.audit_log).values(**entry, action=PLANNED, before=sa.null(), after=after))
    return job_id


def proposal_of(request: Mapping[str, Any], workflow: goals.Workflow) -> planning.Proposal:
    """Return the proposal in a parsed request, without goals that were deleted since."""
    live = {goal.goal_id for goal in workflow.goals if goal.versions[-1].active_to is None}
    proposed = [_proposed(one) for one in request["goals"]]
    return planning.Proposal(
        tuple(one for one in proposed if isinstance(one, planning.NewGoal) or one.goal_id in live),
        frozenset(map(UUID, request["delete"])) & live,
        request["logic"],
    )


def since_of(request: Mapping[str, Any]) -> datetime | None:
    """Return the moment since which a plan counts, None for the beginning of history."""
    return None if request["from"] is None else parse_time(request["from"])


def _proposed(one: Mapping[str, Any]) -> planning.NewGoal | planning.GoalChange:
    if "goal_type" in one:
        return planning.NewGoal(one["goal_type"], criteria_of_json(one["criteria"]))
    criteria = one["changes"].get("criteria")
    return planning.GoalChange(
        UUID(one["goal_id"]),
        None if criteria is None else criteria_of_json(criteria),
        one["changes"].get("is_active"),
    )


# --- fields ---


def _unknown_fields(given: Mapping[str, Any]) -> list[Fault]:
    return [
        Fault(f"/{pointer(name)}", f"`{printable(name[:64])}` is unknown; there are {', '.join(FIELDS)}")
        for name in given
        if name not in FIELDS
    ]


def _list(given: Mapping[str, Any], name: str, faults: list[Fault]) -> list[Any]:
    value = given.get(name)
    if value is None or isinstance(value, list):
        return value or []
    faults.append(Fault(f"/{name}", f"`{name}` must be a list"))
    return []


def _goal(given: object, at: str, known: Mapping[UUID, goal_store.StoredGoal], faults: list[Fault]) -> _Goal:
    if not isinstance(given, Mapping):
        faults.append(Fault(at, "must be a draft, or an object with `goal_id` and `changes`"))
        return {}
    try:
        if "goal_id" not in given:
            draft = goal_store.parse_draft(given)
            criteria = criteria_to_json(draft.goal_type, draft.criteria)
            return {"goal_type": draft.goal_type, "criteria": criteria, "name": draft.name}
        goal = _known_id(given["goal_id"], known, "/goal_id")
        return {"goal_id": str(goal.id), "changes": _changes(goal, given, at, faults)}
    except goal_store.InvalidGoalError as error:
        faults += [Fault(f"{at}{fault.pointer}", fault.detail) for fault in error.faults]
        return {}


def _changes(goal: goal_store.StoredGoal, given: Mapping[str, Any], at: str, faults: list[Fault]) -> _Goal:
    changes = given.get("changes")
    if not isinstance(changes, Mapping) or given.keys() != {"goal_id", "changes"}:
        faults.append(Fault(f"{at}/changes", "a planned change is {goal_id, changes: {criteria?, is_active?, name?}}"))
        return {}
    try:
        parsed = goal_store.parse_changes(goal.goal_type, changes)
    except goal_store.InvalidGoalError as error:
        faults += [Fault(f"{at}/changes{fault.pointer}", fault.detail) for fault in error.faults]
        return {}
    kept = {"is_active": parsed.is_active, "name": parsed.name}
    asked: _Goal = {name: value for name, value in kept.items() if value is not UNSET}
    if isinstance(parsed.criteria, Criteria):
        asked["criteria"] = criteria_to_json(goal.goal_type, parsed.criteria)
    return asked


def _known_id(given: object, known: Mapping[UUID, goal_store.StoredGoal], at: str) -> goal_store.StoredGoal:
    try:
        goal_id = UUID(str(given))
    except ValueError:
        fault = Fault(at, f"must be the id of a goal, a UUID; got {printable(str(given)[:64])}")
        raise goal_store.InvalidGoalError([fault]) from None
    if goal_id not in known:
        raise goal_store.GoalNotFoundError(goal_id)
    return known[goal_id]


def _logic(given: object, faults: list[Fault]) -> str | None:
    if given is None or given in goals.LOGICS:
        return None if given is None else str(given)
    faults.append(Fault("/logic", f"`logic` must be one of {', '.join(goals.LOGICS)}"))
    return None


def _moment(given: object, faults: list[Fault]) -> str | None:
    if given is None:
        return None
    moment = parse_time(given) if isinstance(given, str) else None
    if moment is None:
        faults.append(Fault("/from", f"`from` {TIME_RULE}"))
        return None
    return moment.isoformat()


def _sample(given: object, faults: list[Fault]) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= SAMPLE_MAX):
        return given
    rule = f"must be a whole number from 1 to {SAMPLE_MAX:,}; without it, all enrollments are judged"
    faults.append(Fault("/sample", f"`sample` {rule}"))
    return None


def _refuse_twins(asked: Iterable[_Goal], left: Mapping[UUID, goal_store.StoredGoal]) -> None:
    """Refuse goals that would be the same as another one, as creating or changing them would."""
    changed = {UUID(one["goal_id"]): one["changes"] for one in asked if "goal_id" in one}
    identities: list[tuple[UUID | None, _Identity]] = [
        (goal.id, (goal.goal_type, changed.get(goal.id, {}).get("criteria", goal.criteria))) for goal in left.values()
    ]
    for goal_id, identity in identities:
        twin = next((other for other, same in identities if other != goal_id and same == identity), None)
        if goal_id in changed and twin is not None:
            raise goal_store.DuplicateGoalError(twin)
    for number, one in enumerate(asked):
        if "goal_type" in one:
            identity = (one["goal_type"], one["criteria"])
            for goal_id, other in identities:
                if other == identity and goal_id is not None:
                    raise goal_store.DuplicateGoalError(goal_id)
                if other == identity:
                    raise goal_store.InvalidGoalError([Fault(f"/goals/{number}", "is another goal of this plan again")])
            identities.append((None, identity))
