"""Commands whose output is closed, or whose disk is full, end at once, silently or with a sentence."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest

from goalworker.embedded import machine
from tests.kit import support, worker_process
from tests.kit.forker import inherited
from tests.kit.shells import Shell

# One of each kind: a table, JSON, a report, the library's help, a long text, and exported files.
COMMANDS = (
    ("keys", "list"),
    ("goals", "list", "--tenant", "acme", "--json"),
    ("doctor",),
    ("lag",),
    ("topics", "list", "--json"),
    ("--help",),
    ("--version",),
    ("config", "docs"),
    ("config", "show", "--json"),
    ("schema", "export", "schemas"),
)
# Output takes the same way from each of them, so one is measured.
_first, *_others = COMMANDS
every_command = pytest.mark.parametrize(
    "words",
    [_first, *(pytest.param(words, marks=pytest.mark.unmeasured) for words in _others)],
    ids=[" ".join(words) for words in COMMANDS],
)
Stream = int | IO[bytes]


@contextlib.contextmanager
def closed_pipe() -> Iterator[int]:
    """Pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    with Path("/dev/full").open("wb") as full:
        yield full.fileno()


@contextlib.contextmanager
def lost_terminal() -> Iterator[int]:
    """Terminal whose other end is closed."""
    ours, its = os.openpty()
    os.close(ours)
    yield its
    os.close(its)


def run(shell: Shell, *words: str, stdout: Stream, stderr: Stream = subprocess.PIPE) -> tuple[int, str]:
    """Return the exit code and stderr of a command."""
    ended = subprocess.run(
        [sys.executable, "-m", "goalworker", *words],
        cwd=shell.folder,
        env={**inherited(), **shell.settings},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        timeout=60,
        check=False,
    )
    return ended.returncode, (ended.stderr or b"").decode()


def in_a_shell(shell: Shell, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which $GOALWORKER is the command."""
    environment = {**inherited(), **shell.settings, "GOALWORKER": f"{sys.executable} -m goalworker"}
    return subprocess.run(
        ["bash", "-c", line], cwd=shell.folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@every_command
def test_a_command_whose_reader_has_left_ends_quietly_with_141(with_both: Shell, words: tuple[str, ...]) -> None:
    with closed_pipe() as nobody:
        assert run(with_both, *words, stdout=nobody) == (141, "")


@every_command
def test_a_command_that_writes_to_a_full_disk_ends_with_1_and_a_sentence(
    with_both: Shell, words: tuple[str, ...]
) -> None:
    with full_disk() as full:
        code, said = run(with_both, *words, stdout=full)
    assert (code, said) == (1, "goalworker: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("words", [("keys", "list"), ("--help",)], ids=" ".join)
def test_a_command_whose_terminal_has_gone_ends_quietly_with_129(with_both: Shell, words: tuple[str, ...]) -> None:
    with lost_terminal() as nobody:
        assert run(with_both, *words, stdout=nobody) == (129, "")


def test_a_long_table_piped_to_head_ends_quietly(shell: Shell) -> None:
    ended = in_a_shell(shell, "$GOALWORKER config docs | head -1; exit ${PIPESTATUS[0]}")
    assert ended.stdout == "| setting | default | meaning |\n"
    assert (ended.returncode, ended.stderr) in ((141, ""), (0, ""))  # 0: all of it fits into the pipe


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_with_closed_streams_works(with_database: Shell, stream: str) -> None:
    ended = in_a_shell(with_database, f"$GOALWORKER keys list {stream}")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == ("" if ">&-" in stream.replace("2>&-", "") else "no keys\n")


@pytest.mark.parametrize("broken", [closed_pipe, full_disk])
def test_an_error_that_cannot_be_printed_keeps_its_exit_code(
    shell: Shell, broken: Callable[[], contextlib.AbstractContextManager[int]]
) -> None:
    with broken() as nobody:
        assert run(shell, "lag", stdout=nobody, stderr=nobody) == (3, "")
        assert run(shell, "docotr", stdout=nobody, stderr=nobody) == (2, "")


def test_schemas_that_do_not_fit_on_the_disk_are_named(shell: Shell) -> None:
    (shell.folder / "messages").mkdir()
    (shell.folder / "messages" / "contact.tag.added.json").symlink_to("/dev/full")
    code, said = run(shell, "schema", "export", ".", stdout=subprocess.DEVNULL)
    assert (code, said) == (
        1,
        "goalworker: messages/contact.tag.added.json cannot be written: No space left on device\n",
    )


def test_a_service_continues_without_its_log_and_drains_on_sighup(with_database: Shell) -> None:
    port = machine.free_port()
    with closed_pipe() as nobody:
        service = subprocess.Popen(
            [sys.executable, "-m", "goalworker", "api", "--port", "0"],
            cwd=with_database.folder,
            env={**inherited(), **with_database.settings, "GOALWORKER_OPS__PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=nobody,
            stderr=nobody,
        )
    try:
        support.run(support.until(lambda: service.poll() is not None or _is_ready(port)))
        service.send_signal(signal.SIGHUP)
        assert service.wait(30) == 0
    finally:
        service.kill()
        service.wait()


def _is_ready(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return worker_process.get(port, "/healthz/ready").is_success
    return False
