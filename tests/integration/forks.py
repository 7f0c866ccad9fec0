"""`goalworker` in processes of its own, forked from one that has all commands imported: that takes a tenth of the time.

What a shell sees is the same: streams, exit code, and what Python prints while it ends.
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

from tests.kit import shells

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


# A service that nothing refuses would run for ever: then it ends with 0, as SIGTERM has it.
LIMIT_SECONDS = 60.0


class Forks:
    """Runs commands one after the other."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(
        self, words: list[str], settings: Mapping[str, str], stdin: bytes = b"", folder: Path | None = None
    ) -> shells.Outcome:
        """Run a command to its end, in a folder or in an empty one."""
        with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as streams:
            read, out, err = (Path(streams, name) for name in ("in", "out", "err"))
            read.write_bytes(stdin)
            where = {"folder": str(folder or empty), "in": str(read), "out": str(out), "err": str(err)}
            request = {"env": {**shells.INHERITED, **settings}, "words": words, **where}
            code = self._run(json.dumps(request))
            return shells.Outcome(code, out.read_bytes().decode(), err.read_bytes().decode())

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
def forking() -> Iterator[Forks]:
    """Start the process that forks, and end it."""
    with subprocess.Popen(
        [sys.executable, "-c", _FORKER],
        env=shells.INHERITED,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Forks(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=30)
