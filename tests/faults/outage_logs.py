"""Log lines of a process during an outage: one at the beginning, a reminder a minute, and one at the end."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import server
from typing import Any, Final

from goalworker.embedded import machine
from tests.faults import rigged
from tests.kit import support, worker_process

LINES_MAX: Final = 10
BACK_SECONDS: Final = 90.0


@dataclass(frozen=True, slots=True)
class Log:
    """Log of a process from a moment on."""

    process: worker_process.Worker
    begin: int

    @classmethod
    def from_now(cls, process: worker_process.Worker) -> "Log":
        return cls(process, process.log.stat().st_size)

    def lines(self) -> list[dict[str, Any]]:
        written = self.process.log.read_bytes()[self.begin :].decode().splitlines(keepends=True)
        return [json.loads(line) for line in written if line.endswith("\n")]

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines()]

    async def said(self, event: str) -> None:
        """Wait until an event is logged."""
        await support.until(lambda: event in self.events(), BACK_SECONDS)

    def check(self, name: str, remind_seconds: float) -> None:
        """Assert that one outage under load is logged as it should be."""
        # Successful requests are logged as usual.
        lines = [each for each in self.lines() if each["event"] != "request" or each["status"] >= 500]
        shown = "\n".join(map(str, lines))
        events = [each["event"] for each in lines]
        of_outages = [event for event in events if event.endswith(("_away", "_refused", "_back"))]
        reminders = of_outages.count(f"{name}_still_away")
        assert of_outages == [f"{name}_away", *[f"{name}_still_away"] * reminders, f"{name}_back"], shown
        assert len(lines) - (reminders - 1) <= LINES_MAX, shown  # at most ten lines a minute, one of them a reminder
        (back,) = (each for each in lines if each["event"] == f"{name}_back")
        assert 1 <= reminders <= back["away_seconds"] / remind_seconds, shown
        assert self.lines()[-1]["level"] != "error", shown


# --- the API ---


@contextlib.asynccontextmanager
async def api(
    installation: worker_process.Installation, rig: str, **settings: object
) -> AsyncIterator[tuple[worker_process.Worker, str]]:
    """Run a rigged API, with one tenant for everybody unless tokens are configured; yield it and its address."""
    port = str(machine.free_port())
    insecure = () if "API__JWKS_URL" in settings else ("--insecure-tenant", "acme")
    api = installation.launch_by(rigged.__file__, rig, "api", "--port", port, *insecure, **settings)
    async with worker_process.stopping(api):
        await api.said("api_ready")
        yield api, f"http://127.0.0.1:{port}/api/v1/workflows/w/goals"


Request = Callable[[], Awaitable[int]]


@dataclass(slots=True)
class Load:
    """Status codes that a few clients received, each of which sends its next request at once."""

    statuses: list[int] = field(default_factory=list)

    async def has_seen(self, status: int, times: int = 1) -> None:
        """Wait for this many more responses with a status."""
        begin = len(self.statuses)
        await support.until(lambda: self.statuses[begin:].count(status) >= times, BACK_SECONDS)


@contextlib.asynccontextmanager
async def load(request: Request, clients: int = 4) -> AsyncIterator[Load]:
    """Send requests while the block runs."""
    seen = Load()

    async def ask() -> None:
        while True:
            seen.statuses.append(await request())
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask()) for _ in range(clients)]
        yield seen
        for task in tasks:
            task.cancel()


# --- what the API asks over HTTP ---


@dataclass(slots=True)
class Answering:
    """HTTP server of another system's documents, on a fixed port, which can stop and start."""

    documents: Mapping[str, bytes]
    port: int = field(default_factory=machine.free_port)
    _server: server.ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        documents = self.documents

        class Handler(server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                document = documents.get(self.path)
                self.send_response(404 if document is None else 200)
                self.send_header("content-length", str(len(document or b"")))
                self.end_headers()
                self.wfile.write(document or b"")

            def log_message(self, *_: object) -> None: ...

        self._server = server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,)).start()

    def kill(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextlib.contextmanager
def answering(documents: Mapping[str, bytes]) -> Iterator[Answering]:
    installation = Answering(documents)
    installation.start()
    try:
        yield installation
    finally:
        installation.kill()
