"""Ctrl-C, SIGTERM and hang-ups while the demo runs."""

import asyncio
import signal

from goalworker import signals


class Interrupts:
    """Count Ctrl-C and SIGTERM: the first one stops the traffic and starts the check, the second one skips the check.

    A hang-up cancels the task that created this object.
    """

    def __init__(self) -> None:
        self.count = 0
        self._run = asyncio.current_task()
        self._is_hung_up = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signals.call(number, self._count_one)
        signals.call(signal.SIGHUP, self._hang_up)

    @property
    def skips_check(self) -> bool:
        return self.count > 1

    def _count_one(self) -> None:
        self.count += 1

    def _hang_up(self) -> None:
        # The kernel and the shell both send SIGHUP; the second one must not interrupt the clean-up.
        if not self._is_hung_up and self._run is not None:
            self._is_hung_up = self._run.cancel()
