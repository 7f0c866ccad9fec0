"""Files that pages refer to, each with the hash of its content in its address."""

import functools
import gzip
import hashlib
from importlib import resources
from typing import Final

from fastapi import APIRouter, Request
from msgspec import Struct
from starlette.responses import Response

from goalworker.api import middleware, problems
from goalworker.console import addresses

router = APIRouter(include_in_schema=False)

_SEND_SECONDS: Final = 60.0
_MEDIA_TYPES: Final = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "hx-sse.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_FOREVER: Final = "public, max-age=31536000, immutable"
_SHORTLY: Final = "public, max-age=300"


class StaticFile(Struct, frozen=True):
    """The content of a file, plain and compressed, and the beginning of its hash."""

    content: bytes
    compressed: bytes
    version: str


@functools.cache
def load(name: str) -> StaticFile:
    """Return a file of the package."""
    content = (resources.files("goalworker.console") / "static" / name).read_bytes()
    return StaticFile(content, gzip.compress(content, 9, mtime=0), hashlib.sha256(content).hexdigest()[:16])


def address(request: Request, name: str) -> str:
    """Return the address of a file, which changes with its content."""
    return addresses.url(request, f"{addresses.CONSOLE}/static/{name}?v={load(name).version}")


@router.get(f"{addresses.CONSOLE}/static/{{name}}")
async def get_static_file(request: Request, name: str) -> Response:
    """Return a file; browsers keep it for good where the address has the hash of this content."""
    if name not in _MEDIA_TYPES:
        raise problems.ProblemError(problems.NOT_FOUND, "No such address")
    middleware.allow(request, _SEND_SECONDS)
    file = load(name)
    headers = {
        "Cache-Control": _FOREVER if request.query_params.get("v") == file.version else _SHORTLY,
        "X-Content-Type-Options": "nosniff",
    }
    return compressible(request, file.content, file.compressed, headers, _MEDIA_TYPES[name])


def compressible(
    request: Request, plain: bytes, compressed: bytes, headers: dict[str, str], media_type: str, status: int = 200
) -> Response:
    """Return the compressed content to clients that accept it."""
    headers = {**headers, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(compressed, status, {**headers, "Content-Encoding": "gzip"}, media_type)
    return Response(plain, status, headers, media_type)
