"""Who holds the partitions: the consumer group as the broker describes it, and members whose process is gone."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from goalworker.config import groups

SESSION_SECONDS: Final = groups.Kafka().session_timeout_seconds
"""For how long the broker keeps the partitions of a member that it does not hear of."""

STABLE: Final = "Stable"


class Membership:
    """Tells members that live from members that died; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.dead_pid = 0
        self._clock = clock
        self._took_over_at: float | None = None
        self._members: Mapping[str, int] = {}
        self._dead: set[str] = set()
        self._died_at = 0.0

    def worker_died(self, pid: int) -> None:
        """Take in that a worker's process is gone: whoever is a member now was that one."""
        self.dead_pid, self._died_at, self._took_over_at = pid, self._clock(), None
        self._dead |= {*self._members}

    def note_earlier_members(self, members: Mapping[str, int]) -> None:
        """Take in the members before there is a worker of ours: a run before this one left them behind."""
        self._members, self._dead, self._died_at = members, {*members}, self._clock()

    def update(self, state: str, members: Mapping[str, int]) -> None:
        """Take in the group's state, and how many partitions each member has."""
        self._members = members
        self._dead &= {*members}
        has_reader = state == STABLE and any(members.values())
        if self.dead_pid and not self._dead and has_reader and self._took_over_at is None:
            self._took_over_at = self._clock()

    def took_over_seconds(self) -> float | None:
        """Return for how long a new worker has had the partitions of one that died; None: none has."""
        return None if self._took_over_at is None else self._clock() - self._took_over_at

    def waits_seconds(self) -> float | None:
        """Return for how long at most the group keeps partitions for the dead; None: it waits for nobody."""
        return max(self._died_at + SESSION_SECONDS - self._clock(), 0.0) if self._dead else None
