"""Time that the judgement of one enrollment takes, in this process: no messages, no database."""

import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench import limits
from tests.kit import counting

OCCURRENCES, COUNTING_US = 10, 20
# The least of many short measurements: the others were interrupted.
CALLS, REPEATS = 50, 400


async def measured(_: limits.Bench) -> list[dict[str, Any]]:
    """Return the microseconds of a plain goal with one hit, and of each way to count occurrences."""
    return list(_rows())


def _rows() -> Iterator[dict[str, Any]]:
    yield {"name": "one hit of a plain goal", "us": _microseconds(counting.judging_of(counting.PLAIN, 1))}
    for name, case in counting.counting(OCCURRENCES).items():
        work = counting.judging_of(case, OCCURRENCES)
        assert work().counts, name
        yield {"name": f"{OCCURRENCES} occurrences, {name}", "us": _microseconds(work), "target_us": COUNTING_US}


def _microseconds(work: Callable[[], object]) -> float:
    seconds = timeit.repeat(work, timer=time.process_time, number=CALLS, repeat=REPEATS)
    return round(min(seconds) / CALLS * 1e6, 1)
