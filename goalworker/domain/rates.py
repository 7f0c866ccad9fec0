"""Rates: percentages, and how far chance alone may have moved them."""

import math
from typing import Final

# Two-sided 95 % of the normal distribution.
_Z: Final = 1.959963984540054


def percentage(part: float, whole: float) -> float:
    """Return a share as a percentage with one decimal; 0.0 of nothing."""
    return round(100 * part / whole, 1) if whole else 0.0


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the bounds of Wilson's score interval of a share, at 95 %; at least one trial."""
    squared = _Z * _Z
    centre = successes + squared / 2
    margin = _Z * math.sqrt(successes * (trials - successes) / trials + squared / 4)
    return max(0.0, (centre - margin) / (trials + squared)), min(1.0, (centre + margin) / (trials + squared))
