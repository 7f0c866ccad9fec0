"""Signals that end a process, and that must not change how it ends once it does."""

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def exit_once() -> None:
    """Let the first signal end the process by SystemExit; a later one must not interrupt the clean-up."""
    for number in ENDING:
        _handle(number, _exit)


def call(number: signal.Signals, callback: Callable[[], object]) -> None:
    """Call back in the running loop each time the signal arrives.

    The handler outlives the loop and does nothing from then on. `loop.add_signal_handler` would restore the default
    as the loop closes, and a second signal would kill a process that is ending in good order.
    """
    loop = asyncio.get_running_loop()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(callback)

    _handle(number, handle)


def ignore() -> None:
    """Ignore what could end the process while it ends by itself; the interpreter's own shutdown keeps it that way."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _handle(number: signal.Signals, handler: Callable[[int, FrameType | None], object]) -> None:
    if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup has it ignored
        signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    ignore()
    raise SystemExit(128 + number)
