"""Signals that end the demo where no event loop takes them: while the servers start, and while they stop."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final, NoReturn

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ended_once() -> Iterator[None]:
    """Let the first signal end the block as SystemExit; what follows must not interrupt the clean-up."""
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        if number != signal.SIGHUP or before[number] is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def ignore() -> None:
    """Take no more notice of them: the clean-up that has begun takes some seconds at most."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    ignore()
    raise SystemExit(128 + number)
