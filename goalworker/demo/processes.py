"""Worker, API and insight as processes of their own, watched by a guardian and started again whenever they die."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

import httpx

from goalworker import errors
from goalworker.embedded import guardian, machine

RESTART_SECONDS: Final = 0.5
READY_POLL_SECONDS: Final = 0.2
GRACE_SECONDS: Final = 25.0
"""Time to stop after SIGTERM before SIGKILL; a worker drains for up to 20 s."""

FAILED_STARTS_MAX: Final = 3
"""More deaths in a row without becoming ready end the demo: another start would not help."""

LOGGED_ERRORS_SHOWN: Final = 5


class Process:
    """A goalworker command as a process, with its log in the demo's folder; `name` is its name on the screen.

    If the demo is killed, the guardian ends the process, and removes the folder unless it is kept.
    """

    def __init__(
        self,
        name: str,
        command: str,
        environment: Mapping[str, str],
        home: Path,
        report: Callable[[str], None],
        on_death: Callable[[int], None] = lambda _: None,
        *,
        is_kept: bool = True,
    ) -> None:
        self.name = name
        self.pid = 0
        self.state = "starting"
        self.deaths = 0
        self.port = machine.free_port()
        self.log = home / f"{name}.log"
        self._command = command
        self._home = home
        self._is_kept = is_kept
        self._report = report
        self._on_death = on_death
        self._failed_starts = 0
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.upper().startswith("GOALWORKER_")},
            **environment,
            "GOALWORKER_OPS__PORT": str(self.port),
            "GOALWORKER_LOG__FORMAT": "json",
        }

    @property
    def is_ready(self) -> bool:
        return self.state == "ready"

    async def wait_until_ready(self) -> None:
        """Return when the process is ready."""
        while not self.is_ready:  # noqa: ASYNC110 - another task sets the state
            await asyncio.sleep(READY_POLL_SECONDS)

    def logged_errors(self) -> list[str]:
        """Return the last errors in the log of the process."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [line for line in lines if '"level": "error"' in line or '"level": "critical"' in line][
            -LOGGED_ERRORS_SHOWN:
        ]

    async def keep_running(self) -> None:
        """Start the process, and start it again whenever it dies; when cancelled, stop it in order.

        Raise DependencyError with the end of its log if it keeps dying before it is ready.
        """
        while True:
            async with self._running() as guard:
                await self._watch(guard)
            self._note_death()
            await asyncio.sleep(RESTART_SECONDS)

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        spec = guardian.LaunchSpec(
            command=[sys.executable, "-m", "goalworker", self._command],
            stop_signal=signal.SIGTERM,
            grace_seconds=GRACE_SECONDS,
            uid=None,
            gid=None,
            removed_folder=None if self._is_kept else str(self._home),
        )
        self.state = "starting"
        with self.log.open("ab") as log:
            guard = await asyncio.create_subprocess_exec(
                sys.executable, "-I", guardian.__file__, json.dumps(spec),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self._home,
                env=self._environment,
                start_new_session=True,  # Ctrl-C must reach only the demo, which stops the process after the check
            )  # fmt: skip
        try:
            self.pid = int((guard.stdout and await guard.stdout.readline()) or 0)
            yield guard
        finally:
            self.state = "stopping"
            await _finish(asyncio.create_task(_stop(guard)))

    async def _watch(self, guard: asyncio.subprocess.Process) -> None:
        """Return when the process is dead; keep its state up to date until then."""
        over = asyncio.create_task(guard.wait())
        try:
            async with httpx.AsyncClient(base_url=f"http://{machine.LOOPBACK}:{self.port}", timeout=2) as client:
                while not over.done():
                    await self._probe(client)
                    await asyncio.wait([over], timeout=READY_POLL_SECONDS)
        finally:
            over.cancel()

    async def _probe(self, client: httpx.AsyncClient) -> None:
        try:
            is_ready = (await client.get("/healthz/ready")).is_success
        except httpx.HTTPError:
            is_ready = False
        if is_ready and not self.is_ready:
            self._failed_starts = 0
            self._report(f"{self.name} {self.pid} is ready")
        if is_ready or self.is_ready:
            self.state = "ready" if is_ready else "not ready"

    def _note_death(self) -> None:
        self.deaths += 1
        self._failed_starts += 1
        self._on_death(self.pid)
        self._report(f"{self.name} {self.pid} is gone, starting another one")
        if self._failed_starts > FAILED_STARTS_MAX:
            log_end = machine.log_end(self.log.read_text(errors="replace"))
            raise errors.DependencyError(f"`goalworker {self._command}` dies before it is ready. {log_end}")


async def _stop(guard: asyncio.subprocess.Process) -> None:
    """Tell the guardian to end its process; its standard input stays open, so that it notices if the demo dies."""
    if guard.stdin is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            guard.stdin.write(b"stop\n")
            await guard.stdin.drain()
        await guard.wait()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            guard.stdin.close()
            await guard.stdin.wait_closed()


async def _finish(work: asyncio.Task[None]) -> None:
    """Wait until the work is done, even if this wait is cancelled, and then raise that cancellation."""
    cancelled = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
