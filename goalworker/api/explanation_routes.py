"""The route of explanations: why a contact's enrollments achieved a goal, or did not."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from goalworker.api import auth, explaining_contacts, openapi, parameters, problems
from goalworker.domain import explaining

router = APIRouter(tags=[openapi.INSIGHT])


@router.get(
    f"{parameters.WORKFLOW}/explanations",
    summary="Explain a contact's goals",
    **openapi.answers(200, "One explanation for each enrollment and goal", "Explanations", others=[problems.INVALID]),
)
async def explain_contact(
    caller: auth.Reader,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    query: Annotated[parameters.ExplanationsQuery, Query()],
) -> Response:
    """Explain why a contact's enrollments achieved a goal or did not: the gates that its events passed, and a sentence.

    Without an enrollment there is one explanation for each goal. Deleted goals are explained only by their id, or where
    they were in force after the enrollment began. Each explanation becomes an entry of the audit.
    """
    known = await explaining_contacts.known_of(
        caller,
        context,
        workflow_id,
        query.contact_id,
        goal_id=query.goal_id,
        enrollment_id=query.enrollment_id,
    )
    # A contact may have very many events; other requests go on meanwhile.
    return parameters.json_answer(await asyncio.to_thread(explaining.answer, known, query.goal_id))
