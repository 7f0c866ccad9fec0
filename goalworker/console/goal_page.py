"""Page of a goal: criteria, numbers, versions, and what may be done about it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib import parse
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from goalworker.api import goal_answers, goal_changes, parameters, problems, reports, response_models, validation
from goalworker.console import goal_addresses, goal_view, job_view, rendering, visitors
from goalworker.console.addresses import WorkflowId
from goalworker.domain import goal_sentences
from goalworker.domain.faults import Fault
from goalworker.postgres import connections
from goalworker.stores import goal_store, history, jobs

router = APIRouter(include_in_schema=False)

_BACKFILLS_SHOWN: Final = 5
# Changes of a goal on its page, the latest ones; the API lists all of them.
_ACTS_SHOWN: Final = 100
Values = dict[str, Any]


# --- the page ---


@router.get(goal_addresses.GOAL)
async def show_goal(
    request: Request,
    visitor: visitors.Reader,
    context: parameters.InContext,
    workflow_id: WorkflowId,
    goal_id: parameters.GoalId,
) -> Response:
    """Show a goal; with `whole` in the address its numbers too, as for browsers without scripts."""
    values = await page_values(request, visitor, context, workflow_id, goal_id)
    if "whole" in request.query_params:
        values |= await _numbers(request, visitor, context, workflow_id, goal_id)
    return rendering.page(request, visitor, "goal.html", **values)


@router.get(f"{goal_addresses.GOAL}/numbers")
async def show_numbers(
    request: Request,
    visitor: visitors.Reader,
    context: parameters.InContext,
    workflow_id: WorkflowId,
    goal_id: parameters.GoalId,
) -> Response:
    """Show the numbers of a goal, which take longest."""
    values = common(workflow_id, goal_id) | await _numbers(request, visitor, context, workflow_id, goal_id)
    return rendering.page(request, visitor, "_goal_numbers.html", **values)


def common(workflow_id: str, goal_id: UUID) -> Values:
    """Return what every page of a goal shows: the workflow, paths, and the calls of the API."""
    call = f"{parameters.GOALS.format(workflow_id=parse.quote(workflow_id, safe=''))}"
    return {
        "workflow_id": workflow_id,
        "workflow_path": goal_addresses.of_workflow(workflow_id),
        "here": goal_addresses.of_goal(workflow_id, goal_id),
        "goal_id": goal_id,
        "calls": {
            "goal": f"{call}/{goal_id}",
            "audit": f"{call}/{goal_id}/audit",
            "stats": f"{call}/stats",
            "backfills": f"{call}/{goal_id}/backfills",
            "settings": f"{call.removesuffix('goals')}goal-settings",
        },
    }


async def page_values(
    request: Request, visitor: visitors.Visitor, context: parameters.Context, workflow_id: str, goal_id: UUID
) -> Values:
    """Return the values of the page without the numbers; GoalNotFoundError."""
    tenant_id = visitor.caller.tenant_id
    goal = await goal_store.get(context.pool, tenant_id, goal_id, workflow_id=workflow_id)
    entries = await goal_store.get_audit(context.pool, tenant_id, goal_id, workflow_id=workflow_id)
    async with connections.tenant_transaction(context.pool, tenant_id, "jobs") as connection:
        covered = await history.coverage(await connections.driver_of(connection), tenant_id)
        backfills = await jobs.latest_backfills(connection, tenant_id, workflow_id, goal_id, limit=_BACKFILLS_SHOWN)
    return common(workflow_id, goal_id) | {
        "goal": goal,
        "title": goal_view.title(goal.goal_type, goal.name),
        "sentence": goal_sentences.sentence(goal.goal_type, goal.criteria),
        "settings": goal_view.settings(goal.criteria),
        "warnings": await goal_answers.warnings_about(context, tenant_id, [goal]),
        "acts": goal_view.acts(entries[-_ACTS_SHOWN:]),
        "acts_left_out": max(len(entries) - _ACTS_SHOWN, 0),
        "logic": await goal_store.get_logic(context.pool, tenant_id, workflow_id),
        "logics": goal_view.LOGICS,
        "backfills": [(one.status.job_id, job_view.of_job(one, datetime.now(UTC))) for one in backfills],
        "history_from": covered.history_from,
        "backfill": {"from": _earliest(goal, covered.history_from), "exits": "no"},
        "backfill_problems": (),
        "notice": goal_view.NOTICES.get(request.query_params.get("done", "")),
        "counted": None,
    }


def _earliest(goal: goal_store.StoredGoal, history_from: datetime | None) -> str:
    """Return the earliest moment from which the goal can be backfilled, as a field has it; empty without history."""
    if history_from is None:
        return ""
    earliest = max(history_from, goal.updated_at) if goal.version > 1 else history_from
    whole = (earliest + timedelta(microseconds=999_999)).replace(microsecond=0)
    return f"{whole.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"


async def _numbers(
    request: Request, visitor: visitors.Visitor, context: parameters.Context, workflow_id: str, goal_id: UUID
) -> Values:
    query = parameters.StatsQuery.model_validate({})
    stats = await reports.workflow_stats(request, visitor.caller, context, workflow_id, query)
    counted = next((one for one in stats["by_goal"] if one["goal_id"] == goal_id), None)
    return {"counted": counted, "total_enrolled": stats["total_enrolled"]}


# --- changes ---


def version_of(form: visitors.Form) -> int | None:
    """Return the version of the goal that a form was made from; ProblemError for anything else."""
    given = form.get("version", "")
    if not given:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < len("1000000000")):
        raise problems.invalid([Fault("/version", "`version` must be the number of a version")])
    return int(given)


@router.post(f"{goal_addresses.GOAL}/pause")
async def pause_goal(
    request: Request,
    visitor: visitors.Writer,
    context: parameters.InContext,
    workflow_id: WorkflowId,
    goal_id: parameters.GoalId,
) -> Response:
    """Pause a goal."""
    return await _set_active(request, visitor, context, workflow_id, goal_id, is_active=False)


@router.post(f"{goal_addresses.GOAL}/resume")
async def resume_goal(
    request: Request,
    visitor: visitors.Writer,
    context: parameters.InContext,
    workflow_id: WorkflowId,
    goal_id: parameters.GoalId,
) -> Response:
    """Resume a goal."""
    return await _set_active(request, visitor, context, workflow_id, goal_id, is_active=True)


async def _set_active(
    request: Request,
    visitor: visitors.Visitor,
    context: parameters.Context,
    workflow_id: str,
    goal_id: UUID,
    *,
    is_active: bool,
) -> Response:
    expected = version_of(await visitors.form(request))
    change = {"is_active": is_active}
    try:
        await goal_changes.change(context, visitor.caller, workflow_id, goal_id, change, expected)
    except goal_store.StaleGoalError:
        return await _changed_meanwhile(request, visitor, context, workflow_id, goal_id, expected)
    done = "resumed" if is_active else "paused"
    return goal_addresses.to(request, f"{goal_addresses.of_goal(workflow_id, goal_id)}?done={done}")


@router.post(f"{goal_addresses.GOAL}/delete")
async def delete_goal(
    request: Request,
    visitor: visitors.Writer,
    context: parameters.InContext,
    workflow_id: WorkflowId,
    goal_id: parameters.GoalId,
) -> Response:
    """Delete a goal."""
    expected = version_of(await visitors.form(request))
    try:
        await goal_changes.delete(context, visitor.caller, workflow_id, goal_id, expected)
    except goal_store.StaleGoalError:
        return await _changed_meanwhile(request, visitor, context, workflow_id, goal_id, expected)
    return goal_addresses.to(request, goal_addresses.of_workflow(workflow_id))


@router.post(f"{goal_addresses.GOAL}/logic")
async def set_logic(
    request: Request,
    visitor: visitors.Writer,
    context: parameters.InContext,
    workflow_id: WorkflowId,
    goal_id: parameters.GoalId,
) -> Response:
    """Set the logic of the goal's workflow."""
    await goal_store.get(context.pool, visitor.caller.tenant_id, goal_id, workflow_id=workflow_id)
    given = {"logic": (await visitors.form(request)).get("logic")}
    logic = validation.validate(response_models.GoalSettings, given).logic
    caller = visitor.caller
    await goal_store.set_logic(context.pool, caller.tenant_id, workflow_id, logic, actor=caller.actor)
    return goal_addresses.to(request, f"{goal_addresses.of_goal(workflow_id, goal_id)}?done=logic#logic")


