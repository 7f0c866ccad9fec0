"""The whole id of a contact, on request."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from goalworker.console import contact_links, rendering, visitors

router = APIRouter(include_in_schema=False)


@router.get(f"{contact_links.CONTACTS}/{{token}}/id")
async def reveal_contact(request: Request, visitor: visitors.Reader, token: str) -> Response:
    """Show the whole id of a contact: in its place, or without scripts on a page of its own."""
    contact_id = contact_links.of_path(request, visitor, token)
    name = "_contact_id.html" if rendering.is_fragment(request) else "contact_id.html"
    return rendering.page(request, visitor, name, contact_id=contact_id)
