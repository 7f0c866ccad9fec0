"""One server process of ours: started, stopped, killed, started again, and gone when we are."""

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
    """Comes back on the same port and with the same data, whether it was stopped or killed.

    `address` is what a client is given: a database URL or bootstrap servers. `ready_mark` is what the log says when
    the server answers, `leftover_mark` when processes of its former life are still there.
    """

    name: str
    address: str
    port: int
    folder: Path
    command: Sequence[str]
    ready_mark: str
    stop_signal: signal.Signals
    account: machine.Account = machine.OURS
    throwaway: bool = False
    leftover_mark: str | None = None
    pid: int = dataclasses.field(default=0, init=False)
    _guardian: subprocess.Popen[bytes] | None = dataclasses.field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        """Return once it answers; DependencyError with the end of its log if it does not."""
        self.stop()
        machine.require_free(self.port, self.name)
        deadline = time.monotonic() + START_SECONDS
        while self.ready_mark not in (news := self._launch(deadline)):
            self.stop()
            if self.leftover_mark is None or self.leftover_mark not in news or time.monotonic() > deadline:
                raise errors.DependencyError(f"{self.name} did not start in {self.folder}. {machine.last_words(news)}")

    def stop(self) -> None:
        """End it in good order, by force after a few seconds; nothing happens if it is not running."""
        if self._guardian is not None:
            _let_go(self._guardian)
            self._guardian = None

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL."""
        if self._guardian is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.stop()

    def _launch(self, deadline: float) -> str:
        """What it wrote into its log until it was ready, dead or late."""
        with self.log.open("ab") as log:
            start = log.tell()
            self._guardian = leashed = self._leash(log.fileno())
        self.pid = int((leashed.stdout and leashed.stdout.readline()) or 0)
        with self.log.open("rb") as log:
            while True:
                over = time.monotonic() > deadline or leashed.poll() is not None
                log.seek(start)
                news = log.read().decode(errors="replace")
                if over or self.ready_mark in news:
                    return news
                time.sleep(POLL_SECONDS)

    def _leash(self, log: int) -> subprocess.Popen[bytes]:
        order = guardian.Order(
            command=list(self.command),
            stop_signal=self.stop_signal,
            grace_seconds=GRACE_SECONDS,
            uid=self.account.uid,
            gid=self.account.gid,
            throwaway=str(self.folder) if self.throwaway else None,
        )
        return subprocess.Popen(  # noqa: S603 - the command is ours
            [sys.executable, "-I", guardian.__file__, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=self.folder,
            env=machine.ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is for us; the server is stopped when we are through with it.
        )


def _let_go(guardian: subprocess.Popen[bytes]) -> None:
    """Have it end its server; its input stays open, so that it notices if we die meanwhile."""
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
