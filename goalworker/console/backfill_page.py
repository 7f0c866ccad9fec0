"""Pages of backfills: begin one, see how far it is, cancel it."""

import re
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from goalworker import api
from goalworker.api import goal_jobs, parameters, problems
from goalworker.console import goal_addresses, goal_page, goal_requests, goal_view, job_view, rendering, visitors
from goalworker.stores import goal_store, jobs

router = APIRouter(include_in_schema=False)

# Moments as the fields of browsers have them: a day, or a local time that is meant in UTC.
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MINUTE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}")
_SECOND: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?")
_REFUSALS: Final = (
    problems.ProblemError,
    goal_store.BackfillRefusedError,
    goal_store.LockBusyError,
    jobs.TooManyJobsError,
)


def moment(text: str) -> str:
    """Return what a field has as the API takes it; the API refuses anything else."""
    given = text.strip()
    if _DAY.fullmatch(given):
        return f"{given}T00:00:00Z"
    if _MINUTE.fullmatch(given):
        return f"{given}:00Z"
    return f"{given}Z" if _SECOND.fullmatch(given) else given


@router.post(goal_addresses.BACKFILLS)
async def backfill_goal(asked: goal_requests.ChangedGoal) -> Response:
    """Begin a backfill."""
    form = await visitors.form(asked.request)
    since, exits = form.get("from", ""), form.get("exits", "no")
    given = {"from": moment(since), "exits": exits == "yes"}
    try:
        backfill_id = await goal_jobs.backfill(
            asked.context, asked.visitor.caller, asked.workflow_id, asked.goal_id, given
        )
    except _REFUSALS as error:
        problem = api.problem_of(error)
        values = await goal_page.page_values(asked)
        values |= {
            "backfill": {"from": since, "exits": exits},
            "backfill_problems": [fault.detail for fault in problem.faults] or [problem.detail],
        }
        return rendering.page(asked.request, asked.visitor, "goal.html", problem.kind.status, **values)
    return goal_addresses.to(asked.request, _path(asked, backfill_id))


@router.get(goal_addresses.BACKFILL)
async def show_backfill(asked: goal_requests.ReadGoal, backfill_id: parameters.BackfillId) -> Response:
    """Show a backfill."""
    values = await _values(asked, backfill_id)
    return rendering.page(asked.request, asked.visitor, "backfill.html", **values)


@router.get(f"{goal_addresses.BACKFILL}/progress")
async def show_progress(asked: goal_requests.ReadGoal, backfill_id: parameters.BackfillId) -> Response:
    """Show how far a backfill is, or its result."""
    values = await _values(asked, backfill_id)
    return rendering.page(asked.request, asked.visitor, "_backfill.html", **values)


@router.post(f"{goal_addresses.BACKFILL}/cancel")
async def cancel_backfill(asked: goal_requests.ChangedGoal, backfill_id: parameters.BackfillId) -> Response:
    """Cancel a backfill after its present slice."""
    await goal_jobs.cancel(asked.context, _key(asked, backfill_id))
    return goal_addresses.to(asked.request, _path(asked, backfill_id))


def _path(asked: goal_requests.OfGoal, backfill_id: UUID) -> str:
    return f"{goal_addresses.of_goal(asked.workflow_id, asked.goal_id)}/backfills/{backfill_id}"


def _key(asked: goal_requests.OfGoal, backfill_id: UUID) -> jobs.JobKey:
    return jobs.JobKey(asked.visitor.caller.tenant_id, jobs.BACKFILL, asked.workflow_id, backfill_id, asked.goal_id)


async def _values(asked: goal_requests.OfGoal, backfill_id: UUID) -> dict[str, Any]:
    """Return the values of the page; JobNotFoundError, GoalNotFoundError."""
    found = await goal_jobs.find(asked.context, _key(asked, backfill_id))
    goal = await goal_page.stored(asked)
    common = goal_page.common(asked)
    return common | {
        "goal_path": common["here"],
        "here": _path(asked, backfill_id),
        "title": goal_view.title(goal.goal_type, goal.name),
        "since": datetime.fromisoformat(found.request["from"]),
        "exits": found.request["exits"],
        "job": job_view.of_job(found, datetime.now(UTC)),
        "result": found.status.result,
        "calls": {"backfill": f"{common['calls']['backfills']}/{backfill_id}"},
    }
