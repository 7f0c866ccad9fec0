"""Addresses of the console: ids as segments of a path, and the path before all addresses."""

import re
from typing import Annotated, Final
from urllib import parse

from fastapi import Depends, Path, Request

from goalworker.api import problems
from goalworker.domain.text import TEXT_RULE, is_valid_text

CONSOLE: Final = "/console"
LOGIN: Final = f"{CONSOLE}/login"
_DOTS: Final = frozenset({".", ".."})


def segment(id_: str) -> str:
    """Return an id as a segment of a path: a slash, a percent sign and lone dots are encoded twice.

    Servers and proxies decode a path once before they look at its slashes and dots; `unquoted` decodes it again.
    """
    inner = id_.replace("%", "%25").replace("/", "%2F")
    return parse.quote(inner.replace(".", "%2E") if inner in _DOTS else inner, safe="")


def unquoted(segment_: str) -> str:
    """Return the id of a segment that the server has decoded once."""
    return parse.unquote(segment_, errors="surrogatepass") if "%" in segment_ else segment_


def url(request: Request, path: str) -> str:
    """Return a path of ours as browsers ask for it: behind the path under which a proxy serves us."""
    root_path: str = request.scope.get("root_path", "")
    return root_path + path


def path_of(request: Request) -> str:
    """Return the path of a request without the path under which a proxy serves us."""
    root_path: str = request.scope.get("root_path", "")
    path: str = request.scope["path"]
    rest = path.removeprefix(root_path)
    return rest if path.startswith(root_path) and rest[:1] in ("", "/") else path


def is_of_console(request: Request) -> bool:
    """Say whether a request is for a page of the console."""
    return bool(re.match(rf"{CONSOLE}(/|$)", path_of(request))) or path_of(request) == "/"


def split(address: str) -> parse.SplitResult:
    """Return the parts of an address, which are empty if it cannot be read."""
    try:
        return parse.urlsplit(address)
    except ValueError:  # a bracket that nothing closes
        return parse.urlsplit("")


def local(request: Request, address: str) -> str:
    """Return an address if it is a page of the console, without the host, and else the first page's."""
    first = url(request, CONSOLE)
    parts = split(address)
    climbs = not _DOTS.isdisjoint(parse.unquote(parts.path).split("/"))
    is_page = parts.path == first or parts.path.startswith(f"{first}/")
    is_login = parts.path == url(request, LOGIN)
    is_plain = not parts.scheme and not parts.netloc and not climbs and address.isascii() and address.isprintable()
    return address if is_page and is_plain and not is_login and "\\" not in address else first


async def _workflow_id(workflow_id: Annotated[str, Path()]) -> str:
    id_ = unquoted(workflow_id)
    if not is_valid_text(id_):
        raise problems.ProblemError(problems.NOT_FOUND, f"The workflow's id {TEXT_RULE}")
    return id_


WorkflowId = Annotated[str, Depends(_workflow_id)]
"""The workflow in the path, with whatever characters its id has."""
