"""A cache of slow answers, refreshed in the background."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final

import msgspec

Answer = dict[str, Any]


Make = Callable[[], Coroutine[Any, Any, Answer]]


class _Known(msgspec.Struct, frozen=True):
    answer: Answer
    fresh_until: float
    known_until: float


class AnswerCache:
    """Keeps answers that took long; quick ones are always made anew.

    An answer is fresh for TIMES as long as it took to make. For as long again it is still given, at once, while a new
    one is being made. Who asks where none is kept waits, all for the same one.
    """

    SLOW_SECONDS: Final = 0.1
    TIMES: Final = 30.0
    # Of the four connections that a process has, unless it is set otherwise, one is always left to other requests.
    NEW_AT_ONCE: Final = 2
    AGAIN_AT_ONCE: Final = 1

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Hashable, _Known] = {}
        self._making: dict[Hashable, asyncio.Task[Answer]] = {}
        self._turns = asyncio.Semaphore(self.NEW_AT_ONCE)
        self._turns_again = asyncio.Semaphore(self.AGAIN_AT_ONCE)

    async def answer(self, key: Hashable, make: Make) -> Answer:
        """Return the kept answer for a key, or make it."""
        now = self._clock()
        self._known = {each: known for each, known in self._known.items() if now < known.known_until}
        known = self._known.get(key)
        if known is not None and now < known.fresh_until:
            return known.answer
        if key not in self._making:
            turns = self._turns if known is None else self._turns_again
            self._making[key] = asyncio.create_task(self._made(key, make, turns))
            self._making[key].add_done_callback(_seen)
        return known.answer if known is not None else await asyncio.shield(self._making[key])

    async def _made(self, key: Hashable, make: Make, turns: asyncio.Semaphore) -> Answer:
        known = None
        try:
            async with turns:
                began = self._clock()
                answer = await make()
                known = self._worth_keeping(answer, self._clock() - began)
            return answer
        finally:
            # Where it failed nothing older is given any more, so that who asks next hears of it.
            del self._making[key]
            self._known.pop(key, None)
            if known is not None:
                self._known[key] = known

    def _worth_keeping(self, answer: Answer, took: float) -> _Known | None:
        fresh_until = self._clock() + took * self.TIMES
        return _Known(answer, fresh_until, fresh_until + took * self.TIMES) if took >= self.SLOW_SECONDS else None


def _seen(made: asyncio.Task[Answer]) -> None:
    # asyncio complains of an error that nobody looked at, and it may be that nobody waits for this answer.
    if not made.cancelled():
        made.exception()
