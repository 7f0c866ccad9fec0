"""A demo that ends early: its output or terminal goes away, the user is impatient, or it is killed."""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.kit import demo_process
from tests.kit.demo_process import COMMAND

pytestmark = pytest.mark.unmeasured
ROOT = Path(__file__).parents[2]
END_SECONDS = 60
"""A server may take 5 s to stop and the worker 25 s, and the machine may be busy."""

WITH_TERMINAL = (
    sys.executable,
    "-c",
    "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])",
)


class RunningDemo:
    """A running demo; its processes and files are recognised by its folder for temporary files."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, output: int) -> None:
        self.process = process
        self._folder = folder
        self._output = output
        self._said = bytearray()
        self._is_left = threading.Event()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    @property
    def said(self) -> str:
        return self._said.decode(errors="replace")

    def until_said(self, text: str) -> None:
        until(lambda: text in self.said or self.process.poll() is not None)
        assert text in self.said, self.said

    def ended(self) -> int:
        code = self.process.wait(END_SECONDS)
        self._reading.join(END_SECONDS)
        return code

    def press(self, keys: bytes) -> None:
        os.write(self._output, keys)

    def leave(self) -> None:
        """Close the reading end of its output."""
        self._is_left.set()
        self._reading.join()

    def leftovers(self) -> list[str]:
        return leftovers(self._folder)

    def ready(self) -> list[int]:
        """Return the ids of worker, API and insight, as far as they have become ready."""
        return [int(pid) for pid in re.findall(r"(?:worker|api|insight) (\d+) is ready", self.said)]

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end of the terminal is closed
            while not self._is_left.is_set():
                if select.select([self._output], [], [], 0.1)[0]:
                    data = os.read(self._output, 65_536)
                    self._said += data
                    if not data:
                        break
        os.close(self._output)


def leftovers(folder: Path) -> list[str]:
    """Return the processes with the folder in their arguments, as guardians and servers have, and the files in it."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(folder) in line] + [
        path.name for path in folder.iterdir()
    ]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="of-a-demo-") as made:
        Path(made).chmod(0o711)  # under root, PostgreSQL runs as another user
        yield Path(made)


def command(*options: str) -> list[str]:
    return [*COMMAND, *options]


def environment(folder: Path) -> dict[str, str]:
    return demo_process.environment() | {"TMPDIR": str(folder)}


@contextlib.contextmanager
def demo(folder: Path, *options: str, terminal: bool = False, words: Sequence[str] = ()) -> Iterator[RunningDemo]:
    """Run the demo with its output in a pipe or on a terminal; `words` is another command that starts it."""
    ours, its = os.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [*(WITH_TERMINAL if terminal else ()), *(words or command(*options))],
        stdin=its if terminal else subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        env=environment(folder),
    )
    os.close(its)
    running = RunningDemo(process, folder, ours)
    try:
        yield running
    finally:
        process.kill()
        process.wait()
        running.leave()


@pytest.mark.parametrize(("options", "lines"), [("--smoke", 2), ("--rate 50", 5)])
def test_a_closed_output_pipe_ends_the_demo_and_its_servers(options: str, lines: int, folder: Path) -> None:
    piped = subprocess.run(
        ["bash", "-c", f'"$@" | head -n {lines}; exit ${{PIPESTATUS[0]}}', "bash", *command(*options.split())],
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=2 * END_SECONDS,
        check=False,
    )
    assert (piped.returncode, piped.stderr) == (141, "")
    assert len(piped.stdout.splitlines()) == lines
    assert leftovers(folder) == []


def test_a_full_disk_under_the_output_ends_the_demo_with_a_sentence(folder: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            command("--smoke"),
            env=environment(folder),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=END_SECONDS,
            check=False,
        )
    assert ended.stderr == b"goalworker: the output cannot be written: No space left on device\n"
    assert ended.returncode == 1
    assert leftovers(folder) == []


@pytest.mark.parametrize("text", ["starting", "Ctrl-C"], ids=["while it starts", "in mid-traffic"])
def test_a_closed_terminal_ends_the_demo_and_its_servers(text: str, folder: Path) -> None:
    with demo(folder, terminal=True) as running:
        running.until_said(text)
        running.leave()
        assert running.process.wait(END_SECONDS) == 129
        assert running.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_signals_during_the_start_end_the_demo_once_its_servers_can_stop(number: signal.Signals, folder: Path) -> None:
    with demo(folder) as running:
        running.until_said("starting PostgreSQL and Kafka")
        for _ in range(3):  # a hang-up can come from both the kernel and the shell
            running.process.send_signal(number)
            time.sleep(0.2)
        assert running.ended() == 128 + number
        assert "Traceback" not in running.said
        assert running.leftovers() == []


def test_signals_after_the_clean_up_do_not_change_the_exit_code(folder: Path) -> None:
    code = """
import atexit, signal
from goalworker import demo

def signalled(*_):
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.raise_signal(number)

atexit.register(signalled)
demo._log_to = signalled
demo.main()
"""
    ended = subprocess.run([sys.executable, "-c", code], env=environment(folder), stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (129, b"")
    assert leftovers(folder) == []


def test_ctrl_c_twice_skips_the_check_and_exits_with_130(folder: Path) -> None:
    with demo(folder, "--rate", "2000") as running:
        running.until_said("| traffic |")
        running.process.send_signal(signal.SIGINT)
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.2)  # two pending signals of one kind are delivered as one
        running.process.send_signal(signal.SIGINT)
        assert running.ended() == 130
        assert "Stopped before the check, so nothing was compared: " in running.said
        assert "matches" not in running.said
        assert running.leftovers() == []


def test_a_killed_demo_leaves_no_process_and_no_folder(folder: Path) -> None:
    with demo(folder, "--rate", "50") as running:
        until(lambda: len(running.ready()) == 3)
        running.process.kill()
        until(lambda: not running.leftovers())
        assert not any(map(_is_alive, running.ready()))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_in_make_demo_ends_with_a_passed_check_and_no_error(folder: Path) -> None:
    programs = folder / "venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "goalworker").write_text(f'#!/bin/sh\nexec {sys.executable} -m goalworker "$@"\n')
    (programs / "goalworker").chmod(0o755)
    (folder / "venv" / ".installed-demo").touch()
    make = shutil.which("make") or "make"
    words = [make, "-C", str(ROOT), "demo", f"VENV={folder / 'venv'}", "ARGS=--rate 50"]
    with demo(folder, terminal=True, words=words) as running:
        running.until_said("traffic")
        running.press(b"\x03")
        running.ended()
        assert "Everything matches" in running.said
        assert "Error" not in running.said
