"""Write what lifelines says about made-up enrollments into tests/vectors; `make incidence-vectors` runs it.

Lifelines comes with half a gigabyte of scientific software, so that the tests have its answers and not itself.
"""

import json
import random
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import lifelines

PATH: Final = Path(__file__).parents[1] / "vectors" / "incidence.jsonl"
_OPEN, _CONVERTED, _ENDED = range(3)
_SEED: Final = 19
# Enrollments, and how often each is open, converted and ended.
_WORLDS: Final = ((1, (0, 1, 0)), (12, (1, 1, 1)), (60, (1, 3, 2)), (200, (6, 1, 1)), (500, (1, 1, 8)))


def main() -> None:
    chance = random.Random(_SEED)
    lines = [json.dumps(_answer(chance, size, weights)) for size, weights in _WORLDS]
    PATH.write_text("".join(f"{line}\n" for line in lines))


def _answer(chance: random.Random, size: int, weights: tuple[int, ...]) -> dict[str, Any]:
    # No two at the same second: lifelines would move one of them by chance.
    seconds = sorted(chance.sample(range(1, 3_600), size))
    outcomes = chance.choices((_OPEN, _CONVERTED, _ENDED), weights, k=size)
    return {
        "lifelines": metadata.version("lifelines"),
        "seconds": seconds,
        "outcomes": outcomes,
        "converted": _incidence(seconds, outcomes, _CONVERTED),
        "ended": _incidence(seconds, outcomes, _ENDED),
    }


def _incidence(seconds: list[int], outcomes: list[int], of: int) -> list[tuple[int, float]]:
    if of not in outcomes:
        return []
    fitted = lifelines.AalenJohansenFitter(calculate_variance=False).fit(seconds, outcomes, event_of_interest=of)
    (curve,) = fitted.cumulative_density_.to_dict().values()
    return [(round(time), round(share, 12)) for time, share in curve.items()]


if __name__ == "__main__":
    main()
