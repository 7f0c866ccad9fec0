"""The operations port: is it started, alive, ready, and the metrics (contract section 6)."""

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
    """What this process knows of itself: the worker and the probes write it, the port reads it."""

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
        """Note how a check went: None is fine, otherwise a sentence says why not. A change is logged."""
        self.checks[check] = problem
        metrics.ready.labels(check).set(problem is None)
        if problem is not NOT_CHECKED:
            self._journal.report(check, problem, kind)

    @property
    def problems(self) -> dict[str, str]:
        """The checks that are not fine, each with its sentence; ready is who has none."""
        return {check: problem for check, problem in self.checks.items() if problem is not None}


@contextlib.asynccontextmanager
async def serve(host: str, port: int, health: Health) -> AsyncIterator[int]:
    """Serve the port in the running loop for as long as the block runs, and yield its number; 0 takes a free one.

    Raises DependencyError where the address is not to be had.
    """
    address = http_server.Address(host, port, "The operations port", "OPS")
    async with http_server.serve(_application(health), address, drain_seconds=1) as taken:
        log.info("ops_listening", host=host, port=taken)
        yield taken


def _application(health: Health) -> Starlette:
    async def startup(_request: Request) -> Response:
        return _answer("started", "not started", {} if health.started else {"checks": health.problems})

    async def live(_request: Request) -> Response:
        # Only what a restart mends: never the lag, the broker or the database.
        ended = {} if health.consumer_alive() else {"detail": "the consumer task has ended"}
        return _answer("live", "not live", ended)

    async def ready(_request: Request) -> Response:
        return _answer("ready", "not ready", {"checks": health.problems} if health.problems else {})

    async def exposition(_request: Request) -> Response:
        return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)

    paths = {
        "/healthz/startup": startup,
        "/healthz/live": live,
        "/healthz/ready": ready,
        "/metrics": exposition,
    }

    async def elsewhere(_request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        return JSONResponse({"status": "nothing here", "paths": list(paths)}, code)

    return Starlette(
        routes=[Route(path, endpoint) for path, endpoint in paths.items()],
        exception_handlers={HTTPException: elsewhere},
    )


def _answer(fine: str, otherwise: str, why_not: Mapping[str, object]) -> Response:
    return JSONResponse({"status": otherwise, **why_not}, 503) if why_not else JSONResponse({"status": fine})
