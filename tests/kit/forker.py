"""Fork `goalworker` processes from one that has imported every command, in a tenth of the time of a fresh start.

Streams, exit code, and Python's own output at exit are those of an ordinary process.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# No line is wrapped, and warnings are errors in the commands too.
INHERITED = {name: value for name, value in os.environ.items() if not name.startswith("GOALWORKER_")} | {
    "COLUMNS": "200",
    "NO_COLOR": "1",
    "PYTHONWARNINGS": "error",
}
# A command that runs longer gets SIGTERM, such as a service that was expected to refuse to start.
LIMIT_SECONDS = 60.0

_FORKER = """
import gc, importlib, json, os, pkgutil, sys
from goalworker import __main__ as line, api, cli
for module in pkgutil.iter_modules(cli.__path__):
    importlib.import_module(f"goalworker.cli.{module.name}")
gc.collect()
gc.freeze()
while request := sys.stdin.readline():
    child = os.fork()
    if not child:
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
if request:
    wanted = json.loads(request)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    for number, path in enumerate((wanted["in"], wanted["out"], wanted["err"])):
        file = os.open(path, (os.O_RDONLY, os.O_WRONLY | os.O_CREAT)[number > 0], 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["goalworker", *wanted["words"]]
    line.main()
"""


class Outcome(NamedTuple):
    """Exit code and streams of a command that has ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> Any:
        """Return the JSON that a successful command printed."""
        assert (self.code, self.err) == (0, "")
        return json.loads(self.out)


class Forker:
    """Process that runs commands, one at a time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(
        self, words: list[str], settings: Mapping[str, str], stdin: bytes = b"", folder: Path | None = None
    ) -> Outcome:
        """Run a command to its end in a folder, by default an empty one."""
        with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as streams:
            read, out, err = (Path(streams, name) for name in ("in", "out", "err"))
            read.write_bytes(stdin)
            where = {"folder": str(folder or empty), "in": str(read), "out": str(out), "err": str(err)}
            request = {"env": {**INHERITED, **settings}, "words": words, **where}
            code = self._run(json.dumps(request))
            return Outcome(code, out.read_bytes().decode(), err.read_bytes().decode())

    def _run(self, request: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        late = threading.Timer(LIMIT_SECONDS, os.kill, (child, signal.SIGTERM))
        late.start()
        try:
            return int(self._process.stdout.readline())
        finally:
            late.cancel()


@contextlib.contextmanager
def running_forker() -> Iterator[Forker]:
    """Start the forking process, and end it afterwards."""
    with subprocess.Popen(
        [sys.executable, "-c", _FORKER],
        env=INHERITED,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Forker(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=30)
