"""Page of a goal: criteria, numbers, versions, and what may be done about it."""

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib import parse

from fastapi import APIRouter
from starlette.responses import Response

from goalworker.api import goal_answers, goal_changes, parameters, problems, reports, response_models, validation
from goalworker.console import goal_addresses, goal_requests, goal_view, job_view, rendering, visitors
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
async def show_goal(asked: goal_requests.ReadGoal) -> Response:
    """Show a goal; with `whole` in the address its numbers too, as for browsers without scripts."""
    values = await page_values(asked)
    if "whole" in asked.request.query_params:
        values |= await _numbers(asked)
    return rendering.page(asked.request, asked.visitor, "goal.html", **values)


@router.get(f"{goal_addresses.GOAL}/numbers")
async def show_numbers(asked: goal_requests.ReadGoal) -> Response:
    """Show the numbers of a goal, which take longest."""
    values = common(asked) | await _numbers(asked)
    return rendering.page(asked.request, asked.visitor, "_goal_numbers.html", **values)


async def stored(asked: goal_requests.OfGoal) -> goal_store.StoredGoal:
    """Return the goal of a request; GoalNotFoundError."""
    tenant_id = asked.visitor.caller.tenant_id
    return await goal_store.get(asked.context.pool, tenant_id, asked.goal_id, workflow_id=asked.workflow_id)


async def _audit(asked: goal_requests.OfGoal) -> tuple[goal_store.AuditEntry, ...]:
    tenant_id = asked.visitor.caller.tenant_id
    return await goal_store.get_audit(asked.context.pool, tenant_id, asked.goal_id, workflow_id=asked.workflow_id)


def common(asked: goal_requests.OfGoal) -> Values:
    """Return what every page of a goal shows: the workflow, paths, and the calls of the API."""
    workflow_id, goal_id = asked.workflow_id, asked.goal_id
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


async def page_values(asked: goal_requests.OfGoal) -> Values:
    """Return the values of the page without the numbers; GoalNotFoundError."""
    context, tenant_id, workflow_id = asked.context, asked.visitor.caller.tenant_id, asked.workflow_id
    goal, entries = await stored(asked), await _audit(asked)
    async with connections.tenant_transaction(context.pool, tenant_id, "jobs") as connection:
        covered = await history.coverage(await connections.driver_of(connection), tenant_id)
        backfills = await jobs.latest_backfills(
            connection, tenant_id, workflow_id, asked.goal_id, limit=_BACKFILLS_SHOWN
        )
    return common(asked) | {
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
        "notice": goal_view.NOTICES.get(asked.request.query_params.get("done", "")),
        "counted": None,
    }


def _earliest(goal: goal_store.StoredGoal, history_from: datetime | None) -> str:
    """Return the earliest moment from which the goal can be backfilled, as a field has it; empty without history."""
    if history_from is None:
        return ""
    earliest = max(history_from, goal.updated_at) if goal.version > 1 else history_from
    whole = (earliest + timedelta(microseconds=999_999)).replace(microsecond=0)
    return f"{whole.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"


async def _numbers(asked: goal_requests.OfGoal) -> Values:
    query = parameters.StatsQuery.model_validate({})
    stats = await reports.workflow_stats(asked.request, asked.visitor.caller, asked.context, asked.workflow_id, query)
    counted = next((one for one in stats["by_goal"] if one["goal_id"] == asked.goal_id), None)
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
async def pause_goal(asked: goal_requests.ChangedGoal) -> Response:
    """Pause a goal."""
    return await _set_active(asked, is_active=False)


@router.post(f"{goal_addresses.GOAL}/resume")
async def resume_goal(asked: goal_requests.ChangedGoal) -> Response:
    """Resume a goal."""
    return await _set_active(asked, is_active=True)


async def _set_active(asked: goal_requests.OfGoal, *, is_active: bool) -> Response:
    change, done = {"is_active": is_active}, "resumed" if is_active else "paused"
    return await _changed(
        asked,
        functools.partial(
            goal_changes.change, asked.context, asked.visitor.caller, asked.workflow_id, asked.goal_id, change
        ),
        f"{goal_addresses.of_goal(asked.workflow_id, asked.goal_id)}?done={done}",
    )


@router.post(f"{goal_addresses.GOAL}/delete")
async def delete_goal(asked: goal_requests.ChangedGoal) -> Response:
    """Delete a goal."""
    return await _changed(
        asked,
        functools.partial(goal_changes.delete, asked.context, asked.visitor.caller, asked.workflow_id, asked.goal_id),
        goal_addresses.of_workflow(asked.workflow_id),
    )


async def _changed(
    asked: goal_requests.OfGoal, change: Callable[[int | None], Awaitable[object]], path: str
) -> Response:
    """Change the version of the goal that the form was made from, and go on at a path."""
    seen = version_of(await visitors.form(asked.request))
    try:
        await change(seen)
    except goal_store.StaleGoalError:
        return await _changed_meanwhile(asked, seen)
    return goal_addresses.to(asked.request, path)


@router.post(f"{goal_addresses.GOAL}/logic")
async def set_logic(asked: goal_requests.ChangedGoal) -> Response:
    """Set the logic of the goal's workflow."""
    await stored(asked)
    given = {"logic": (await visitors.form(asked.request)).get("logic")}
    logic = validation.validate(response_models.GoalSettings, given).logic
    caller = asked.visitor.caller
    await goal_store.set_logic(asked.context.pool, caller.tenant_id, asked.workflow_id, logic, actor=caller.actor)
    path = goal_addresses.of_goal(asked.workflow_id, asked.goal_id)
    return goal_addresses.to(asked.request, f"{path}?done=logic#logic")


# --- a goal that somebody else changed ---


async def _changed_meanwhile(asked: goal_requests.OfGoal, seen: int | None) -> Response:
    """Show the version that the visitor saw beside the present one."""
    values = common(asked) | await versions_since(asked, seen)
    return rendering.page(asked.request, asked.visitor, "goal_changed.html", problems.STALE.status, **values)


async def versions_since(asked: goal_requests.OfGoal, seen: int | None) -> Values:
    """Return the present version, and what differs from the one that the visitor saw; GoalNotFoundError."""
    goal, entries = await stored(asked), await _audit(asked)
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
