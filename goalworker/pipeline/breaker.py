"""Circuit breaker of a topic: trips when too many of its latest records are dead letters (contract section 4)."""

from collections import deque
from collections.abc import Sequence
from itertools import repeat


class Breaker:
    """A breaker that trips when more than max_ratio of a topic's last `window` records were dead letters."""

    def __init__(self, max_ratio: float, window: int) -> None:
        self._max_dead = max_ratio * window
        self._window: deque[bool] = deque(maxlen=window)
        self._dead = 0

    def admit(self, is_dead: Sequence[bool]) -> int | None:
        """Count a topic's records in order; return the position of the first that may not pass, None if all may."""
        if not self._dead and not any(is_dead):
            self._window.extend(repeat(False, len(is_dead)))
            return None
        for position, dead in enumerate(is_dead):
            if len(self._window) == self._window.maxlen:
                self._dead -= self._window[0]
            self._window.append(dead)
            self._dead += dead
            if len(self._window) == self._window.maxlen and self._dead > self._max_dead:
                return position
        return None

    def condemn(self, records: int) -> bool:
        """Count this many of the newest good records as dead after all; say whether the breaker trips."""
        taken_for_good = [at for at, dead in enumerate(self._window) if not dead]
        for at in taken_for_good[-records:]:
            self._window[at] = True
            self._dead += 1
        return len(self._window) == self._window.maxlen and self._dead > self._max_dead
