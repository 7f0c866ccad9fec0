"""Addresses of a goal's pages, and redirects to them after a form was sent."""

from typing import Final
from uuid import UUID

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from goalworker.console import addresses, rendering

WORKFLOW: Final = f"{addresses.CONSOLE}/workflows/{{workflow_id}}"
GOALS: Final = f"{WORKFLOW}/goals"
NEW: Final = f"{GOALS}/new"
GOAL: Final = f"{GOALS}/{{goal_id:uuid}}"
BACKFILLS: Final = f"{GOAL}/backfills"
BACKFILL: Final = f"{BACKFILLS}/{{backfill_id:uuid}}"
PLAN: Final = f"{WORKFLOW}/plans/{{plan_id:uuid}}"


def of_workflow(workflow_id: str) -> str:
    """Return the path of a workflow's page."""
    return WORKFLOW.format(workflow_id=addresses.segment(workflow_id))


def of_goal(workflow_id: str, goal_id: UUID) -> str:
    """Return the path of a goal's page."""
    return f"{of_workflow(workflow_id)}/goals/{goal_id}"


def of_plan(workflow_id: str, plan_id: UUID) -> str:
    """Return the path of a plan's page."""
    return f"{of_workflow(workflow_id)}/plans/{plan_id}"


def to(request: Request, path: str) -> Response:
    """Return the redirect to a page after a form was sent."""
    return RedirectResponse(addresses.url(request, path), 303, rendering.HEADERS)
