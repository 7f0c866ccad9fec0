"""First page: the tenant's workflows with their numbers, and the live feed."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from goalworker.api import live_feed, parameters, reports
from goalworker.console import addresses, contact_links, feed, overview_view, rendering, visitors, workflow_query
from goalworker.stores import recent_effects

router = APIRouter(include_in_schema=False)

SHOWN_AT_FIRST: Final = 20
"""Achievements and exits that the page has before anything happens."""


@router.get(addresses.CONSOLE)
async def show_overview(
    request: Request,
    visitor: visitors.Reader,
    context: parameters.InContext,
    search: Annotated[str, Query()] = "",
    cursor: Annotated[str | None, Query()] = None,
    order: Annotated[str | None, Query()] = None,
) -> Response:
    """Show the workflows, and what happened last."""
    fault = overview_view.fault_of(search)
    asked = None if fault else search.strip() or None
    query = parameters.WorkflowsQuery(search=asked, cursor=cursor, limit=parameters.LIMIT_MAX)
    found = await reports.workflow_list(request, visitor.caller, context, query)
    next_cursor = found["next_cursor"]
    order = overview_view.order_of(order, is_whole=cursor is None and next_cursor is None)
    recent = await recent_effects.RecordedEffects(context.pool).latest(visitor.caller.tenant_id, SHOWN_AT_FIRST)
    shown_until = max([recent.now, *(effect.recorded_at for effect in recent.effects)])
    return rendering.page(
        request,
        visitor,
        "overview.html",
        400 if fault else 200,
        workflows=overview_view.rows(found["workflows"], order),
        fresh_as_of=found["fresh_as_of"],
        order=order,
        orders=overview_view.ORDERS,
        search=asked or search,
        fault=fault,
        cursor=cursor,
        next_cursor=next_cursor,
        call_of_list=overview_view.call(query),
        page_of=workflow_query.page_of,
        effects=rendering.effects(contact_links.of_visitor(request, visitor), recent.effects),
        feed=f"{feed.PATH}?after={live_feed.event_id(shown_until)}",
    )
