"""Limit of repeated log lines: pure, with the clock passed in.

A client that cannot reach its server logs every attempt, hundreds of times a minute. Of each shape of message one a
minute is written, and of each family a few shapes; the others are held back and counted.
"""

import time
from collections.abc import Callable
from typing import Final

WINDOW_SECONDS: Final = 60.0
# Shapes of a family that are written within the window; further ones are held back.
SHAPES_MAX: Final = 3
# Counts of shapes, which may never come again; beyond this all are forgotten.
_COUNTS_MAX: Final = 1_000


class RepeatLimiter:
    """Limiter that admits a message or holds it back; during a known outage, its whole family is silenced."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        window_seconds: float = WINDOW_SECONDS,
        shapes_max: int = SHAPES_MAX,
    ) -> None:
        self._clock = clock
        self._window_seconds = window_seconds
        self._shapes_max = shapes_max
        self._written_at: dict[str, dict[str, float]] = {}
        self._held_by_shape: dict[tuple[str, str], int] = {}
        self._held: dict[str, int] = {}
        self._silenced: set[str] = set()

    def admit(self, family: str, shape: str) -> int | None:
        """Return how many of this shape were held back since the last written one; None: hold this one back too."""
        now = self._clock()
        written = self._written_at.setdefault(family, {})
        for expired in [other for other, at in written.items() if now - at >= self._window_seconds]:
            del written[expired]
        if family in self._silenced or shape in written or len(written) >= self._shapes_max:
            self._held[family] = self._held.get(family, 0) + 1
            if shape in written:
                if len(self._held_by_shape) >= _COUNTS_MAX:
                    self._held_by_shape.clear()
                self._held_by_shape[family, shape] = self._held_by_shape.get((family, shape), 0) + 1
            return None
        written[shape] = now
        return self._held_by_shape.pop((family, shape), 0)

    def silence(self, family: str) -> None:
        """Hold back every message of a family until resume()."""
        self._silenced.add(family)

    def resume(self, family: str) -> None:
        """Write messages of a family again."""
        self._silenced.discard(family)

    def held(self, family: str) -> int:
        """Return the number of messages of a family that were held back since the last call of take_held()."""
        return self._held.get(family, 0)

    def take_held(self, family: str) -> int:
        """Return the number of messages of a family that were held back, and count from zero again."""
        return self._held.pop(family, 0)
