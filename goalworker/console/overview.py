"""First page: the tenant's workflows."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from goalworker.api import parameters, reports
from goalworker.console import addresses, rendering, visitors

router = APIRouter(include_in_schema=False)


@router.get(addresses.CONSOLE)
async def show_overview(request: Request, visitor: visitors.Reader, context: parameters.InContext) -> Response:
    """Show the workflows."""
    query = parameters.WorkflowsQuery.model_validate({})
    found = await reports.workflow_list(request, visitor.caller, context, query)
    return rendering.page(request, visitor, "overview.html", workflows=found["workflows"])