# --- a goal that somebody else changed ---


async def _changed_meanwhile(
    request: Request,
    visitor: visitors.Visitor,
    context: parameters.Context,
    workflow_id: str,
    goal_id: UUID,
    seen: int | None,
) -> Response:
    """Show the version that the visitor saw beside the present one."""
    values = await versions_since(visitor, context, workflow_id, goal_id, seen)
    return rendering.page(
        request, visitor, "goal_changed.html", problems.STALE.status, **common(workflow_id, goal_id), **values
    )


async def versions_since(
    visitor: visitors.Visitor, context: parameters.Context, workflow_id: str, goal_id: UUID, seen: int | None
) -> Values:
    """Return the present version, and what differs from the one that the visitor saw; GoalNotFoundError."""
    tenant_id = visitor.caller.tenant_id
    goal = await goal_store.get(context.pool, tenant_id, goal_id, workflow_id=workflow_id)
    entries = await goal_store.get_audit(context.pool, tenant_id, goal_id, workflow_id=workflow_id)
    before = _state_at(entries, seen)
    return {
        "now": goal,
        "now_sentence": goal_sentences.sentence(goal.goal_type, goal.criteria),
        "seen_version": seen,
        "seen_sentence": before and goal_sentences.sentence(before["goal_type"], before["criteria"]),
        "changed": goal_view.differences(before, goal_view.state_of(goal)),
    }


def _state_at(entries: Iterable[goal_store.AuditEntry], version: int | None) -> Mapping[str, Any] | None:
    return None if version is None else goal_view.state_at(entries, version)
