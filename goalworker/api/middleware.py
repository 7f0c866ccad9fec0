"""Around every request: an id, a deadline, a line in the log, its place in the metrics."""

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Final
from uuid import uuid4

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goalworker import logs, metrics
from goalworker.api import problems
from goalworker.postgres import connections

log = logs.get("api")

# The work on a request, without the time that its body takes to arrive.
ANSWER_SECONDS: Final = 5.0
# At a time: each may hold a body of a mebibyte, and more than that only wait for the database.
REQUESTS_MAX: Final = 256

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~:/+=-]{1,128}")
_TRACE_ID: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
# The label takes no word that a client makes up.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_NO_ROUTE: Final = "none"


class Deadline:
    """Gives up a request that is not answered in time, as TimeoutError; waiting for its body does not count."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(ANSWER_SECONDS) as deadline:

            async def receive_at_leisure() -> Message:
                deadline.reschedule(None)
                try:
                    return await receive()
                finally:
                    deadline.reschedule(loop.time() + ANSWER_SECONDS)

            scope.setdefault("state", {})["deadline"] = deadline
            await self._app(scope, receive_at_leisure, send)


def allow(request: Request, seconds: float) -> None:
    """Give a request that is known to be much work more time than others, from now on."""
    deadline: asyncio.Timeout = request.state.deadline
    deadline.reschedule(asyncio.get_running_loop().time() + seconds)


class RequestMiddleware:
    """The outermost part: what it is given has been answered by the application, or could not be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope)
        known = _known(request)
        began = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", known["request_id"].encode())]
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**known)
        app = self._app if self._under_way < REQUESTS_MAX else _busy
        self._under_way += 1
        failure: Exception | None = None
        try:
            await app(scope, receive, answer)
        except Exception as error:  # noqa: BLE001 - the request's boundary: the application has answered 500 or 503
            failure = error
        finally:
            self._under_way -= 1
        _note(scope, status, time.perf_counter() - began, failure)


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope)
    request.state.problem = problems.unavailable("Too many requests are being answered")
    await problems.answer(request.state.problem)(scope, receive, send)


def _known(request: Request) -> dict[str, str]:
    given = request.headers.get("x-request-id", "")
    known = {"request_id": given if _REQUEST_ID.fullmatch(given) else uuid4().hex}
    trace = _TRACE_ID.fullmatch(request.headers.get("traceparent", ""))
    return known | ({"trace_id": trace[1]} if trace else {})


def _note(scope: Scope, status: int, seconds: float, failure: Exception | None) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "other"
    route = getattr(scope.get("route"), "path_format", _NO_ROUTE)
    labels = (method, route, str(status))
    metrics.http_requests_total.labels(*labels).inc()
    metrics.http_request_duration_seconds.labels(*labels).observe(seconds)
    _log(scope, failure, method=method, route=route, status=status, duration_ms=round(seconds * 1000, 1))


def _log(scope: Scope, failure: Exception | None, **request: object) -> None:
    problem: problems.ProblemError | None = scope.get("state", {}).get("problem")
    if problem is not None and problem.kind is problems.UNAVAILABLE:
        _log_unavailable(problem, failure, request)
        return
    if failure is not None:
        log.error("request_failed", exc_info=failure)
    log.info("request", **request)


def _log_unavailable(problem: problems.ProblemError, failure: Exception | None, request: Mapping[str, object]) -> None:
    """Log one a minute of those that fail alike, and none while the outage is known: its lines count them."""
    repeated = logs.limit_repeats(problem.dependency or "requests", f"request {problem.detail}")
    if repeated is not None:
        reason = {"error": connections.reason(failure)} if failure is not None else {}
        log.warning("request", **request, problem=problem.detail, **reason, **repeated)
