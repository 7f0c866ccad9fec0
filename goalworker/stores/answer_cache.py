"""A cache of slow answers, refreshed in the background."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, TypeVar, cast

import msgspec

T = TypeVar("T")


class _Entry(msgspec.Struct, frozen=True):
    answer: Any
    fresh_until: float
    expires_at: float


class AnswerCache:
    """Cache of answers that took long; quick ones are computed for every request.

    An answer is fresh for TIMES as long as it took to compute. For as long again the stale answer is returned at once
    while a task refreshes it. Requests that find no entry wait, all for the same computation.
    """

    # Seconds. An answer that took less is not cached.
    SLOW_SECONDS: Final = 0.1
    TIMES: Final = 30.0
    # Computations at a time; further ones wait. A process has four database connections by default, and one of them
    # always stays free for other requests.
    NEW_AT_ONCE: Final = 2
    AGAIN_AT_ONCE: Final = 1

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[Hashable, _Entry] = {}
        self._computing: dict[Hashable, asyncio.Task[Any]] = {}
        self._new = asyncio.Semaphore(self.NEW_AT_ONCE)
        self._refreshes = asyncio.Semaphore(self.AGAIN_AT_ONCE)

    async def answer(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the cached answer for a key, or compute it."""
        now = self._clock()
        self._entries = {key: entry for key, entry in self._entries.items() if now < entry.expires_at}
        entry = self._entries.get(key)
        if entry is not None and now < entry.fresh_until:
            return cast("T", entry.answer)
        if key not in self._computing:
            slots = self._new if entry is None else self._refreshes
            self._computing[key] = asyncio.create_task(self._compute(key, make, slots))
            self._computing[key].add_done_callback(_retrieve_exception)
        return cast("T", entry.answer if entry is not None else await asyncio.shield(self._computing[key]))

    async def _compute(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]], slots: asyncio.Semaphore) -> T:
        entry = None
        try:
            async with slots:
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
