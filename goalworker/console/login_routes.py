"""Login with an API key, and logout."""

import math
import time
from typing import Final

import structlog
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from goalworker.api import parameters
from goalworker.console import addresses, login_limits, rendering, sessions, visitors
from goalworker.stores import api_keys, login_codes

router = APIRouter(include_in_schema=False)

# The page's own form names its origin with this, and with `no-referrer` it would name none.
_HEADERS: Final = {"Referrer-Policy": "same-origin"}
_UNKNOWN: Final = "The key is unknown or revoked"
_USED: Final = "The link was used, or it is too old"
_FOREIGN: Final = "Another site sent this form. Log in here"


@router.get(addresses.LOGIN)
async def show_login(request: Request) -> Response:
    """Show the login, or go on where somebody is logged in.

    A one-time code in the address is used up by the form, not by the address: whoever previews links does not use it.
    """
    goes_on = addresses.local(request, request.query_params.get("next", ""))
    if await visitors.of_request(request) is not None:
        return _redirect(goes_on)
    return _page(request, goes_on, code=request.query_params.get("code", ""))


@router.post(addresses.LOGIN)
async def log_in(request: Request, context: parameters.InContext) -> Response:
    """Exchange an API key or a one-time code for a session."""
    form = await visitors.form(request)
    goes_on = addresses.local(request, form.get("next", ""))
    if not _is_own_form(request):
        return _page(request, goes_on, 403, _FOREIGN)
    limits, client = _limits(request), _client(request)
    wait = limits.seconds_to_wait(client, time.monotonic())
    if wait:
        return _too_many(request, goes_on, wait)
    key = await _holder(context, form)
    if key is None:
        limits.failed(client, time.monotonic())
        return _page(request, goes_on, 401, _USED if "code" in form else _UNKNOWN)
    return await _begin(request, key, goes_on)


async def _holder(context: parameters.Context, form: visitors.Form) -> api_keys.KeyHolder | None:
    if "code" in form:
        return await login_codes.take(context.pool, form["code"])
    return await api_keys.find(context.pool, form.get("key", "").strip())


async def _begin(request: Request, key: api_keys.KeyHolder, goes_on: str) -> Response:
    structlog.contextvars.bind_contextvars(tenant_id=key.tenant_id)  # for the request's line in the log
    keys = await request.app.state.console.keys()
    answer = _redirect(goes_on)
    sessions.set_cookie(request, answer, sessions.signed(keys, sessions.begin(key, sessions.utc_now())))
    return answer


@router.post(f"{addresses.CONSOLE}/logout")
async def log_out(request: Request) -> Response:
    """End the session of this browser, whatever its key may do."""
    visitor = await visitors.of_request(request)
    if visitor is None:
        raise visitors.LoginRequiredError
    await visitors.check_csrf(request, visitor)
    answer = _redirect(addresses.url(request, addresses.LOGIN))
    sessions.delete_cookie(request, answer)
    return answer


def _page(
    request: Request, goes_on: str, status: int = 200, refusal: str = "", *, wait: float = 0, code: str = ""
) -> Response:
    headers = _HEADERS | ({"Retry-After": str(math.ceil(wait))} if wait else {})
    values = {"goes_on": goes_on, "refusal": refusal, "code": code}
    return rendering.page(request, None, "login.html", status, headers=headers, **values)


def _too_many(request: Request, goes_on: str, wait: float) -> Response:
    minutes = math.ceil(wait / 60)
    refusal = f"Too many attempts failed; try again in {minutes} minute{'s' * (minutes > 1)}"
    return _page(request, goes_on, 429, refusal, wait=wait)


def _redirect(address: str) -> Response:
    return RedirectResponse(address, 303, rendering.HEADERS)


def _limits(request: Request) -> login_limits.LoginLimits:
    limits: login_limits.LoginLimits = request.app.state.login_limits
    return limits


def _client(request: Request) -> str:
    return "" if request.client is None else request.client.host


def _is_own_form(request: Request) -> bool:
    """Say whether a page of ours sent the form: another site could log a visitor in as somebody else."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or addresses.split(origin).netloc == request.headers.get("host")
