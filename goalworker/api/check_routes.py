"""The check of a workflow's goals that an engine requests before it activates the workflow."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from goalworker.api import auth, goal_answers, openapi, parameters, request_bodies, request_models, validation
from goalworker.domain.criteria import criteria_to_json
from goalworker.domain.faults import Fault
from goalworker.stores import goal_store, goal_warnings

router = APIRouter(tags=[openapi.GOALS])

ErrorsAndWarnings = tuple[goal_answers.GoalFaults, goal_answers.GoalFaults]
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
    errors, warnings = await (
        _check_stored(context, caller, workflow_id) if drafts is None else _check_drafts(context, caller, drafts)
    )
    return parameters.json_answer({"valid": not errors, "errors": errors, "warnings": warnings})


async def _check_stored(context: parameters.Context, caller: auth.Caller, workflow_id: str) -> ErrorsAndWarnings:
    page = await goal_store.list_goals(context.pool, caller.tenant_id, workflow_id, limit=_STORED_MAX)
    missing = await context.references.faults(caller.tenant_id, [goal.criteria for goal in page.goals])
    errors = [
        error
        for goal, faults in zip(page.goals, missing, strict=True)
        for error in goal_answers.of_stored(goal.id, faults)
    ]
    return errors, await goal_answers.warnings_about(context, caller.tenant_id, page.goals)


async def _check_drafts(context: parameters.Context, caller: auth.Caller, entries: Sequence[Any]) -> ErrorsAndWarnings:
    """Return the faults of drafts, taken as all goals of a workflow, and the warnings about them."""
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
    for index, outside in zip(drafts, await _outside_faults(context, caller, drafts.values()), strict=True):
        faults[index] += outside
    errors = [error for index, of_goal in enumerate(faults) for error in goal_answers.of_draft(index, of_goal)]
    asked = [(draft.goal_type, draft.criteria) for draft in drafts.values()]
    of_goals = await goal_warnings.about(context.pool, caller.tenant_id, asked)
    warnings = [
        warning
        for index, of_goal in zip(drafts, of_goals, strict=True)
        for warning in goal_answers.of_draft(index, of_goal)
    ]
    return errors, warnings


async def _outside_faults(
    context: parameters.Context, caller: auth.Caller, drafts: Collection[goal_store.Draft]
) -> list[list[Fault]]:
    """Return for each draft the faults that only the database and the system of references know."""
    of_goals = [draft.criteria for draft in drafts]
    untracked = await goal_store.untracked_faults(context.pool, caller.tenant_id, of_goals)
    criteria = [criteria_to_json(draft.goal_type, draft.criteria) for draft in drafts]
    missing = await context.references.faults(caller.tenant_id, criteria)
    return [[*one, *other] for one, other in zip(untracked, missing, strict=True)]


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
