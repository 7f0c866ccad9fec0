"""The cache of slow answers: freshness, refreshes in the background, shared waits, limits and failures."""

import asyncio
import gc
from typing import Any

import pytest

from goalworker.stores import answer_cache


class Desk:
    """A cache on a fake clock, and a computation that numbers its answers and takes a given time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.computed = 0
        self.computing = 0
        self.most_at_once = 0
        self.cache = answer_cache.AnswerCache(lambda: self.now)
        self.gate = asyncio.Event()
        self.gate.set()
        self._begun = asyncio.Semaphore(0)

    async def ask(
        self,
        key: str = "key",
        takes_seconds: float = 0.0,
        fault: Exception | None = None,
        asker: str | None = None,
    ) -> Any:
        async def compute() -> dict[str, Any]:
            self.computed += 1
            self.computing += 1
            self.most_at_once = max(self.most_at_once, self.computing)
            number = self.computed
            self._begun.release()
            try:
                await self.gate.wait()
                self.now += takes_seconds
                if fault is not None:
                    raise fault
                return {"answer": number}
            finally:
                self.computing -= 1

        return (await self.cache.answer(key, compute, asker))["answer"]

    async def started(self, number: int) -> None:
        """Wait until `number` more computations have begun."""
        async with asyncio.timeout(5):
            for _ in range(number):
                await self._begun.acquire()

    async def rest(self) -> None:
        """Finish all computations."""
        self.gate.set()
        await asyncio.gather(*self.cache._computing.values(), return_exceptions=True)


SLOW_SECONDS = 2.0
FRESH_SECONDS = SLOW_SECONDS * answer_cache.AnswerCache.TIMES
AWAY = OSError("the database is away")


async def test_a_quick_answer_is_computed_each_time() -> None:
    desk = Desk()
    assert [await desk.ask(), await desk.ask()] == [1, 2]


async def test_a_slow_answer_stays_fresh_for_a_multiple_of_its_time() -> None:
    desk = Desk()
    assert await desk.ask(takes_seconds=SLOW_SECONDS) == 1
    desk.now += FRESH_SECONDS - 0.01
    assert await desk.ask() == 1
    await desk.rest()
    assert desk.computed == 1


async def test_a_stale_answer_is_returned_at_once_during_one_refresh() -> None:
    desk = Desk()
    await desk.ask(takes_seconds=SLOW_SECONDS)
    desk.now += FRESH_SECONDS
    desk.gate.clear()
    assert [await desk.ask(takes_seconds=SLOW_SECONDS) for _ in range(3)] == [1, 1, 1]
    await desk.rest()
    assert await desk.ask() == 2
    assert desk.computed == 2


async def test_an_expired_answer_is_computed_again() -> None:
    desk = Desk()
    await desk.ask(takes_seconds=SLOW_SECONDS)
    desk.now += 2 * FRESH_SECONDS
    assert await desk.ask() == 2


async def test_an_answer_that_became_quick_is_evicted() -> None:
    desk = Desk()
    await desk.ask(takes_seconds=SLOW_SECONDS)
    desk.now += FRESH_SECONDS
    assert await desk.ask() == 1
    await desk.rest()
    assert [await desk.ask(), await desk.ask()] == [3, 4]


async def test_each_key_has_its_own_answer() -> None:
    desk = Desk()
    assert await desk.ask("a", SLOW_SECONDS) == 1
    assert await desk.ask("b", SLOW_SECONDS) == 2
    assert await desk.ask("a") == 1


async def test_concurrent_requests_wait_for_the_same_computation() -> None:
    desk = Desk()
    desk.gate.clear()
    asking = [asyncio.create_task(desk.ask()) for _ in range(5)]
    await desk.started(1)
    desk.gate.set()
    assert await asyncio.gather(*asking) == [1] * 5


async def test_a_cancelled_request_does_not_cancel_the_computation() -> None:
    desk = Desk()
    desk.gate.clear()
    impatient, patient = asyncio.create_task(desk.ask()), asyncio.create_task(desk.ask())
    await desk.started(1)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    desk.gate.set()
    assert await patient == 1


async def test_a_failure_reaches_all_waiters_and_is_not_cached() -> None:
    desk = Desk()
    errors = await asyncio.gather(*(desk.ask("key", SLOW_SECONDS, AWAY) for _ in range(2)), return_exceptions=True)
    assert errors == [AWAY, AWAY]
    assert await desk.ask() == 2


async def test_a_failed_refresh_evicts_the_stale_answer() -> None:
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


async def test_few_answers_are_computed_at_a_time() -> None:
    desk = Desk()
    desk.gate.clear()
    asking = [asyncio.create_task(desk.ask(f"key {number}")) for number in range(9)]
    await desk.started(answer_cache.AnswerCache.NEW_AT_ONCE)
    desk.gate.set()
    assert sorted(await asyncio.gather(*asking)) == list(range(1, 10))
    assert desk.most_at_once == answer_cache.AnswerCache.NEW_AT_ONCE


async def test_new_answers_do_not_wait_for_refreshes() -> None:
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
    assert desk.computing == 1 + answer_cache.AnswerCache.AGAIN_AT_ONCE
    await desk.rest()
    assert await new == 5


async def test_expired_entries_are_evicted() -> None:
    desk = Desk()
    for number in range(50):
        await desk.ask(f"slow {number}", SLOW_SECONDS)
        await desk.ask(f"quick {number}")
    assert len(desk.cache._entries) > 1
    desk.now += 2 * FRESH_SECONDS
    await desk.ask("another")
    assert not desk.cache._entries
    assert not desk.cache._computing


async def test_a_brief_cache_keeps_every_answer_for_its_time_and_no_longer() -> None:
    desk = Desk()
    desk.cache = answer_cache.BriefCache(5.0, lambda: desk.now)
    assert await desk.ask() == 1
    desk.now += 4.9
    assert await desk.ask() == 1
    desk.now += 0.2
    assert await desk.ask() == 2


async def leave(*asking: asyncio.Task[Any]) -> None:
    """Cancel requests, and wait until they are gone."""
    for request in asking:
        request.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def busy_desk() -> tuple[Desk, list[asyncio.Task[Any]]]:
    """Return a desk whose slots are all taken, and the requests that took them."""
    desk = Desk()
    desk.gate.clear()
    asking = [asyncio.create_task(desk.ask(f"busy {n}")) for n in range(answer_cache.AnswerCache.NEW_AT_ONCE)]
    await desk.started(len(asking))
    return desk, asking


async def test_a_question_that_nobody_waits_for_is_never_computed() -> None:
    desk, busy = await busy_desk()
    abandoned = [asyncio.create_task(desk.ask(f"abandoned {number}")) for number in range(9)]
    await asyncio.sleep(0)
    await leave(*abandoned)
    assert len(desk.cache._computing) == len(busy)
    desk.gate.set()
    await asyncio.gather(*busy)
    assert await desk.ask("next") == len(busy) + 1
    assert not desk.cache._queued
    assert not desk.cache._waiters


async def test_a_waiting_question_stays_while_one_request_is_left() -> None:
    desk, busy = await busy_desk()
    impatient, patient = asyncio.create_task(desk.ask("shared")), asyncio.create_task(desk.ask("shared"))
    await asyncio.sleep(0)
    await leave(impatient)
    desk.gate.set()
    assert await patient == len(busy) + 1


async def test_a_dropped_question_can_be_asked_again_at_once() -> None:
    desk, busy = await busy_desk()
    dropped = asyncio.create_task(desk.ask("again"))
    await asyncio.sleep(0)
    dropped.cancel()
    again = asyncio.create_task(desk.ask("again"))
    desk.gate.set()
    assert await again == len(busy) + 1
    assert dropped.cancelled()


async def test_few_questions_of_an_asker_wait_and_others_have_their_own() -> None:
    desk, busy = await busy_desk()

    waiting = [asyncio.create_task(desk.ask(f"a {n}", asker="a")) for n in range(answer_cache.AnswerCache.WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(answer_cache.TooManyWaitingError):
        await desk.ask("a too", asker="a")
    shared = asyncio.create_task(desk.ask("a 0", asker="a"))
    other = asyncio.create_task(desk.ask("b", asker="b"))
    desk.gate.set()
    answers = await asyncio.gather(*busy, *waiting, shared, other)
    assert len(set(answers)) == len(answers) - 1
