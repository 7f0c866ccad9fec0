"""`goalworker demo` as a process of its own, with or without a terminal."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

COMMAND = (sys.executable, "-m", "goalworker", "demo")

ROW = re.compile(r"^ (\S.*?) {2,}([\d,]+) +([\d,]+) +(matches|DIFFERS.*?) *$", re.MULTILINE)


ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


class Demo:
    """Running demo, and its output so far."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def drawn(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def said(self) -> str:
        return ANSI.sub("", self.drawn)

    def rows(self) -> dict[str, tuple[int, int, str]]:
        return {
            what: (int(expected.replace(",", "")), int(found.replace(",", "")), verdict)
            for what, expected, found, verdict in ROW.findall(self.said)
        }

    def until(self, condition: Callable[[], bool], timeout_seconds: float = 60) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)

    def ready_workers(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"worker (\d+) is ready", self.said)]

    def sent(self) -> int:
        return max((int(sent.replace(",", "")) for sent in re.findall(r"sent ([\d,]+)", self.said)), default=0)


def environment() -> dict[str, str]:
    """Return the environment of a demo."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("GOALWORKER_")}
    return others | {"TERM": "xterm-256color"}


@contextlib.contextmanager
def demo(*options: str, terminal: tuple[int, int] | None = None) -> Iterator[Demo]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        with _terminal(output, *terminal) if terminal else _file(output) as stream:
            process = subprocess.Popen(
                [*COMMAND, *options], stdout=stream, stderr=subprocess.STDOUT, env=environment(), cwd=folder
            )
        try:
            yield Demo(process, output)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _file(output: Path) -> Iterator[int]:
    with output.open("wb") as stream:
        yield stream.fileno()


@contextlib.contextmanager
def _terminal(output: Path, columns: int, rows: int) -> Iterator[int]:
    """Yield a terminal; everything drawn on it is copied to the output until it is closed."""
    ours, theirs = pty.openpty()
    output.touch()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    threading.Thread(target=_copy, args=(ours, output), daemon=True).start()
    yield theirs
    os.close(theirs)


def _copy(ours: int, output: Path) -> None:
    with output.open("wb", buffering=0) as drawn, contextlib.suppress(OSError), open(ours, "rb", buffering=0) as source:
        while data := source.read(65_536):
            drawn.write(data)
