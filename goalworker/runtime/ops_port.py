"""Operations port: startup, liveness and readiness checks, and the metrics (contract section 6)."""

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from goalworker import logs, metrics, outages
from goalworker.runtime import http_server

log = logs.get("ops")

NOT_CHECKED: Final = "not checked yet"


class Health:
    """Health of this process, written by the worker and the probes and served by the port."""

    def __init__(
        self,
        checks: Collection[str],
        consumer_alive: Callable[[], bool] = lambda: True,
        *,
        journal: outages.Journal | None = None,
    ) -> None:
        self.started = False
        self._journal = journal or outages.Journal()
        self.consumer_alive = consumer_alive
        self.checks: dict[str, str | None] = {}
        for check in checks:
            self.set(check, NOT_CHECKED)

    def set(self, check: str, problem: str | None, kind: outages.Kind = "away", /) -> None:
        """Record a check that passed (None), or the sentence that says why it failed, and log a change."""
        self.checks[check] = problem
        metrics.ready.labels(check).set(problem is None)
        if problem is not NOT_CHECKED:
            self._journal.report(check, problem, kind)

    @property
    def problems(self) -> dict[str, str]:
        """Sentences of the checks that fail; a process without any is ready."""
        return {check: problem for check, problem in self.checks.items() if problem is not None}


@contextlib.asynccontextmanager
async def serve(host: str, port: int, health: Health) -> AsyncIterator[int]:
    """Serve the port while the block runs, and yield its number; 0 takes a free one.

    Raises DependencyError where the address cannot be bound.
    """
    address = http_server.Address(host, port, "The operations port", "OPS")
    async with http_server.serve(_application(health), address, drain_seconds=1) as bound_port:
        log.info("ops_listening", host=host, port=bound_port)
        yield bound_port


def _application(health: Health) -> Starlette:
    async def startup(_request: Request) -> Response:
        return _response("started", "not started", {} if health.started else {"checks": health.problems})

    async def live(_request: Request) -> Response:
        # Only what a restart fixes: never the lag, the broker or the database.
        problem = {} if health.consumer_alive() else {"detail": "the consumer task has ended"}
        return _response("live", "not live", problem)

    async def ready(_request: Request) -> Response:
        return _response("ready", "not ready", {"checks": health.problems} if health.problems else {})

    async def exposition(_request: Request) -> Response:
        return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)

    paths = {
        "/healthz/startup": startup,
        "/healthz/live": live,
        "/healthz/ready": ready,
        "/metrics": exposition,
    }

    async def not_found(_request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        return JSONResponse({"status": "nothing here", "paths": list(paths)}, code)

    return Starlette(
        routes=[Route(path, endpoint) for path, endpoint in paths.items()],
        exception_handlers={HTTPException: not_found},
    )


def _response(ok: str, not_ok: str, problem: Mapping[str, object]) -> Response:
    return JSONResponse({"status": not_ok, **problem}, 503) if problem else JSONResponse({"status": ok})
