"""The worker as `goalworker run` starts it: a process of its own, on a leash, started again whenever it dies."""

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
"""A little more than SIGTERM may take."""

FAILED_STARTS_MAX: Final = 3
LOGGED_ERRORS_SHOWN: Final = 5


class Process:
    """One command of ours, called `name` here: its pid and state to show, its log in the demo's folder.

    A folder that is not kept is removed by the process's guardian if the demo is killed.
    """

    def __init__(
        self,
        name: str,
        command: str,
        environment: Mapping[str, str],
        home: Path,
        say: Callable[[str], None],
        died: Callable[[int], None] = lambda _: None,
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
        self._say = say
        self._died = died
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
        """Return when it is ready."""
        while not self.is_ready:  # noqa: ASYNC110 - another task asks it
            await asyncio.sleep(READY_POLL_SECONDS)

    def logged_errors(self) -> list[str]:
        """Return the last errors in its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [line for line in lines if '"level": "error"' in line or '"level": "critical"' in line][
            -LOGGED_ERRORS_SHOWN:
        ]

    async def keep_running(self) -> None:
        """Start it, and start it again whenever it dies; when cancelled, end it in good order.

        DependencyError with its last words where it dies again and again before it is ready.
        """
        while True:
            async with self._running() as leash:
                await self._watch(leash)
            self._note_death()
            await asyncio.sleep(RESTART_SECONDS)

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        order = guardian.Order(
            command=[sys.executable, "-m", "goalworker", self._command],
            stop_signal=signal.SIGTERM,
            grace_seconds=GRACE_SECONDS,
            uid=None,
            gid=None,
            throwaway=None if self._is_kept else str(self._home),
        )
        self.state = "starting"
        with self.log.open("ab") as log:
            leash = await asyncio.create_subprocess_exec(
                sys.executable, "-I", guardian.__file__, json.dumps(order),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self._home,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for us; the worker is stopped when we are through with it.
            )  # fmt: skip
        try:
            self.pid = int((leash.stdout and await leash.stdout.readline()) or 0)
            yield leash
        finally:
            self.state = "stopping"
            await _to_its_end(asyncio.create_task(_let_go(leash)))

    async def _watch(self, leash: asyncio.subprocess.Process) -> None:
        """Return when it is dead; meanwhile know whether it is ready."""
        over = asyncio.create_task(leash.wait())
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
            self._say(f"{self.name} {self.pid} is ready")
        if is_ready or self.is_ready:
            self.state = "ready" if is_ready else "not ready"

    def _note_death(self) -> None:
        self.deaths += 1
        self._failed_starts += 1
        self._died(self.pid)
        self._say(f"{self.name} {self.pid} is gone, starting another one")
        if self._failed_starts > FAILED_STARTS_MAX:
            words = machine.last_words(self.log.read_text(errors="replace"))
            raise errors.DependencyError(f"`goalworker {self._command}` dies as soon as it is started. {words}")


async def _let_go(leash: asyncio.subprocess.Process) -> None:
    """Have the guardian end its process; its input stays open, so that it notices if we die meanwhile."""
    if leash.stdin is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            leash.stdin.write(b"stop\n")
            await leash.stdin.drain()
        await leash.wait()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            leash.stdin.close()
            await leash.stdin.wait_closed()


async def _to_its_end(work: asyncio.Task[None]) -> None:
    """Wait for work that must be done, however often that is cancelled meanwhile."""
    cancelled = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
