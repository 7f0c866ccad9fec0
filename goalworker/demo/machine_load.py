"""Load of the machine, which traffic, servers and worker share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

Ticks = tuple[int, int]
"""(busy, all) since the machine started."""

STAT: Final = Path("/proc/stat")
_IDLE: Final = 3
_WAITING: Final = 4
_STOLEN: Final = 8
"""Index after the last field to sum; the guest fields that follow are part of user and nice already."""


def parse_ticks(stat: str) -> Ticks | None:
    """Return the ticks in the first line of Linux's /proc/stat, or None if it has another form."""
    name, _, rest = stat.partition("\n")[0].partition(" ")
    fields = rest.split()
    if name != "cpu" or len(fields) <= _WAITING or not all(map(str.isdecimal, fields)):
        return None
    numbers = [int(field) for field in fields[:_STOLEN]]
    return sum(numbers) - numbers[_IDLE] - numbers[_WAITING], sum(numbers)


def busy_share(before: Ticks, after: Ticks) -> float | None:
    """Return the busy share of the time between two samples, or None if no time has passed."""
    elapsed = after[1] - before[1]
    return min(max((after[0] - before[0]) / elapsed, 0.0), 1.0) if elapsed > 0 else None


class MachineLoad:
    """Text such as "2 cores at 76 %"; without /proc the load average, and without that only the cores."""

    def __init__(
        self, stat: Path = STAT, load_average: Callable[[], tuple[float, float, float]] = os.getloadavg
    ) -> None:
        self._stat = stat
        self._load_average = load_average
        self._cores = os.cpu_count() or 1
        self._before = self._ticks()

    def describe(self) -> str:
        """Return the load since the previous call."""
        cores = f"{self._cores} core{'s' * (self._cores != 1)}"
        ticks = self._ticks()
        share = busy_share(self._before, ticks) if self._before and ticks else None
        self._before = ticks
        if share is not None:
            return f"{cores} at {share:.0%}".replace("%", " %")
        try:
            return f"{cores}, load {self._load_average()[0]:.1f}"
        except OSError:
            return cores

    def _ticks(self) -> Ticks | None:
        try:
            return parse_ticks(self._stat.read_text())
        except OSError:
            return None
