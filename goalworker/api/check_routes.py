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

GoalFaults = list[dict[str, Any]]
# Stored goals that a check looks at, at most; a workflow has far fewer unless its maximum was raised.
_STORED_MAX: Final = 1_000


@router.post(
    f"{parameters.GOALS}/validate",
    summary="Check goals without storing them",
    **openapi.answers(200, "Faults, if any", "Verdict", takes="GoalsToValidate", optional=True),
)
async def validate_goals(
    caller: auth.Reader,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    body: request_bodies.OptionalJsonBody,
) -> Response:
    """Check goals without storing them; without a body, check the stored goals. References are checked too."""
    drafts = validation.validate(request_models.GoalsToValidate, body).goals
    errors = await (
        _check_stored(context, caller, workflow_id) if drafts is None else _check_drafts(context, caller, drafts)
    )
    return parameters.json_answer({"valid": not errors, "errors": errors})


async def _check_stored(context: parameters.Context, caller: auth.Caller, workflow_id: str) -> GoalFaults:
    page = await goal_store.list_goals(context.pool, caller.tenant_id, workflow_id, limit=_STORED_MAX)
    missing = await context.references.faults(caller.tenant_id, [goal.criteria for goal in page.goals])
    return [
        {"goal_id": goal.id, "pointer": fault.pointer, "detail": fault.detail}
        for goal, faults in zip(page.goals, missing, strict=True)
        for fault in faults
    ]


async def _check_drafts(context: parameters.Context, caller: auth.Caller, entries: Sequence[Any]) -> GoalFaults:
    """Return the faults of drafts, taken as all goals of a workflow."""
    faults: list[list[Fault]] = []
    drafts: dict[int, goal_store.Draft] = {}
    for index, entry in enumerate(entries):
        draft, found = _parse(entry)
        if draft is not None:
            found = _duplicates(draft, drafts)
            drafts[index] = draft
        faults.append(found)
    maximum = context.settings.goals.max_per_workflow
    if len(entries) > maximum:
        faults[maximum].append(Fault("", str(goal_store.TooManyGoalsError(maximum))))
    criteria = [criteria_to_json(draft.goal_type, draft.criteria) for draft in drafts.values()]
    for index, missing in zip(drafts, await context.references.faults(caller.tenant_id, criteria), strict=True):
        faults[index] += missing
    return [
        {"index": index, "pointer": fault.pointer, "detail": fault.detail}
        for index, faults_of_draft in enumerate(faults)
        for fault in faults_of_draft
    ]


def _parse(entry: Any) -> tuple[goal_store.Draft | None, list[Fault]]:
    if not isinstance(entry, Mapping):
        return None, [Fault("", "A goal must be an object")]
    try:
        return goal_store.parse_draft(entry), []
    except goal_store.InvalidGoalError as error:
        return None, list(error.faults)


def _duplicates(draft: goal_store.Draft, others: Mapping[int, goal_store.Draft]) -> list[Fault]:
    """Return a fault if an earlier draft is the same goal."""
    for index, other in others.items():
        if (other.goal_type, other.criteria) == (draft.goal_type, draft.criteria):
            return [Fault("", f"Goal {index} already has the same goal_type and criteria")]
    return []
