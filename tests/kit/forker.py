"""Fork `goalworker` processes from one that has imported every command, in a tenth of the time of a fresh start.

Streams, exit code, and Python's own output at exit are those of an ordinary process.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.kit import measuring

# No line is wrapped, and warnings are errors in the commands too.
_INHERITED = {name: value for name, value in os.environ.items() if not name.startswith("GOALWORKER_")} | {
    "COLUMNS": "200",
    "NO_COLOR": "1",
    "PYTHONWARNINGS": "error",
}
# A command that runs longer gets SIGTERM, such as a service that was expected to refuse to start.
LIMIT_SECONDS = 60.0

_FORKER = """
import gc, importlib, json, os, pkgutil, runpy, select, signal, sys
from goalworker import __main__ as line, api, cli
for module in pkgutil.iter_modules(cli.__path__):
    importlib.import_module(f"goalworker.cli.{module.name}")
gc.collect()
gc.freeze()

woken, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
signal.signal(signal.SIGCHLD, lambda *_: None)
children = set()

def report_ended():
    os.read(woken, 4096)
    for child in list(children):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            children.remove(child)
            print("ended", child, os.waitstatus_to_exitcode(status), flush=True)

while True:
    readable, _, _ = select.select([sys.stdin, woken], [], [])
    if woken in readable:
        report_ended()
    if sys.stdin not in readable:
        continue
    request = sys.stdin.readline()
    child = os.fork() if request else None
    if not child:
        break
    children.add(child)
    print("began", child, flush=True)

if request:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(woken)
    os.close(wake)
    wanted = json.loads(request)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    for number, path in enumerate((wanted["in"], wanted["out"], wanted["err"])):
        file = os.open(path, (os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_APPEND)[number > 0], 0o600)
        os.dup2(file, number)
        os.close(file)
    if "coverage" in sys.modules and "COVERAGE_PROCESS_CONFIG" not in os.environ:
        measuring = sys.modules["coverage"].Coverage.current()
        measuring.stop()
        measuring._auto_save = False
    sys.argv = wanted["argv"]
    if wanted["script"]:
        runpy.run_path(wanted["script"], run_name="__main__")
    line.main()
"""


def inherited() -> dict[str, str]:
    """Return the environment of commands without any settings, which are measured if the running test is."""
    is_measured = measuring.VARIABLE in os.environ
    return {name: value for name, value in _INHERITED.items() if is_measured or name != measuring.VARIABLE}


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


class Forked:
    """Process that was forked, with what the tests use of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None
        self._over = threading.Event()

    def ended(self, code: int) -> None:
        self._code = code
        self._over.set()

    def poll(self) -> int | None:
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        if not self._over.wait(timeout):
            raise TimeoutError(f"process {self.pid} did not end in {timeout} s")
        assert self._code is not None
        return self._code

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)


class Forker:
    """Process that forks others, and says how they ended."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._began: queue.Queue[Forked] = queue.Queue()
        self._one_at_a_time = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def __call__(
        self, words: list[str], settings: Mapping[str, str], stdin: bytes = b"", folder: Path | None = None
    ) -> Outcome:
        """Run a command to its end in a folder, by default an empty one."""
        with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as streams:
            read, out, err = (Path(streams, name) for name in ("in", "out", "err"))
            read.write_bytes(stdin)
            forked = self._fork(words, {**inherited(), **settings}, folder or Path(empty), (read, out, err))
            late = threading.Timer(LIMIT_SECONDS, forked.send_signal, [signal.SIGTERM])
            late.start()
            try:
                code = forked.wait()
            finally:
                late.cancel()
            return Outcome(code, out.read_bytes().decode(), err.read_bytes().decode())

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path, script: str | None = None
    ) -> Forked:
        """Start a command, or a script that ends with it, in a folder and with its output in a log."""
        return self._fork(words, environment, folder, (Path(os.devnull), log, log), script)

    def _fork(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        streams: Iterable[Path],
        script: str | None = None,
    ) -> Forked:
        argv = [script or "goalworker", *words]
        request = {"env": dict(environment), "argv": argv, "script": script, "folder": str(folder)}
        request |= zip(("in", "out", "err"), map(str, streams), strict=True)
        assert self._process.stdin is not None
        with self._one_at_a_time:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return self._began.get(timeout=LIMIT_SECONDS)

    def _listen(self) -> None:
        running: dict[int, Forked] = {}
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, *numbers = line.split()
            pid, *code = map(int, numbers)
            if what == "began":
                running[pid] = Forked(pid)
                self._began.put(running[pid])
            else:
                running.pop(pid).ended(*code)


@contextlib.contextmanager
def running_forker() -> Iterator[Forker]:
    """Start the forking process, and end it afterwards."""
    with subprocess.Popen(
        [sys.executable, "-c", _FORKER],
        env=_INHERITED,  # an unmeasured test may be the first one that needs it
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
