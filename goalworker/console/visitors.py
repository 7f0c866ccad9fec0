"""Visitors of the console: their session, their rights, and the forms that they send."""

import hmac
from typing import Annotated, Final
from urllib import parse

import structlog
from fastapi import Depends, Request
from msgspec import Struct
from starlette.datastructures import ImmutableMultiDict

from goalworker.api import auth, parameters, problems, request_bodies
from goalworker.console import addresses, installation, sessions
from goalworker.domain import faults
from goalworker.stores import api_keys

CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "X-CSRF-Token"
_FIELDS_MAX: Final = 1_000
_FORM: Final = "application/x-www-form-urlencoded"

Form = ImmutableMultiDict[str, str]


class Visitor(Struct, frozen=True):
    """The caller that a page is shown to, with the token that the page's forms carry."""

    caller: auth.Caller
    may_write: bool
    csrf: str


class LoginRequiredError(Exception):
    """The request has no session; the visitor logs in and comes back."""


async def of_request(request: Request) -> Visitor | None:
    """Return the visitor of a request, or None where nobody is logged in."""
    keys: installation.Keys = await request.app.state.console.keys()
    request.state.console_keys = keys
    authenticator: auth.Authenticator = request.app.state.authenticator
    caller = authenticator.insecure_caller
    if caller is not None:
        return _visitor(caller, sessions.csrf_token(keys, ""))
    session = sessions.verified(keys, request.cookies.get(sessions.COOKIE, ""), sessions.utc_now())
    if session is None:
        return None
    context: parameters.Context = request.app.state.context
    # Each request asks, so a session ends with its key at once.
    key = await api_keys.find_by_id(context.pool, session.tenant_id, session.key_id)
    if key is None:
        return None
    return _visitor(auth.caller_of(key), sessions.csrf_token(keys, session.seed))


def _visitor(caller: auth.Caller, csrf: str) -> Visitor:
    return Visitor(caller, auth.GOALS_WRITE in caller.scopes, csrf)


async def _reader(request: Request) -> Visitor:
    visitor = await of_request(request)
    if visitor is None:
        raise LoginRequiredError
    structlog.contextvars.bind_contextvars(tenant_id=visitor.caller.tenant_id)
    request.state.visitor = visitor  # for the page of an error
    await request.app.state.own_tenants.check(visitor.caller.tenant_id)
    if auth.GOALS_READ not in visitor.caller.scopes:
        raise problems.ProblemError(problems.FORBIDDEN, f"This needs a key with the scope `{auth.GOALS_READ}`")
    return visitor


Reader = Annotated[Visitor, Depends(_reader)]
"""Somebody with a session, who may read."""


async def _sender(request: Request, visitor: Reader) -> Visitor:
    await check_csrf(request, visitor)
    return visitor


Sender = Annotated[Visitor, Depends(_sender)]
"""A reader with a form of ours that changes nothing of the tenant."""


async def _writer(visitor: Sender) -> Visitor:
    if not visitor.may_write:
        raise problems.ProblemError(problems.FORBIDDEN, f"Changes need a key with the scope `{auth.GOALS_WRITE}`")
    return visitor


Writer = Annotated[Visitor, Depends(_writer)]
"""A sender who may change goals."""


async def check_csrf(request: Request, visitor: Visitor) -> None:
    """Raise ProblemError for a form that no page of this session carried."""
    given = request.headers.get(CSRF_HEADER) or (await form(request)).get(CSRF_FIELD, "")
    if not hmac.compare_digest(given.encode(), visitor.csrf.encode()):
        detail = "The form is not of this session; open the page again, and send it from there"
        raise problems.ProblemError(problems.FORBIDDEN, detail)


async def form(request: Request) -> Form:
    """Return the fields of the form in a request's body; ProblemError."""
    found: Form | None = getattr(request.state, "form", None)
    if found is None:
        request.state.form = found = _parsed(request, await request_bodies.read(request))
    return found


def _parsed(request: Request, body: bytes) -> Form:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != _FORM:
        raise problems.invalid([faults.Fault("", f"The body must be a form ({_FORM})")])
    try:
        fields = parse.parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict")
    except ValueError:  # bytes that are not UTF-8, too
        raise problems.invalid([faults.Fault("", "The body is not a form of UTF-8")]) from None
    return ImmutableMultiDict(fields)


def address_to_return_to(request: Request) -> str:
    """Return the page on which a visitor goes on after the login."""
    if "hx-request" in request.headers:
        current = addresses.split(request.headers.get("hx-current-url", ""))
        return addresses.local(request, parse.urlunsplit(("", "", current.path, current.query, "")))
    if request.method != "GET":
        return addresses.url(request, addresses.CONSOLE)
    quoted = parse.quote(addresses.path_of(request), safe="/:@!$&'()*+,;=~")
    query = request.url.query
    return addresses.local(request, addresses.url(request, quoted) + (f"?{query}" if query else ""))
