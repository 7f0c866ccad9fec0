"""A server process that can be stopped, killed and started again, and that ends with this process."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from goalworker import errors
from goalworker.embedded import guardian, machine

START_SECONDS = 60.0
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.02


@dataclasses.dataclass(slots=True, kw_only=True)
class Server:
    """A server that keeps its port and its data when it is stopped or killed and started again.

    `address` is what clients connect to: a database URL or bootstrap servers. The log contains `ready_mark` once the
    server answers, and `leftover_mark` if processes of an earlier start are still there.
    """

    name: str
    address: str
    port: int
    folder: Path
    command: Sequence[str]
    ready_mark: str
    stop_signal: signal.Signals
    account: machine.Account = machine.CURRENT_ACCOUNT
    is_temporary: bool = False
    leftover_mark: str | None = None
    pid: int = dataclasses.field(default=0, init=False)
    _guardian: subprocess.Popen[bytes] | None = dataclasses.field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        """Start the server and wait until it answers; raise DependencyError with the end of its log if it does not."""
        self.stop()
        machine.require_free(self.port, self.name)
        deadline = time.monotonic() + START_SECONDS
        while self.ready_mark not in (logged := self._launch(deadline)):
            self.stop()
            if self.leftover_mark is None or self.leftover_mark not in logged or time.monotonic() > deadline:
                raise errors.DependencyError(f"{self.name} did not start in {self.folder}. {machine.log_end(logged)}")

    def stop(self) -> None:
        """Stop the server if it runs: in order, after some seconds by force."""
        if self._guardian is not None:
            _stop(self._guardian)
            self._guardian = None

    def kill(self) -> None:
        """Kill the server with SIGKILL, as a crash would."""
        if self._guardian is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.stop()

    def _launch(self, deadline: float) -> str:
        """Start the process; return what it logs until it is ready, dead or late."""
        with self.log.open("ab") as log:
            start = log.tell()
            self._guardian = guard = self._start_guardian(log.fileno())
        self.pid = int((guard.stdout and guard.stdout.readline()) or 0)
        with self.log.open("rb") as log:
            while True:
                over = time.monotonic() > deadline or guard.poll() is not None
                log.seek(start)
                logged = log.read().decode(errors="replace")
                if over or self.ready_mark in logged:
                    return logged
                time.sleep(POLL_SECONDS)

    def _start_guardian(self, log: int) -> subprocess.Popen[bytes]:
        spec = guardian.LaunchSpec(
            command=list(self.command),
            stop_signal=self.stop_signal,
            grace_seconds=GRACE_SECONDS,
            uid=self.account.uid,
            gid=self.account.gid,
            removed_folder=str(self.folder) if self.is_temporary else None,
        )
        return subprocess.Popen(  # noqa: S603 - a fixed command
            [sys.executable, "-I", guardian.__file__, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=self.folder,
            env=machine.ENVIRONMENT,
            start_new_session=True,  # Ctrl-C must reach only this process, which stops the server at its end
        )


def _stop(guardian: subprocess.Popen[bytes]) -> None:
    """Tell the guardian to end its server; its standard input stays open, so that it notices if this process dies."""
    with guardian:
        if guardian.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(guardian.stdin.fileno(), b"stop\n")
        guardian.wait()


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()
