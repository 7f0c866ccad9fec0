"""Answers that took long are kept for a while, and nobody makes one twice at once."""

import asyncio
from typing import Any

import pytest

from goalworker import stats


class Desk:
    """Makes numbered answers that take as long as it is told, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.made = 0
        self.kept = stats.Kept(lambda: self.now)
        self.making = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self, key: str = "key", takes_seconds: float = 0.0) -> Any:
        async def make() -> dict[str, Any]:
            self.made += 1
            number = self.made
            self.making.set()
            await self.gate.wait()
            self.now += takes_seconds
            return {"answer": number}

        return (await self.kept.answer(key, make))["answer"]


SLOW_SECONDS = 2.0
KEPT_SECONDS = SLOW_SECONDS * stats.Kept.TIMES


async def test_a_quick_answer_is_made_anew_each_time() -> None:
    desk = Desk()
    assert [await desk.ask(), await desk.ask()] == [1, 2]


async def test_a_slow_answer_is_kept_for_a_multiple_of_its_time_and_no_longer() -> None:
    desk = Desk()
    assert await desk.ask(takes_seconds=SLOW_SECONDS) == 1
    desk.now += KEPT_SECONDS - 0.01
    assert await desk.ask() == 1
    desk.now += 0.02
    assert await desk.ask() == 2


async def test_other_questions_get_other_answers() -> None:
    desk = Desk()
    assert await desk.ask("a", SLOW_SECONDS) == 1
    assert await desk.ask("b", SLOW_SECONDS) == 2
    assert await desk.ask("a") == 1


async def test_who_asks_meanwhile_waits_for_the_same_answer() -> None:
    desk = Desk()
    desk.gate.clear()
    asking = [asyncio.create_task(desk.ask()) for _ in range(5)]
    await desk.making.wait()
    desk.gate.set()
    assert await asyncio.gather(*asking) == [1] * 5


async def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    desk = Desk()
    desk.gate.clear()
    impatient, patient = asyncio.create_task(desk.ask()), asyncio.create_task(desk.ask())
    await desk.making.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    desk.gate.set()
    assert await patient == 1


async def test_a_failure_is_told_to_all_who_wait_and_is_not_kept() -> None:
    desk = Desk()

    async def fail() -> dict[str, Any]:
        await asyncio.sleep(0)
        desk.now += SLOW_SECONDS
        raise OSError("the database is away")

    told = await asyncio.gather(*(desk.kept.answer("key", fail) for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in told] == [OSError, OSError]
    assert await desk.ask() == 1


async def test_what_is_no_longer_kept_takes_no_room() -> None:
    desk = Desk()
    for number in range(50):
        await desk.ask(f"slow {number}", SLOW_SECONDS)
        await desk.ask(f"quick {number}")
    desk.now += KEPT_SECONDS
    await desk.ask("another")
    assert not desk.kept._answers
    assert not desk.kept._until
