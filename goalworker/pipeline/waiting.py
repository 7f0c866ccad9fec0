"""Retries of transient errors, and waits that keep the group membership."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, Final, TypeVar

import stamina

from goalworker.kafka import broker_errors
from goalworker.kafka.consumer import Consumer
from goalworker.postgres import database_errors

# Well below max.poll.interval.ms, so that waiting for the database never costs a partition (hazard 3).
POLL_SECONDS: Final = 2.0

_T = TypeVar("_T")


def is_transient(error: Exception) -> bool:
    """Say whether the same work may succeed later: the database or the broker is unavailable, or a race was lost."""
    return database_errors.is_unavailable(error) or broker_errors.is_transient(error)


async def retry_transient(work: Callable[[], Awaitable[_T]], failed: Exception | None = None) -> _T:
    """Do the work until it succeeds or fails for good; `failed` is the error of a first attempt made already."""
    if failed is None:
        try:
            return await work()  # nearly always enough, and stamina's bookkeeping costs as much as a round trip
        except Exception as error:
            if not is_transient(error):
                raise
            failed = error
    async for attempt in stamina.retry_context(
        on=is_transient, attempts=None, timeout=None, wait_initial=0.1, wait_max=15.0
    ):
        with attempt:
            if attempt.num == 1:
                raise failed
            return await work()
    raise failed


async def first_done(tasks: Collection[asyncio.Task[Any]], consumer: Consumer) -> None:
    """Wait until one of the tasks is done, and keep polling meanwhile."""
    while not (await asyncio.wait(tasks, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED))[0]:
        await consumer.keep_polling()


async def await_polling(work: Coroutine[Any, Any, _T], consumer: Consumer) -> _T:
    """Await work that retries for as long as the database is unavailable, and keep polling meanwhile."""
    task = asyncio.create_task(work)
    try:
        await first_done({task}, consumer)
        return await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
