"""Medians, shares and spreads for the results, and the extent of a run."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Spread = Mapping[str, float]
"""median, min and max."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Extent of a run: one nth of the events and of the rows, and the number of rounds."""

    share: int
    rounds: int

    def of(self, count: int, least: int = 1) -> int:
        """Return one nth of a count."""
        return max(count // self.share, min(least, count))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, smallest and largest."""
    digits = 1 if max(values) < 1_000 else 0
    named = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in named.items()}


def shares(values: Sequence[float], of: Sequence[float], times: float = 100) -> dict[str, float]:
    """Return the spread of the ratios of paired values, in percent; times=1: as a factor."""
    return spread([times * value / whole for value, whole in zip(values, of, strict=True)])
