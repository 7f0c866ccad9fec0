"""The route of the live feed: achievements and exits as server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Header, Request
from starlette.responses import Response, StreamingResponse

from goalworker import logs
from goalworker.api import auth, live_feed, middleware, openapi, parameters, problems

log = logs.get("api")

router = APIRouter(tags=[openapi.REPORTS])

_MEDIA_TYPE: Final = "text/event-stream"
# Proxies must neither keep events nor wait for more of them.
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# Seconds between two looks whether the key of an open feed still exists; a heartbeat is the occasion at the latest.
KEY_CHECK_SECONDS: Final = 60.0
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
    newest are shown after an event `gap`. The feed of a revoked key ends within some 75 seconds.
    """
    return await answer(request, context.feed, caller, last_event_id)


async def answer(
    request: Request,
    feed: live_feed.LiveFeed,
    caller: auth.Caller,
    last_event_id: str | None,
    encoding: live_feed.Encoding = live_feed.JSON,
) -> Response:
    """Return a stream of the achievements and exits of a caller's tenant, which stays open; ProblemError."""
    authenticator: auth.Authenticator = request.app.state.authenticator
    try:
        subscription = await feed.subscribe(caller.tenant_id, last_event_id, encoding)
    except live_feed.TooManySubscribersError:
        raise problems.unavailable("Too many feeds are open") from None

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in _while_key_exists(subscription.chunks(), authenticator, caller):
                yield chunk
        finally:
            feed.unsubscribe(caller.tenant_id, subscription)

    middleware.stay_open(request)
    return StreamingResponse(chunks(), headers=_HEADERS, media_type=_MEDIA_TYPE)


async def _while_key_exists(
    chunks: AsyncIterator[bytes], authenticator: auth.Authenticator, caller: auth.Caller
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    checked_at = loop.time()
    async for chunk in chunks:
        if loop.time() >= checked_at + KEY_CHECK_SECONDS:
            if not await _has_key_still(authenticator, caller):
                return
            checked_at = loop.time()
        yield chunk


async def _has_key_still(authenticator: auth.Authenticator, caller: auth.Caller) -> bool:
    try:
        return await authenticator.has_key_still(caller)
    except Exception as error:  # noqa: BLE001 - the stream has begun: its client comes back, and then meets the error
        log.warning("live_feed_interrupted", error=type(error).__name__)
        return False
