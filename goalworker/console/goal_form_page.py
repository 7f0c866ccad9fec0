"""Forms of goals: to create one and to edit one, with a plan first or at once."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter
from msgspec import Struct
from starlette.responses import Response

from goalworker import api, errors
from goalworker.api import goal_changes, goal_jobs, problems
from goalworker.console import goal_addresses, goal_fields, goal_page, goal_requests, goal_view, rendering, visitors
from goalworker.domain import events, seen_values
from goalworker.domain.faults import Fault
from goalworker.postgres import connections
from goalworker.stores import goal_store, jobs, stats, value_suggestions

router = APIRouter(include_in_schema=False)

_SUGGESTIONS: Final = 50
# Empty inputs after the ids that are given, and how many there are once somebody asked for more.
_EMPTY_INPUTS: Final = 1
_MORE_INPUTS: Final = 5
PLAN: Final = "plan"
MORE: Final = "more"
_REFUSALS: Final = (
    problems.ProblemError,
    goal_store.InvalidGoalError,
    goal_store.DuplicateGoalError,
    goal_store.TooManyGoalsError,
    goal_store.LockBusyError,
    jobs.TooManyJobsError,
)


class Sheet(Struct, frozen=True):
    """A form as its page shows it: of a stored goal or of a new one, with what was typed and what is wrong."""

    row: events.GoalType
    typed: goal_fields.Typed
    goal: goal_store.StoredGoal | None = None
    problem: problems.ProblemError | None = None
    twin: UUID | None = None
    empty_inputs: int = _EMPTY_INPUTS
    conflict: Mapping[str, Any] | None = None


# --- new goals ---


@router.get(goal_addresses.NEW)
async def show_new(asked: goal_requests.ReadWorkflow) -> Response:
    """Show the types of goals, or the form of one, perhaps as it was planned."""
    _require_writer(asked.visitor)
    await _require_workflow(asked)
    planned = await _planned(asked)
    if planned is not None and "goal_type" in planned:
        typed = goal_fields.typed_of_goal(planned["criteria"], planned["name"])
        return await _show(asked, Sheet(goal_view.row_of(planned["goal_type"]), typed))
    goal_type = asked.request.query_params.get("goal_type", "")
    if goal_type in events.GOAL_TYPE_TABLE:
        return await _show(asked, Sheet(goal_view.row_of(goal_type), {}))
    path = goal_addresses.of_workflow(asked.workflow_id)
    return rendering.page(
        asked.request,
        asked.visitor,
        "goal_types.html",
        workflow_id=asked.workflow_id,
        workflow_path=path,
        here=f"{path}/goals/new",
        goal_types=goal_view.GOAL_TYPES,
    )


@router.post(goal_addresses.NEW)
async def create_goal(asked: goal_requests.ChangedWorkflow) -> Response:
    """Create a goal, or plan it."""
    await _require_workflow(asked)
    form = await visitors.form(asked.request)
    row = _row(form.get("goal_type", ""))
    sheet = Sheet(row, goal_fields.typed_of_form(form, row))
    if form.get("do") == MORE:
        return await _show(asked, _with_more(sheet))
    draft = {"goal_type": row.name, **goal_fields.given(sheet.typed)}
    try:
        if form.get("do") == PLAN:
            return await _plan(asked, draft)
        goal = await goal_changes.create(asked.context, asked.visitor.caller, asked.workflow_id, draft)
    except _REFUSALS as error:
        return await _show(asked, _refused(sheet, error))
    return goal_addresses.to(asked.request, f"{goal_addresses.of_goal(asked.workflow_id, goal.id)}?done=created")


# --- stored goals ---


@router.get(f"{goal_addresses.GOAL}/edit")
async def show_edit(asked: goal_requests.ReadGoal) -> Response:
    """Show the form of a goal as it is, or as it was planned."""
    _require_writer(asked.visitor)
    goal = await goal_page.stored(asked)
    planned = await _planned(asked)
    state = goal_view.state_of(goal)
    if planned is not None and planned.get("goal_id") == str(asked.goal_id):
        state |= planned["changes"]
    typed = goal_fields.typed_of_goal(state["criteria"], state["name"])
    return await _show(asked, Sheet(goal_view.row_of(goal.goal_type), typed, goal))


@router.post(f"{goal_addresses.GOAL}/edit")
async def change_goal(asked: goal_requests.ChangedGoal) -> Response:
    """Change a goal, or plan its change; a goal that somebody else changed since is left as it is."""
    goal = await goal_page.stored(asked)
    form, row = await visitors.form(asked.request), goal_view.row_of(goal.goal_type)
    seen = goal_page.version_of(form)
    sheet = Sheet(row, goal_fields.typed_of_form(form, row), goal)
    if seen not in (None, goal.version):
        return await _show_conflict(asked, sheet, seen)
    if form.get("do") == MORE:
        return await _show(asked, _with_more(sheet))
    changes = goal_fields.given(sheet.typed)
    try:
        if form.get("do") == PLAN:
            return await _plan(asked, {"goal_id": str(asked.goal_id), "changes": changes})
        saved = await goal_changes.change(
            asked.context, asked.visitor.caller, asked.workflow_id, asked.goal_id, changes, seen
        )
    except goal_store.StaleGoalError:
        return await _show_conflict(asked, sheet, seen)
    except _REFUSALS as error:
        return await _show(asked, _refused(sheet, error))
    done = "unchanged" if saved.version == goal.version else "saved"
    return goal_addresses.to(asked.request, f"{goal_addresses.of_goal(asked.workflow_id, asked.goal_id)}?done={done}")


# --- both ---


def _require_writer(visitor: visitors.Visitor) -> None:
    if not visitor.may_write:
        raise problems.ProblemError(problems.FORBIDDEN, "Changes need a key with the scope `goals:write`")


async def _require_workflow(asked: goal_requests.OfWorkflow) -> None:
    tenant_id = asked.visitor.caller.tenant_id
    async with connections.tenant_transaction(asked.context.pool, tenant_id, "goals_read") as connection:
        await stats.require_workflow(connection, tenant_id, asked.workflow_id)


async def _plan(asked: goal_requests.OfWorkflow, goal: Mapping[str, Any]) -> Response:
    """Plan a new or a changed goal, and go on at the plan's page."""
    plan_id = await goal_jobs.plan(asked.context, asked.visitor.caller, asked.workflow_id, {"goals": [goal]})
    return goal_addresses.to(asked.request, goal_addresses.of_plan(asked.workflow_id, plan_id))


