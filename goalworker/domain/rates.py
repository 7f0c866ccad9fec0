"""Rates and times as reports print them, and how far chance alone may have moved a rate."""

import math
from typing import Final

# Two-sided 95 % of the normal distribution.
_Z: Final = 1.959963984540054
_SECONDS_PER_HOUR: Final = 3600


def hours(seconds: float | None) -> float | None:
    """Return a time in hours with two decimals."""
    return None if seconds is None else round(seconds / _SECONDS_PER_HOUR, 2)


def seconds(value: float | None) -> float | None:
    """Return a time in seconds with three decimals: ten seconds round to 0.0 hours."""
    return None if value is None else round(value, 3)


def percentage(part: float, whole: float) -> float:
    """Return a share as a percentage with one decimal; 0.0 of nothing."""
    return round(100 * part / whole, 1) if whole else 0.0


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the bounds of Wilson's score interval of a share, at 95 %; at least one trial."""
    squared = _Z * _Z
    centre = successes + squared / 2
    margin = _Z * math.sqrt(successes * (trials - successes) / trials + squared / 4)
    return max(0.0, (centre - margin) / (trials + squared)), min(1.0, (centre + margin) / (trials + squared))
