"""The route of the live feed: achievements and exits as server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Header, Request
from starlette.responses import Response, StreamingResponse

from goalworker.api import auth, live_feed, middleware, openapi, parameters, problems

router = APIRouter(tags=[openapi.REPORTS])

_MEDIA_TYPE: Final = "text/event-stream"
# Proxies must neither keep events nor wait for more of them.
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_EVENTS: Final = (
    "Events `achievement` and `exit` with the data of `workflow.goal.achieved` and `workflow.exit.goal`, and `gap` "
    "where some were left out"
)


@router.get(
    "/api/v1/feed",
    summary="Follow achievements and exits",
    response_class=StreamingResponse,
    **openapi.answers(200, "A stream of server-sent events", texts={_MEDIA_TYPE: _EVENTS}),
)
async def follow_feed(
    request: Request,
    caller: auth.Reader,
    context: parameters.InContext,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="Id of the last event received, after which the feed goes on"),
    ] = None,
) -> Response:
    """Follow the tenant's achievements and exits, from a second or so after they are recorded.

    The feed shows what is new; the list of achievements is complete. It ends every 15 minutes, and its client comes
    back with `Last-Event-ID` for what it missed within ten minutes. Of more than 200 of a kind within a second, the
    newest are shown after an event `gap`.
    """
    return await answer(request, context.feed, caller.tenant_id, last_event_id)


async def answer(
    request: Request,
    feed: live_feed.LiveFeed,
    tenant_id: str,
    last_event_id: str | None,
    encoding: live_feed.Encoding = live_feed.JSON,
) -> Response:
    """Return a stream of a tenant's achievements and exits, which stays open; ProblemError."""
    try:
        subscription = await feed.subscribe(tenant_id, last_event_id, encoding)
    except live_feed.TooManySubscribersError:
        raise problems.unavailable("Too many feeds are open") from None

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in subscription.chunks():
                yield chunk
        finally:
            feed.unsubscribe(tenant_id, subscription)

    middleware.stay_open(request)
    return StreamingResponse(chunks(), headers=_HEADERS, media_type=_MEDIA_TYPE)