def _row(goal_type: str) -> events.GoalType:
    if goal_type not in events.GOAL_TYPE_TABLE:
        detail = f"`goal_type` must be one of {', '.join(events.GOAL_TYPES)}"
        raise problems.invalid([Fault("/goal_type", detail)])
    return goal_view.row_of(goal_type)


async def _planned(asked: goal_requests.OfWorkflow) -> Mapping[str, Any] | None:
    """Return the goal or the change of the plan that the address names, to fill the form with."""
    try:
        plan_id = UUID(asked.request.query_params.get(PLAN, ""))
    except ValueError:
        return None
    key = jobs.JobKey(asked.visitor.caller.tenant_id, jobs.PLAN, asked.workflow_id, plan_id)
    found = await goal_jobs.find(asked.context, key)
    goals: Sequence[Mapping[str, Any]] = found.request["goals"]
    return goals[0] if len(goals) == 1 else None


def _with_more(sheet: Sheet) -> Sheet:
    return Sheet(sheet.row, sheet.typed, sheet.goal, empty_inputs=_MORE_INPUTS)


def _refused(sheet: Sheet, error: problems.ProblemError | errors.GoalworkerError) -> Sheet:
    twin = error.goal_id if isinstance(error, goal_store.DuplicateGoalError) else None
    return Sheet(sheet.row, sheet.typed, sheet.goal, api.problem_of(error), twin)


async def _show_conflict(asked: goal_requests.OfGoal, sheet: Sheet, seen: int | None) -> Response:
    """Show the form again, over what somebody else made of the goal since; sending it again overwrites that."""
    conflict = await goal_page.versions_since(asked, seen)
    now: goal_store.StoredGoal = conflict["now"]
    mine = {**goal_view.state_of(now), **goal_fields.given(sheet.typed)}
    conflict["mine"] = goal_view.differences(goal_view.state_of(now), mine)
    return await _show(asked, Sheet(sheet.row, sheet.typed, now, conflict=conflict))


async def _show(asked: goal_requests.OfWorkflow, sheet: Sheet) -> Response:
    faults = sheet.problem.faults if sheet.problem else ()
    found = goal_fields.problems_of(faults, sheet.row)
    general = found.general if faults or not sheet.problem else (sheet.problem.detail,)
    if sheet.problem and sheet.problem.kind == problems.TOO_MANY_GOALS:
        general = (sheet.problem.detail, *general)
    path = goal_addresses.of_workflow(asked.workflow_id)
    goal = sheet.goal
    status = sheet.problem.kind.status if sheet.problem else problems.STALE.status if sheet.conflict else 200
    return rendering.page(
        asked.request,
        asked.visitor,
        "goal_form.html",
        status,
        headers=dict(sheet.problem.headers) if sheet.problem else None,
        workflow_id=asked.workflow_id,
        workflow_path=path,
        here=f"{path}/goals/{goal.id}" if goal else f"{path}/goals/new",
        goal=goal,
        goal_type=sheet.row.name,
        title=goal_view.title(goal.goal_type, goal.name) if goal else goal_view.GOAL_TYPES[sheet.row.name],
        fields=goal_fields.fields(sheet.row, sheet.typed, found, await _suggestions(asked, sheet.row)),
        general=general,
        is_refused=sheet.problem is not None,
        twin=sheet.twin,
        empty_inputs=sheet.empty_inputs,
        conflict=sheet.conflict,
    )


async def _suggestions(
    asked: goal_requests.OfWorkflow, row: events.GoalType
) -> dict[str, list[goal_fields.Suggestion]]:
    """Return values that events have had in the fields of a goal type, the most frequent first."""
    tenant_id = asked.visitor.caller.tenant_id
    found: dict[str, list[goal_fields.Suggestion]] = {}
    async with connections.tenant_transaction(asked.context.pool, tenant_id, "seen_values") as connection:
        for field in seen_values.FIELDS[row.event_type]:
            seen = await value_suggestions.frequent(connection, tenant_id, row.event_type, field, limit=_SUGGESTIONS)
            found |= goal_view.suggestions(field, seen)
    return found
