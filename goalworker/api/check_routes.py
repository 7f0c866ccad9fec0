"""The check of a workflow's goals that an engine requests before it activates the workflow."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from goalworker.api import auth, openapi, parameters, request_bodies, request_models, validation
from goalworker.domain.criteria import criteria_to_json
from goalworker.domain.faults import Fault
from goalworker.stores import goal_store

router = APIRouter(tags=[openapi.GOALS])

Found = list[dict[str, Any]]
_PAGE: Final = 1_000


@router.post(
    f"{parameters.GOALS}/validate",
    summary="Check goals without storing them",
    **openapi.answers(200, "Faults, if any", "Verdict", takes="GoalsToValidate", optional=True),
)
async def validate_goals(
    caller: auth.Reader,
    here: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    given: request_bodies.OptionalJsonBody,
) -> Response:
    """Check goals without storing them; without a body, check the stored goals. References are checked too."""
    listed = validation.validate(request_models.GoalsToValidate, given).goals
    errors = await (_stored(here, caller, workflow_id) if listed is None else _given(here, caller, listed))
    return parameters.json_answer({"valid": not errors, "errors": errors})


async def _stored(here: parameters.Context, caller: auth.Caller, workflow_id: str) -> Found:
    page = await goal_store.list_goals(here.pool, caller.tenant_id, workflow_id, limit=_PAGE)
    missing = await here.references.faults(caller.tenant_id, [goal.criteria for goal in page.goals])
    return [
        {"goal_id": goal.id, "pointer": fault.pointer, "detail": fault.detail}
        for goal, faults in zip(page.goals, missing, strict=True)
        for fault in faults
    ]


async def _given(here: parameters.Context, caller: auth.Caller, listed: Sequence[Any]) -> Found:
    """Return the faults of goals, taken as all goals of a workflow."""
    faults: list[list[Fault]] = [[] for _ in listed]
    drafts: dict[int, goal_store.Draft] = {}
    for index, given in enumerate(listed):
        draft = _draft(given, faults[index])
        if draft is not None:
            _note_duplicate(index, draft, drafts, faults[index])
    maximum = here.settings.goals.max_per_workflow
    if len(listed) > maximum:
        faults[maximum].append(Fault("", str(goal_store.TooManyGoalsError(maximum))))
    criteria = [criteria_to_json(draft.goal_type, draft.criteria) for draft in drafts.values()]
    for index, missing in zip(drafts, await here.references.faults(caller.tenant_id, criteria), strict=True):
        faults[index] += missing
    return [
        {"index": index, "pointer": fault.pointer, "detail": fault.detail}
        for index, of_goal in enumerate(faults)
        for fault in of_goal
    ]


def _draft(given: Any, faults: list[Fault]) -> goal_store.Draft | None:
    if not isinstance(given, Mapping):
        faults.append(Fault("", "A goal must be an object"))
        return None
    try:
        return goal_store.parse_draft(given)
    except goal_store.InvalidGoalError as error:
        faults += error.faults
        return None


def _note_duplicate(
    index: int, draft: goal_store.Draft, drafts: dict[int, goal_store.Draft], faults: list[Fault]
) -> None:
    for other, before in drafts.items():
        if (before.goal_type, before.criteria) == (draft.goal_type, draft.criteria):
            faults.append(Fault("", f"Goal {other} already has the same goal_type and criteria"))
            break
    drafts[index] = draft
