"""Plans: a workflow as if other goals had been in force since a moment (contract section 7)."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct, json, structs

from goalworker.domain import goals
from goalworker.domain.criteria import Criteria
from goalworker.domain.facts import WorkflowKey


class NewGoal(Struct, frozen=True):
    """A planned goal."""

    goal_type: str
    criteria: Criteria


class GoalChange(Struct, frozen=True):
    """A planned change of a goal; None leaves a field as it is."""

    goal_id: UUID
    criteria: Criteria | None = None
    is_active: bool | None = None


class Proposal(Struct, frozen=True):
    """Goals and a logic that a workflow shall have, in addition to what it has."""

    goals: tuple[NewGoal | GoalChange, ...] = ()
    deleted: frozenset[UUID] = frozenset()
    logic: str | None = None


class Planned(Struct, frozen=True):
    """A planned workflow, and the index of each new goal in its proposal."""

    workflow: goals.Workflow
    index_of: Mapping[UUID, int]


def planned(key: WorkflowKey, workflow: goals.Workflow, proposal: Proposal, since: datetime) -> Planned:
    """Return a workflow as if a proposal had been in force since a moment; before, and otherwise, it is as it was."""
    known = dict(workflow.goals_by_id)
    for goal_id in proposal.deleted:
        known[goal_id] = structs.replace(known[goal_id], versions=_until(known[goal_id].versions, since))
    index_of: dict[UUID, int] = {}
    for index, goal in enumerate(proposal.goals):
        if isinstance(goal, GoalChange):
            known[goal.goal_id] = _changed(known[goal.goal_id], goal, since)
        else:
            goal_id = UUID(int=index)  # a goal that is stored has a random id
            version = goals.GoalVersion(1, goal.criteria, True, since)
            known[goal_id] = goals.Goal(key[0], goal_id, key[1], goal.goal_type, since, (version,))
            index_of[goal_id] = index
    lived = tuple(goal for goal in known.values() if goal.versions)
    return Planned(goals.Workflow(lived, _logics(workflow.logics, proposal.logic, since)), index_of)


def _changed(goal: goals.Goal, change: GoalChange, since: datetime) -> goals.Goal:
    last = goal.versions[-1]
    version = goals.GoalVersion(
        last.number + 1,
        last.criteria if change.criteria is None else change.criteria,
        last.is_active if change.is_active is None else change.is_active,
        since,
    )
    return structs.replace(goal, versions=(*_until(goal.versions, since), version))


def _until(versions: Iterable[goals.GoalVersion], moment: datetime) -> tuple[goals.GoalVersion, ...]:
    """Return the versions that began before a moment, none of them in force from it on."""
    return tuple(
        structs.replace(version, active_to=min(version.active_to or moment, moment))
        for version in versions
        if version.active_from < moment
    )


def _logics(
    logics: tuple[goals.LogicVersion, ...], logic: str | None, since: datetime
) -> tuple[goals.LogicVersion, ...]:
    if logic is None:
        return logics
    return (*(version for version in logics if version.active_from < since), goals.LogicVersion(logic, since))


def combined_hash(hashes: Sequence[str]) -> str:
    """Return one hash of the plans of several workflows; that of a single one is its own."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("-".join(hashes).encode()).hexdigest()[:16]


def plan_hash(workflow_id: str, versions: Mapping[UUID, int], logic: str, request: Mapping[str, Any]) -> str:
    """Return a hash of a workflow's live goals, by their versions, of its logic, and of what a plan asks for."""
    asked = {name: request.get(name) for name in ("goals", "delete", "logic")}
    stored = sorted((str(goal_id), version) for goal_id, version in versions.items())
    return hashlib.sha256(json.encode([workflow_id, stored, logic, asked], order="deterministic")).hexdigest()[:16]
