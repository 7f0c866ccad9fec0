"""Answers that took long are kept for a while, then given while the next one is made; none is made twice at once."""

import asyncio
import gc
from typing import Any

import pytest

from goalworker.stores import answer_cache


class Desk:
    """Makes numbered answers that take as long as it is told, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.made = 0
        self.making = 0
        self.most_at_once = 0
        self.kept = answer_cache.AnswerCache(lambda: self.now)
        self.gate = asyncio.Event()
        self.gate.set()
        self._begun = asyncio.Semaphore(0)

    async def ask(self, key: str = "key", takes_seconds: float = 0.0, fault: Exception | None = None) -> Any:
        async def make() -> dict[str, Any]:
            self.made += 1
            self.making += 1
            self.most_at_once = max(self.most_at_once, self.making)
            number = self.made
            self._begun.release()
            try:
                await self.gate.wait()
                self.now += takes_seconds
                if fault is not None:
                    raise fault
                return {"answer": number}
            finally:
                self.making -= 1

        return (await self.kept.answer(key, make))["answer"]

    async def started(self, number: int) -> None:
        """Wait until so many more were begun than was waited for before."""
        async with asyncio.timeout(5):
            for _ in range(number):
                await self._begun.acquire()

    async def rest(self) -> None:
        """Let whatever is being made be made."""
        self.gate.set()
        await asyncio.gather(*self.kept._making.values(), return_exceptions=True)


SLOW_SECONDS = 2.0
FRESH_SECONDS = SLOW_SECONDS * answer_cache.AnswerCache.TIMES
AWAY = OSError("the database is away")


async def test_a_quick_answer_is_made_anew_each_time() -> None:
    desk = Desk()
    assert [await desk.ask(), await desk.ask()] == [1, 2]


async def test_a_slow_answer_is_cached_for_a_multiple_of_its_time() -> None:
    desk = Desk()
    assert await desk.ask(takes_seconds=SLOW_SECONDS) == 1
    desk.now += FRESH_SECONDS - 0.01
    assert await desk.ask() == 1
    await desk.rest()
    assert desk.made == 1


async def test_for_as_long_again_it_is_given_at_once_while_one_new_answer_is_made() -> None:
    desk = Desk()
    await desk.ask(takes_seconds=SLOW_SECONDS)
    desk.now += FRESH_SECONDS
    desk.gate.clear()
    assert [await desk.ask(takes_seconds=SLOW_SECONDS) for _ in range(3)] == [1, 1, 1]
    await desk.rest()
    assert await desk.ask() == 2
    assert desk.made == 2


async def test_what_is_older_is_given_to_nobody() -> None:
    desk = Desk()
    await desk.ask(takes_seconds=SLOW_SECONDS)
    desk.now += 2 * FRESH_SECONDS
    assert await desk.ask() == 2


async def test_what_became_quick_is_kept_no_longer() -> None:
    desk = Desk()
    await desk.ask(takes_seconds=SLOW_SECONDS)
    desk.now += FRESH_SECONDS
    assert await desk.ask() == 1
    await desk.rest()
    assert [await desk.ask(), await desk.ask()] == [3, 4]


async def test_other_questions_get_other_answers() -> None:
    desk = Desk()
    assert await desk.ask("a", SLOW_SECONDS) == 1
    assert await desk.ask("b", SLOW_SECONDS) == 2
    assert await desk.ask("a") == 1


async def test_who_asks_meanwhile_waits_for_the_same_answer() -> None:
    desk = Desk()
    desk.gate.clear()
    asking = [asyncio.create_task(desk.ask()) for _ in range(5)]
    await desk.started(1)
    desk.gate.set()
    assert await asyncio.gather(*asking) == [1] * 5


async def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    desk = Desk()
    desk.gate.clear()
    impatient, patient = asyncio.create_task(desk.ask()), asyncio.create_task(desk.ask())
    await desk.started(1)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    desk.gate.set()
    assert await patient == 1


async def test_a_failure_is_told_to_all_who_wait_and_is_not_kept() -> None:
    desk = Desk()
    told = await asyncio.gather(*(desk.ask("key", SLOW_SECONDS, AWAY) for _ in range(2)), return_exceptions=True)
    assert told == [AWAY, AWAY]
    assert await desk.ask() == 2


async def test_a_failure_that_nobody_waited_for_is_met_again_by_who_asks_next() -> None:
    desk = Desk()
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    await desk.ask(takes_seconds=SLOW_SECONDS)
    desk.now += FRESH_SECONDS
    assert await desk.ask(fault=AWAY) == 1
    await desk.rest()
    with pytest.raises(OSError, match="away"):
        await desk.ask(fault=AWAY)
    gc.collect()
    assert complaints == []


async def test_few_are_made_at_once() -> None:
    desk = Desk()
    desk.gate.clear()
    asking = [asyncio.create_task(desk.ask(f"key {number}")) for number in range(9)]
    await desk.started(answer_cache.AnswerCache.NEW_AT_ONCE)
    desk.gate.set()
    assert sorted(await asyncio.gather(*asking)) == list(range(1, 10))
    assert desk.most_at_once == answer_cache.AnswerCache.NEW_AT_ONCE


async def test_nobody_who_asks_for_something_new_waits_for_what_is_made_again() -> None:
    desk = Desk()
    for number in range(3):
        await desk.ask(f"slow {number}", SLOW_SECONDS)
    await desk.started(3)
    desk.now += FRESH_SECONDS
    desk.gate.clear()
    for number in range(3):
        await desk.ask(f"slow {number}", SLOW_SECONDS)
    new = asyncio.create_task(desk.ask("new"))
    await desk.started(2)
    assert desk.making == 1 + answer_cache.AnswerCache.AGAIN_AT_ONCE
    await desk.rest()
    assert await new == 5


async def test_what_is_no_longer_kept_takes_no_room() -> None:
    desk = Desk()
    for number in range(50):
        await desk.ask(f"slow {number}", SLOW_SECONDS)
        await desk.ask(f"quick {number}")
    assert len(desk.kept._known) > 1
    desk.now += 2 * FRESH_SECONDS
    await desk.ask("another")
    assert not desk.kept._known
    assert not desk.kept._making
