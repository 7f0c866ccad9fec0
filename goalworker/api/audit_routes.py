"""The route of the audit: changes of goals, and questions about contacts, with their actors."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from goalworker.api import auth, openapi, parameters, problems
from goalworker.postgres import connections
from goalworker.stores import audit

router = APIRouter(tags=[openapi.REPORTS])


@router.get(
    "/api/v1/audit",
    summary="List the audit",
    **openapi.answers(200, "A page of entries", "AuditPage", others=[problems.INVALID]),
)
async def list_audit(
    caller: auth.Reader, context: parameters.InContext, query: Annotated[parameters.AuditQuery, Query()]
) -> Response:
    """List who changed a goal or asked for a plan or an explanation, and when, oldest first."""
    async with connections.tenant_transaction(context.pool, caller.tenant_id, "goals_read") as connection:
        page = await audit.list_entries(connection, caller.tenant_id, **query.model_dump())
    return parameters.json_answer(page)
