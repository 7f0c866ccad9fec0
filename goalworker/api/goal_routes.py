"""Routes of goals: create, list, get, change, delete, audit, and the settings of a workflow."""

import re
from collections.abc import Mapping
from typing import Annotated, Final
from urllib import parse

from fastapi import APIRouter, Header, Query
from msgspec import structs
from starlette.responses import Response

from goalworker.api import (
    auth,
    goal_answers,
    goal_changes,
    openapi,
    parameters,
    problems,
    request_bodies,
    response_models,
    validation,
)
from goalworker.domain.faults import Fault
from goalworker.stores import goal_store

router = APIRouter(tags=[openapi.GOALS])

_LINKED: Final = {"workflow_id": "$request.path.workflow_id", "goal_id": "$response.body#/id"}
_LINKS: Final = {
    name: {"operationId": name, "parameters": _LINKED} for name in ("get_goal", "change_goal", "delete_goal")
}

ANY_VERSION: Final = "*"
IfMatch = Annotated[
    str,
    Header(
        alias="If-Match",
        description="ETag of the expected version; another version is a 412. `*` matches any version",
        examples=['"1"'],
        json_schema_extra={"pattern": r'^(\*|(W/)?"[^"]*")$'},
    ),
]


@router.post(
    parameters.GOALS,
    summary="Create a goal",
    **openapi.answers(
        201,
        "The goal",
        "Goal",
        takes="GoalDraft",
        others=[problems.TOO_MANY_GOALS, problems.REFERENCE_MISSING, problems.DUPLICATE_GOAL],
        headers=openapi.ETAG | openapi.LOCATION,
        links=_LINKS,
    ),
)
async def create_goal(
    caller: auth.Writer,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    body: request_bodies.JsonBody,
) -> Response:
    """Create a goal, which counts for events from now on."""
    goal = await goal_changes.create(context, caller, workflow_id, body)
    path = parameters.GOALS.format(workflow_id=parse.quote(workflow_id, safe=""))
    location = f"{context.settings.api.root_path}{path}/{goal.id}"
    return await _changed(context, caller, goal, 201, {"Location": location})


@router.get(
    parameters.GOALS,
    summary="List a workflow's goals",
    **openapi.answers(200, "A page of goals", "Goals", others=[problems.INVALID]),
)
async def list_goals(
    caller: auth.Reader,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    query: Annotated[parameters.GoalsQuery, Query()],
) -> Response:
    """List the goals of a workflow, in the order of their creation."""
    page = await goal_store.list_goals(context.pool, caller.tenant_id, workflow_id, **query.model_dump())
    return parameters.json_answer(
        {"goals": page.goals, "total": page.total, "offset": query.offset, "limit": query.limit}
    )


@router.get(parameters.GOAL, summary="Get a goal", **openapi.answers(200, "The goal", "Goal", headers=openapi.ETAG))
async def get_goal(
    caller: auth.Reader, context: parameters.InContext, workflow_id: parameters.WorkflowId, goal_id: parameters.GoalId
) -> Response:
    """Get a goal; a deleted goal appears only in the list."""
    return _goal(await goal_store.get(context.pool, caller.tenant_id, goal_id, workflow_id=workflow_id))


@router.patch(
    parameters.GOAL,
    summary="Change, pause or resume a goal",
    **openapi.answers(
        200,
        "The changed goal",
        "Goal",
        takes="GoalChanges",
        others=[problems.REFERENCE_MISSING, problems.DUPLICATE_GOAL, problems.STALE],
        headers=openapi.ETAG,
    ),
)
async def change_goal(
    caller: auth.Writer,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    goal_id: parameters.GoalId,
    body: request_bodies.JsonBody,
    if_match: IfMatch = ANY_VERSION,
) -> Response:
    """Change the criteria or the name of a goal, pause it or resume it, from now on.

    A change without effect makes no new version.
    """
    goal = await goal_changes.change(context, caller, workflow_id, goal_id, body, _expected_version(if_match))
    return await _changed(context, caller, goal)


@router.delete(
    parameters.GOAL,
    summary="Delete a goal",
    **openapi.answers(204, "The goal is deleted", others=[problems.INVALID, problems.STALE]),
)
async def delete_goal(
    caller: auth.Writer,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    goal_id: parameters.GoalId,
    if_match: IfMatch = ANY_VERSION,
) -> Response:
    """Delete a goal from now on; its achievements remain."""
    await goal_changes.delete(context, caller, workflow_id, goal_id, _expected_version(if_match))
    return Response(status_code=204)


@router.get(
    parameters.GOAL + "/audit",
    summary="List every change of a goal",
    **openapi.answers(200, "Every change", "Audit"),
)
async def get_audit(
    caller: auth.Reader, context: parameters.InContext, workflow_id: parameters.WorkflowId, goal_id: parameters.GoalId
) -> Response:
    """List every change of a goal with its actor, its time, and the goal before and after; also of a deleted goal."""
    entries = await goal_store.get_audit(context.pool, caller.tenant_id, goal_id, workflow_id=workflow_id)
    return parameters.json_answer({"entries": entries})


_SETTINGS: Final = f"{parameters.WORKFLOW}/goal-settings"


@router.get(_SETTINGS, summary="Get a workflow's goal settings", **openapi.answers(200, "The settings", "GoalSettings"))
async def get_goal_settings(
    caller: auth.Reader, context: parameters.InContext, workflow_id: parameters.WorkflowId
) -> Response:
    """Get the logic by which the workflow is done; the default is `any`."""
    return parameters.json_answer({"logic": await goal_store.get_logic(context.pool, caller.tenant_id, workflow_id)})


@router.put(
    _SETTINGS,
    summary="Set a workflow's goal settings",
    **openapi.answers(200, "The new settings", "GoalSettings", takes="GoalSettings"),
)
async def set_goal_settings(
    caller: auth.Writer,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    body: request_bodies.JsonBody,
) -> Response:
    """Set the logic by which the workflow is done, for events from now on: `any`, `all` or `never`."""
    settings = validation.validate(response_models.GoalSettings, body)
    await goal_store.set_logic(context.pool, caller.tenant_id, workflow_id, settings.logic, actor=caller.actor)
    return parameters.json_answer({"logic": settings.logic})


def _goal(goal: goal_store.StoredGoal) -> Response:
    return parameters.json_answer(goal, headers=_etag(goal))


async def _changed(
    context: parameters.Context,
    caller: auth.Caller,
    goal: goal_store.StoredGoal,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a goal that was created or changed, with warnings about it."""
    body = structs.asdict(goal) | {"warnings": await goal_answers.warnings_about(context, caller.tenant_id, [goal])}
    return parameters.json_answer(body, status, {**_etag(goal), **(headers or {})})


def _etag(goal: goal_store.StoredGoal) -> dict[str, str]:
    return {"ETag": f'"{goal.version}"'}


def _expected_version(if_match: str) -> int | None:
    """Return the expected version, or None for any; an ETag that was never ours is stale."""
    given = if_match.strip()
    if given == ANY_VERSION:
        return None
    if version := re.fullmatch(r'"([1-9][0-9]{0,8})"', given):
        return int(version[1])
    if re.fullmatch(r'(W/)?"[^"]*"', given):
        raise problems.ProblemError(problems.STALE, "If-Match names a version that this goal never had; get it again")
    sentence = 'If-Match must be one ETag as GET returns it, such as "3" with its quotes, or *'
    raise problems.invalid([Fault("header If-Match", sentence)])
