"""Pages: templates with what they share, and the headers of their answers."""

import gzip
from collections.abc import Sequence
from typing import Any, Final

import jinja2
from fastapi import Request
from markupsafe import Markup
from starlette.responses import Response

import goalworker
from goalworker.console import addresses, contact_links, static_files, wording
from goalworker.console.visitors import Visitor
from goalworker.stores import recent_effects

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# A shorter page is not compressed: it fits into a packet or two.
_COMPRESSED_FROM: Final = 1_024
# Level of the compression: higher ones take longer, and save little of a page.
_LEVEL: Final = 5

ENVIRONMENT: Final = jinja2.Environment(
    loader=jinja2.PackageLoader("goalworker.console"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
ENVIRONMENT.filters.update(wording.FILTERS, segment=addresses.segment)
ENVIRONMENT.globals["version"] = goalworker.__version__


def page(
    request: Request,
    visitor: Visitor | None,
    name: str,
    status: int = 200,
    *,
    headers: dict[str, str] | None = None,
    **values: Any,
) -> Response:
    """Return a page, or a fragment of one, made of a template and these values."""
    body = text(request, visitor, name, **values).encode()
    with_all = {**HEADERS, **(headers or {})}
    if len(body) < _COMPRESSED_FROM:
        return Response(body, status, with_all, "text/html")
    compressed = gzip.compress(body, _LEVEL, mtime=0)
    return static_files.compressible(request, body, compressed, with_all, "text/html", status)


def guarded(answer: Response) -> Response:
    """Return an answer of the API with the headers of a page."""
    answer.headers.update(HEADERS)
    return answer


def is_fragment(request: Request) -> bool:
    """Say whether a script asks for a part of a page."""
    return request.headers.get("hx-request-type") == "partial"


def text(request: Request, visitor: Visitor | None, name: str, **values: Any) -> str:
    """Return the text of a page or a fragment."""
    return ENVIRONMENT.get_template(name).render(_shared(request, visitor), **values)


def effects(links: contact_links.Links, found: Sequence[recent_effects.Effect]) -> Markup:
    """Return the entries of achievements and exits, the newest first, for a page and for the live feed."""
    template = ENVIRONMENT.get_template("_effects.html")
    values = {"effects": found[::-1], "root_path": links.root_path, **links.of_templates()}
    return Markup(template.render(values))  # noqa: S704 - the template escapes


def _shared(request: Request, visitor: Visitor | None) -> dict[str, Any]:
    """Return what every template may use."""

    def url(path: str) -> str:
        return addresses.url(request, path)

    def static(name: str) -> str:
        return static_files.address(request, name)

    shared = {"visitor": visitor, "url": url, "static": static, "path": addresses.path_of(request)}
    if visitor is None:
        return shared
    return {**shared, **contact_links.of_visitor(request, visitor).of_templates()}
