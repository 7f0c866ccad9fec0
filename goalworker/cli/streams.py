"""Standard output and error whose reader leaves, whose terminal hangs up, or whose disk is full.

Python ignores SIGPIPE, since a socket's peer that leaves would end the process too. Here, a failed write to standard
output ends a command with an exception, which unwinds it and cleans up whatever it started.
"""

import contextlib
import errno
import io
import os
import stat
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, TextIO

from goalworker import errors

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PIPE_CLOSED: Final = 141
"""Exit code that a shell reports for a program that SIGPIPE ended."""

HUNG_UP: Final = 129
"""Exit code that a shell reports for a program that SIGHUP ended."""


def guard() -> None:
    """Replace Python's streams with our own; a stream that was closed from the start becomes /dev/null."""
    _occupy()
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - as Python does for a stream that is open
    sys.stdout = _text(_Output(1), sys.stdout)
    sys.stderr = _text(_Errors(2), sys.stderr)
    # A thread that loses the output just ends: the next write of the main thread raises the error.
    threading.excepthook = _handle_thread_error


class _Output(io.FileIO):
    """Output whose failed write raises OutputLostError; later writes of the main thread go to /dev/null."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)

    def write(self, data: "ReadableBuffer", /) -> int:
        if not memoryview(data).nbytes:  # some libraries write nothing to probe the stream
            return 0
        try:
            return super().write(data)
        except OSError as error:
            lost = _lost(error, self.fileno())
            if threading.current_thread() is threading.main_thread():
                _discard(self.fileno())
            raise lost from None


class _Errors(io.FileIO):
    """Error stream that drops a failed write: a service works on without its log, a command keeps its exit code."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _lost(error: OSError, number: int) -> errors.OutputLostError:
    if error.errno == errno.EPIPE:
        return errors.OutputLostError("", PIPE_CLOSED)
    if error.errno == errno.EIO and stat.S_ISCHR(os.fstat(number).st_mode):  # isatty() is false by now
        return errors.OutputLostError("", HUNG_UP)
    return errors.OutputLostError(f"the output cannot be written: {error.strerror}", 1)


def _occupy() -> None:
    """Open /dev/null for each stream that is closed, or a socket would get its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _discard(number)


def _discard(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)


def _text(raw: io.FileIO, former: TextIO | None) -> TextIO:
    if not isinstance(former, io.TextIOWrapper):
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace")
    with contextlib.suppress(OSError):
        former.flush()
    return io.TextIOWrapper(
        raw if former.write_through else io.BufferedWriter(raw),  # as Python does with -u
        encoding=former.encoding,
        errors=former.errors,
        line_buffering=former.line_buffering,
        write_through=former.write_through,
    )


def _handle_thread_error(failed: Any) -> None:
    if not isinstance(failed.exc_value, errors.OutputLostError):
        threading.__excepthook__(failed)
