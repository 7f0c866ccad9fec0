"""The page at /docs: Swagger UI, served from the package without any other host."""

import functools
from importlib import resources
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from goalworker.api import middleware, problems

router = APIRouter(include_in_schema=False)

# Seconds for sending the bundle of 1.7 MB to a slow client.
_SEND_SECONDS: Final = 60
_MEDIA_TYPES: Final = {
    "index.html": "text/html",
    "page.js": "text/javascript",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
_HEADERS: Final = {
    # Swagger UI draws its icons from data URLs; it needs neither inline scripts nor inline styles.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "max-age=3600",
}


@router.get("/docs")
async def show_docs() -> Response:
    """Show the operations, and try them out."""
    return _file("index.html")


@router.get("/docs/{name}")
async def get_docs_file(request: Request, name: str) -> Response:
    """Return a file that the page consists of."""
    if name not in _MEDIA_TYPES:
        raise problems.ProblemError(problems.NOT_FOUND, "No such address")
    middleware.allow(request, _SEND_SECONDS)
    return _file(name)


def _file(name: str) -> Response:
    return Response(_content(name), headers=_HEADERS, media_type=_MEDIA_TYPES[name])


@functools.cache
def _content(name: str) -> bytes:
    return (resources.files("goalworker.api") / "docs_files" / name).read_bytes()
