"""Sources of choices for small worlds, and the few moments that they know."""

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

T = TypeVar("T")

_MICROSECONDS: Final = (
    999_999,
    1_000_000,
    1_000_001,
    1_500_000,
    2_000_000,
    2_000_001,
    2_500_000,
    3_000_000,
    3_500_000,
    4_000_000,
    4_000_001,
    4_500_000,
    5_000_000,
)
TICKS: Final = len(_MICROSECONDS) - 1
HALVES: Final = tuple(tick for tick, offset in enumerate(_MICROSECONDS) if offset % 500_000 == 0)
"""Ticks at whole and half seconds, which often lie exactly a `within` or a `deadline` apart."""
_START: Final = datetime(2026, 1, 1, 11, 59, 58, tzinfo=UTC)


def at(tick: int) -> datetime:
    """Return a moment: ticks 0 to 12 lie in 4 seconds, at whole seconds, halves, and a microsecond beside them."""
    if tick < 0:
        return _START + timedelta(seconds=tick + 1)
    beyond = max(tick - TICKS, 0)
    return _START + timedelta(microseconds=_MICROSECONDS[tick - beyond], seconds=beyond)


class Source:
    """A source of choices: `below(n)` returns a number from 0 to n - 1, the simplest first."""

    def __init__(self, below: Callable[[int], int], ticks: Sequence[int] = range(TICKS + 1)) -> None:
        self.below = below
        self.ticks = ticks

    def with_few_ticks(self) -> "Source":
        """Return a source that knows a few moments only, so that more of what it draws coincides."""
        return Source(self.below, sorted(self.several(HALVES if self.chance(70) else self.ticks, 5, 8)))

    def tick(self, least: int = 0) -> int:
        """Choose a moment, not before the given tick if any is left."""
        return self.one([tick for tick in self.ticks if tick >= least] or [TICKS])

    def one(self, values: Sequence[T]) -> T:
        """Choose one value."""
        return values[self.below(len(values))]

    def mostly(self, values: Sequence[T]) -> T:
        """Choose the first value more often than all the others together."""
        return self.one((*[values[0]] * 3 * len(values), *values[1:]))

    def often(self, values: Sequence[T]) -> T:
        """Choose the first value about as often as all the others together."""
        return self.one((*[values[0]] * (len(values) - 2), *values))

    def chance(self, percent: int) -> bool:
        """Say yes so often; no is the simpler answer."""
        return self.below(100) >= 100 - percent

    def some(self, percent: int, values: Sequence[T]) -> T | None:
        """Choose one value so often, otherwise nothing."""
        return self.mostly(values) if self.chance(percent) else None

    def number(self, least: int, most: int) -> int:
        """Choose a number, both ends included."""
        return least + self.below(most - least + 1)

    def several(self, values: Sequence[T], least: int, most: int) -> list[T]:
        """Choose different values, in any order."""
        left, chosen = list(values), []
        for _ in range(min(self.number(least, most), len(left))):
            chosen.append(left.pop(self.below(len(left))))
        return chosen

    def ids(self, values: Sequence[str]) -> Any:
        """Choose an id, or a list of two as criteria may have them."""
        return tuple(sorted(self.several(values, 2, 2))) if self.chance(35) else self.mostly(values)


def seeded(seed: int) -> Source:
    """Return a source of random choices that are the same for the same seed."""
    return Source(random.Random(seed).randrange)
