"""Goal file of `goalworker goals apply`: the goals that workflows shall have, and the steps towards that."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from msgspec import Struct, structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain import exact_json, goals
from goalworker.domain.criteria import Criteria, criteria_of_json, criteria_to_json
from goalworker.domain.faults import Fault, pointer
from goalworker.domain.text import TEXT_RULE, is_valid_text
from goalworker.postgres import connections
from goalworker.stores import goal_store, goal_warnings


class GoalInFile(Struct, frozen=True):
    """A goal of the file; without a name, the stored name stays."""

    draft: goal_store.Draft
    is_named: bool

    @property
    def identity(self) -> tuple[str, Criteria]:
        """Type and criteria, by which a goal of the file is found among the stored ones."""
        return (self.draft.goal_type, self.draft.criteria)


class Workflow(Struct, frozen=True):
    """A workflow of the file; without a logic, the stored logic stays."""

    workflow_id: str
    goals: tuple[GoalInFile, ...] = ()
    logic: str | None = None


class Step(Struct, frozen=True):
    """A change, or a goal or logic that stays unchanged; the command prints its fields."""

    action: str
    workflow_id: str
    goal_id: UUID | None = None
    goal_type: str | None = None
    criteria: dict[str, Any] | None = None
    name: str | None = None
    logic: str | None = None
    version: int | None = None


# --- the file ---


def parse(text: bytes, maximum: int) -> tuple[Workflow, ...]:
    """Return the workflows of a file; GoalworkerError with every fault and its JSON pointer."""
    try:
        given = exact_json.decode(text)
    except ValueError as error:
        raise errors.GoalworkerError(f"The file is not JSON: {error}; nothing was changed") from None
    faults: list[Fault] = []
    workflows = tuple(
        _workflow(workflow, f"/workflows/{number}", maximum, faults)
        for number, workflow in enumerate(_list(given, "workflows", "", faults))
    )
    for workflow_id, count in Counter(workflow.workflow_id for workflow in workflows).items():
        if count > 1 and not faults:
            faults.append(Fault("/workflows", f"the workflow {workflow_id!r} occurs {count} times"))
    _refuse(faults)
    return workflows


def _refuse(faults: Iterable[Fault]) -> None:
    lines = [f"  {fault.pointer or '/'}: {fault.detail}" for fault in faults]
    if lines:
        raise errors.GoalworkerError("\n".join(["The file has faults, and nothing was changed:", *lines]))


def _workflow(given: Any, at: str, maximum: int, faults: list[Fault]) -> Workflow:
    given_goals = _list(given, "goals", at, faults, others=("workflow_id", "logic"))
    if not isinstance(given, Mapping):
        return Workflow("")
    workflow_id, logic = given.get("workflow_id"), given.get("logic")
    if not isinstance(workflow_id, str) or not is_valid_text(workflow_id):
        faults.append(Fault(f"{at}/workflow_id", TEXT_RULE))
        workflow_id = ""
    if logic is not None and logic not in goals.LOGICS:
        faults.append(Fault(f"{at}/logic", f"must be one of {', '.join(goals.LOGICS)}"))
    if len(given_goals) > maximum:
        faults.append(Fault(f"{at}/goals", str(goal_store.TooManyGoalsError(maximum))))
    found = [_goal(goal, f"{at}/goals/{number}", faults) for number, goal in enumerate(given_goals)]
    drafts = tuple(goal for goal in found if goal is not None)
    if len({goal.identity for goal in drafts}) < len(drafts):
        faults.append(Fault(f"{at}/goals", "two goals have the same goal_type and criteria"))
    return Workflow(workflow_id, drafts, logic)


def _goal(given: Any, at: str, faults: list[Fault]) -> GoalInFile | None:
    if not isinstance(given, Mapping):
        faults.append(Fault(at, "must be an object"))
        return None
    try:
        return GoalInFile(goal_store.parse_draft(given), "name" in given)
    except goal_store.InvalidGoalError as error:
        faults += [Fault(f"{at}{fault.pointer}", fault.detail) for fault in error.faults]
        return None


def _list(given: Any, name: str, at: str, faults: list[Fault], others: Collection[str] = ()) -> list[Any]:
    """Return the list in a field of an object, which may have the other fields and no more."""
    if not isinstance(given, Mapping) or not isinstance(given.get(name), list):
        faults.append(Fault(at, f"must be an object with a list `{name}`"))
        return []
    faults += [
        Fault(f"{at}/{pointer(field)}", f"is unknown; there are {', '.join((*others, name))}")
        for field in given
        if field not in (name, *others)
    ]
    return list(given[name])


# --- the steps ---

CREATED: Final = "created"
RENAMED: Final = "renamed"
DELETED: Final = "deleted"
LOGIC_SET: Final = "logic_set"
UNCHANGED: Final = "unchanged"


async def plan(
    pool: sa_async.AsyncEngine, tenant_id: str, workflows: Iterable[Workflow], *, maximum: int, prune: bool
) -> list[Step]:
    """Return the steps for all workflows of a file; GoalworkerError where the database refuses some."""
    workflows = list(workflows)
    drafts = {
        f"/workflows/{number}/goals/{position}": goal.draft.criteria
        for number, workflow in enumerate(workflows)
        for position, goal in enumerate(workflow.goals)
    }
    untracked = await goal_store.untracked_faults(pool, tenant_id, drafts.values())
    _refuse(
        Fault(f"{at}{fault.pointer}", fault.detail)
        for at, found in zip(drafts, untracked, strict=True)
        for fault in found
    )
    return [
        step for workflow in workflows for step in await steps(pool, tenant_id, workflow, maximum=maximum, prune=prune)
    ]


async def steps(
    pool: sa_async.AsyncEngine, tenant_id: str, workflow: Workflow, *, maximum: int, prune: bool
) -> list[Step]:
    """Return the steps for a workflow; GoalworkerError where it would have more goals than the maximum.

    The logic comes first, so that no new goal counts by the old one, and deletions make room before goals are created.
    """
    page = await goal_store.list_goals(pool, tenant_id, workflow.workflow_id, limit=1_000)
    stored = {(goal.goal_type, _criteria(goal)): goal for goal in page.goals}
    wanted = {goal.identity for goal in workflow.goals}
    pruned = [goal for identity, goal in stored.items() if identity not in wanted] if prune else []
    if len(stored.keys() | wanted) - len(pruned) > maximum:
        full = goal_store.TooManyGoalsError(maximum)
        problem = (
            f"{full.sentence} by {workflow.workflow_id!r}, counting the goals that it has already; nothing was changed"
        )
        raise errors.GoalworkerError(f"{problem}. {full.remedy}; `--prune` deletes goals that the file lacks")
    return [
        *([await _logic_step(pool, tenant_id, workflow)] if workflow.logic else []),
        *(_step(DELETED, goal, goal.name) for goal in pruned),
        *(_goal_step(workflow.workflow_id, goal, stored.get(goal.identity)) for goal in workflow.goals),
    ]


def _criteria(goal: goal_store.StoredGoal) -> Criteria:
    return criteria_of_json(goal.criteria)


async def _logic_step(pool: sa_async.AsyncEngine, tenant_id: str, workflow: Workflow) -> Step:
    is_set = await goal_store.get_logic(pool, tenant_id, workflow.workflow_id) == workflow.logic
    return Step(UNCHANGED if is_set else LOGIC_SET, workflow.workflow_id, logic=workflow.logic)


def _goal_step(workflow_id: str, wanted: GoalInFile, stored: goal_store.StoredGoal | None) -> Step:
    draft = wanted.draft
    if stored is None:
        criteria = criteria_to_json(draft.goal_type, draft.criteria)
        return Step(CREATED, workflow_id, None, draft.goal_type, criteria, draft.name)
    if wanted.is_named and draft.name != stored.name:
        return _step(RENAMED, stored, draft.name)
    return _step(UNCHANGED, stored, stored.name)


def _step(action: str, stored: goal_store.StoredGoal, name: str | None) -> Step:
    return Step(action, stored.workflow_id, stored.id, stored.goal_type, stored.criteria, name, version=stored.version)


async def warnings(pool: sa_async.AsyncEngine, tenant_id: str, planned: Iterable[Step]) -> list[tuple[str, Fault]]:
    """Return each warning about a goal that would be created, with the goal's workflow_id."""
    new_goals = [
        (step.workflow_id, step.goal_type, criteria_of_json(step.criteria))
        for step in planned
        if step.action == CREATED and step.goal_type and step.criteria
    ]
    found = await goal_warnings.about(pool, tenant_id, [goal[1:] for goal in new_goals])
    return [(goal[0], warning) for goal, of_goal in zip(new_goals, found, strict=True) for warning in of_goal]


async def take_step(database: connections.Database, tenant_id: str, step: Step, *, actor: str, maximum: int) -> Step:
    """Make the change of a step, and return the step with the goal's id."""
    if step.action == LOGIC_SET and step.logic:
        await goal_store.set_logic(database, tenant_id, step.workflow_id, step.logic, actor=actor)
    elif step.action == CREATED:
        draft = goal_store.parse_draft({"goal_type": step.goal_type, "criteria": step.criteria, "name": step.name})
        goal = await goal_store.create(database, tenant_id, step.workflow_id, draft, actor=actor, maximum=maximum)
        return structs.replace(step, goal_id=goal.id)
    elif step.action == RENAMED and step.goal_id:
        await goal_store.update(database, tenant_id, step.goal_id, {"name": step.name}, actor=actor)
    elif step.action == DELETED and step.goal_id:
        # Only the version that was shown: somebody may have changed the goal since.
        await goal_store.delete(database, tenant_id, step.goal_id, actor=actor, expected_version=step.version)
    return step
