"""Signals that end a process; a second one must not interrupt an orderly end."""

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def exit_once() -> None:
    """Let the first signal raise SystemExit, and ignore later ones, so that they do not interrupt the clean-up."""
    for number in ENDING:
        _set_handler(number, _exit)


def call(number: signal.Signals, callback: Callable[[], object]) -> None:
    """Call a function in the running loop each time the signal arrives.

    The handler stays when the loop closes, and does nothing from then on. `loop.add_signal_handler`, which anyio uses
    too, would restore the default then, and a second signal would kill a process that is ending in good order.
    """
    loop = asyncio.get_running_loop()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(callback)

    _set_handler(number, handle)


def ignore() -> None:
    """Ignore signals while the process ends by itself; they stay ignored during the interpreter's shutdown."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _set_handler(number: signal.Signals, handler: Callable[[int, FrameType | None], object]) -> None:
    if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # under nohup it stays ignored
        signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    ignore()
    raise SystemExit(128 + number)
