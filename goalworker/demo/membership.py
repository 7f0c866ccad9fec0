"""Members of the consumer group as the broker lists them, and which of them are dead."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from goalworker.config import groups

SESSION_SECONDS: Final = groups.Kafka().session_timeout_seconds
"""After this long without a heartbeat the broker takes a member's partitions away."""

STABLE: Final = "Stable"


class Membership:
    """The group's members, dead ones included until their session ends; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.dead_pid = 0
        self._clock = clock
        self._took_over_at: float | None = None
        self._members: Mapping[str, int] = {}
        self._dead: set[str] = set()
        self._died_at = 0.0

    def worker_died(self, pid: int) -> None:
        """Record that the worker process died: the present members are its own."""
        self.dead_pid, self._died_at, self._took_over_at = pid, self._clock(), None
        self._dead |= {*self._members}

    def note_earlier_members(self, members: Mapping[str, int]) -> None:
        """Record members from before the first worker: an earlier run on the same data left them."""
        self._members, self._dead, self._died_at = members, {*members}, self._clock()

    def update(self, state: str, members: Mapping[str, int]) -> None:
        """Record the group's state and the number of partitions of each member."""
        self._members = members
        self._dead &= {*members}
        is_assigned = state == STABLE and any(members.values())
        if self.dead_pid and not self._dead and is_assigned and self._took_over_at is None:
            self._took_over_at = self._clock()

    def took_over_seconds(self) -> float | None:
        """Return the seconds since a new worker got the partitions of a dead one, None before that."""
        return None if self._took_over_at is None else self._clock() - self._took_over_at

    def waits_seconds(self) -> float | None:
        """Return the longest time until the partitions of dead members are free, None without dead members."""
        return max(self._died_at + SESSION_SECONDS - self._clock(), 0.0) if self._dead else None
