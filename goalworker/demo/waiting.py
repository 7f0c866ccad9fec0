"""Tasks in the background, and waits that end when nothing moves any more or the user loses patience."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

from goalworker.demo.interrupts import Interrupts
from goalworker.demo.monitor import Monitor

POLL_SECONDS: Final = 0.2
NO_PROGRESS_SECONDS: Final = 90.0
"""Give up after this long without progress; the consumer group waits 45 s for a worker that was killed."""


@contextlib.asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run endless tasks during the block; the first one that fails ends the block with its error."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
            yield
            for task in tasks:  # after an error the group cancels them itself
                task.cancel()
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def wait_while_moving(work: Coroutine[Any, Any, None], monitor: Monitor, interrupts: Interrupts) -> bool:
    """Wait for work and return True; return False if nothing moves for too long or Ctrl-C comes twice."""
    task, moved_at, last_progress = asyncio.create_task(work), time.monotonic(), monitor.progress()
    try:
        while not (task.done() or interrupts.skips_check or time.monotonic() - moved_at >= NO_PROGRESS_SECONDS):
            await asyncio.wait([task], timeout=POLL_SECONDS)
            monitor.interrupts = interrupts.count
            if (progress := monitor.progress()) != last_progress:
                moved_at, last_progress = time.monotonic(), progress
        if task.done():
            task.result()
        return task.done()
    finally:
        task.cancel()
