"""A cache of slow answers, refreshed in the background."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, TypeVar, cast

import msgspec

T = TypeVar("T")


class _Entry(msgspec.Struct, frozen=True):
    answer: Any
    fresh_until: float
    expires_at: float


class TooManyWaitingError(Exception):
    """Refusal of a question: as many of its asker wait for their turn as may."""


class AnswerCache:
    """Cache of answers that took long; quick ones are computed for every request.

    An answer is fresh for TIMES as long as it took to compute. For as long again the stale answer is returned at once
    while a task refreshes it. Requests that find no entry wait, all for the same computation. One that has not begun
    when the last of its requests is gone is dropped.
    """

    # Seconds. An answer that took less is not cached.
    SLOW_SECONDS: Final = 0.1
    TIMES: Final = 30.0
    # Computations at a time; further ones wait. A process has four database connections by default, and one of them
    # always stays free for other requests.
    NEW_AT_ONCE: Final = 2
    AGAIN_AT_ONCE: Final = 1
    # Computations of an asker that wait to begin.
    WAITING_MAX: Final = 4

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[Hashable, _Entry] = {}
        self._computing: dict[Hashable, asyncio.Task[Any]] = {}
        # Computations that have not begun, each with its asker.
        self._queued: dict[Hashable, Hashable] = {}
        # Requests that wait for a computation.
        self._waiters: Counter[Hashable] = Counter()
        self._new = asyncio.Semaphore(self.NEW_AT_ONCE)
        self._refreshes = asyncio.Semaphore(self.AGAIN_AT_ONCE)

    async def answer(
        self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]], asker: Hashable | None = None
    ) -> T:
        """Return the cached answer for a key, or compute it; TooManyWaitingError if an asker is named."""
        now = self._clock()
        self._entries = {key: entry for key, entry in self._entries.items() if now < entry.expires_at}
        entry = self._entries.get(key)
        if entry is not None and now < entry.fresh_until:
            return cast("T", entry.answer)
        if key not in self._computing:
            self._check_limit(asker)
            self._begin(key, make, asker, self._new if entry is None else self._refreshes)
        return cast("T", entry.answer if entry is not None else await self._wait(key))

    def _check_limit(self, asker: Hashable | None) -> None:
        if asker is not None and sum(other == asker for other in self._queued.values()) >= self.WAITING_MAX:
            raise TooManyWaitingError

    def _begin(
        self,
        key: Hashable,
        make: Callable[[], Coroutine[Any, Any, Any]],
        asker: Hashable | None,
        slots: asyncio.Semaphore,
    ) -> None:
        self._queued[key] = asker
        self._computing[key] = asyncio.create_task(self._compute(key, make, slots))
        self._computing[key].add_done_callback(_retrieve_exception)

    async def _wait(self, key: Hashable) -> Any:
        computing = self._computing[key]
        self._waiters[key] += 1
        try:
            return await asyncio.shield(computing)
        finally:
            self._waiters[key] -= 1
            if not self._waiters[key]:
                del self._waiters[key]
                self._drop_queued(key)

    def _drop_queued(self, key: Hashable) -> None:
        """Drop a computation that has not begun; a later request of its key must not meet the cancelled task."""
        if key in self._queued:
            del self._queued[key]
            self._computing.pop(key).cancel()

    async def _compute(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]], slots: asyncio.Semaphore) -> T:
        async with slots:
            del self._queued[key]
            return await self._made(key, make)

    async def _made(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        entry = None
        try:
            began = self._clock()
            answer = await make()
            entry = self._entry(answer, self._clock() - began)
            return answer
        finally:
            # A failure evicts the stale answer too, so that the next request meets the error.
            del self._computing[key]
            self._entries.pop(key, None)
            if entry is not None:
                self._entries[key] = entry

    def _entry(self, answer: Any, took_seconds: float) -> _Entry | None:
        if took_seconds < self.SLOW_SECONDS:
            return None
        fresh_until = self._clock() + took_seconds * self.TIMES
        return _Entry(answer, fresh_until, fresh_until + took_seconds * self.TIMES)


class BriefCache(AnswerCache):
    """Cache of answers for a fixed time, however long they took to compute; no stale answer is returned."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._seconds = seconds

    def _entry(self, answer: Any, took_seconds: float) -> _Entry:
        fresh_until = self._clock() + self._seconds
        return _Entry(answer, fresh_until, fresh_until)


def _retrieve_exception(computed: asyncio.Task[Any]) -> None:
    # asyncio logs exceptions that were never retrieved, and a refresh may have no request waiting for it.
    if not computed.cancelled():
        computed.exception()
