"""Live feed of the overview: achievements and exits as entries of its list."""

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request
from msgspec import Struct
from starlette.responses import Response

from goalworker.api import feed_routes, live_feed, parameters
from goalworker.console import addresses, contact_links, rendering, visitors
from goalworker.stores.recent_effects import Effect

router = APIRouter(include_in_schema=False)

PATH: Final = f"{addresses.CONSOLE}/feed"
SHOWN: Final = 50
"""Entries that the page keeps. console.js has the same number."""


class Entries(Struct, frozen=True):
    """Events whose data are entries of the list, those of one poll together, so that the page changes once."""

    links: contact_links.Links

    @property
    def gap(self) -> bytes:
        """Entry of its own kind."""
        return b'data: <li class="gap">More happened here than is shown.</li>\n\n'

    @property
    def heartbeat(self) -> bytes:
        """Event, since scripts of the page see no comments."""
        return b"event: alive\ndata:\n\n"

    def encode(self, effects: Sequence[Effect]) -> bytes:
        """Return the newest effects as one event, which has the id of the last one."""
        last = live_feed.event_id(effects[-1].recorded_at)
        # An event ends with an empty line, and a line of its data with any of these characters.
        lines = str(rendering.effects(self.links, effects[-SHOWN:])).replace("\r", "\n").split("\n")
        return b"id: %d\n%b\n" % (last, b"".join(b"data: %b\n" % line.encode() for line in lines if line))


@router.get(PATH)
async def follow_feed(
    request: Request,
    visitor: visitors.Reader,
    context: parameters.InContext,
    after: Annotated[str | None, Query()] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Follow the tenant's achievements and exits, after those that the page shows already."""
    entries = Entries(contact_links.of_visitor(request, visitor))
    return await feed_routes.answer(request, context.feed, visitor.caller, last_event_id or after, entries)
