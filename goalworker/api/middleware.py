"""Middleware around every request: an id, a deadline, a line in the log, metrics."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import Final
from uuid import uuid4

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goalworker import logs, metrics
from goalworker.api import problems
from goalworker.postgres import database_errors

log = logs.get("api")

# Seconds for the work on a request, without the arrival of its body; then it is answered with 503.
ANSWER_SECONDS: Final = 5.0
# Requests at a time; further ones are answered with 503. Each may hold a body of 1 MiB, and more of them would only
# wait for the database.
REQUESTS_MAX: Final = 256

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~:/+=-]{1,128}")
_TRACE_ID: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
# Other methods are counted as `other`: clients must not create labels.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_NO_ROUTE: Final = "none"


class Deadline:
    """Deadline of a request's answer, kept by a TimeoutError; the arrival of its body does not count."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(ANSWER_SECONDS) as deadline:

            async def receive_without_deadline() -> Message:
                deadline.reschedule(None)
                try:
                    return await receive()
                finally:
                    deadline.reschedule(loop.time() + ANSWER_SECONDS)

            scope.setdefault("state", {})["deadline"] = deadline
            await self._app(scope, receive_without_deadline, send)


def allow(request: Request, seconds: float) -> None:
    """Extend the deadline of a request that takes more work than others: `seconds` from now on."""
    deadline: asyncio.Timeout = request.state.deadline
    deadline.reschedule(asyncio.get_running_loop().time() + seconds)


def stay_open(request: Request) -> None:
    """Answer a request for as long as its client stays: without a deadline, and not as one of the requests at a time.

    Its duration, in log and metrics, is that until now.
    """
    deadline: asyncio.Timeout = request.state.deadline
    deadline.reschedule(None)
    request.state.leave()
    request.state.opened_at = time.perf_counter()


class RequestMiddleware:
    """The outermost middleware: request ids, the limit of requests at a time, log and metrics."""

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["root_path"] = self._root_path
        request = Request(scope)
        log_context = _log_context(request)
        began = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", log_context["request_id"].encode())]
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**log_context)
        app = self._app if self._in_flight < REQUESTS_MAX else _busy
        scope.setdefault("state", {})["leave"] = leave = self._enter()
        failure: Exception | None = None
        try:
            await app(scope, receive, answer)
        except Exception as error:  # noqa: BLE001 - the request's boundary: the application has answered 500 or 503
            failure = error
        finally:
            leave()
        ended = scope["state"].get("opened_at") or time.perf_counter()
        _record(scope, status, ended - began, failure)

    def _enter(self) -> Callable[[], None]:
        """Count a request, and return a function that stops counting it, however often it is called."""
        counted = [1]
        self._in_flight += 1

        def leave() -> None:
            self._in_flight -= counted[0]
            counted[0] = 0

        return leave


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope)
    request.state.problem = problems.unavailable("Too many requests at a time")
    await problems.answer(request.state.problem)(scope, receive, send)


def _log_context(request: Request) -> dict[str, str]:
    given = request.headers.get("x-request-id", "")
    request_id = {"request_id": given if _REQUEST_ID.fullmatch(given) else uuid4().hex}
    trace = _TRACE_ID.fullmatch(request.headers.get("traceparent", ""))
    return request_id | ({"trace_id": trace[1]} if trace else {})


def _record(scope: Scope, status: int, seconds: float, failure: Exception | None) -> None:
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
    """Log one request a minute of those that fail alike, and none during a known outage, whose lines count them."""
    repeated = logs.limit_repeats(problem.dependency or "requests", f"request {problem.detail}")
    if repeated is not None:
        reason = {"error": database_errors.reason(failure)} if failure is not None else {}
        log.warning("request", **request, problem=problem.detail, **reason, **repeated)
