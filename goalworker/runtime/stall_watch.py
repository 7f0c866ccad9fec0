"""Stall detection: a partition that has lag and makes no progress (hazard 2)."""

from collections.abc import Mapping

from aiokafka import TopicPartition

from goalworker.errors import StalledError

Progress = Mapping[TopicPartition, tuple[int, int]]
"""The committed offset and the last stable offset of each partition."""


class StallWatch:
    """Watch for a partition that has lag and does not move although every dependency answers."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._last_moves: dict[TopicPartition, tuple[int, float]] = {}

    def is_progress(self, partition: TopicPartition, committed: int, end: int) -> bool:
        """Say whether a partition has moved since the last look, or has nothing left to read."""
        return committed >= end or self._last_moves.get(partition, (None,))[0] != committed

    def look(self, progress: Progress, now: float) -> TopicPartition | None:
        """Return a partition that stalls, if there is one; empty progress, as in an outage, starts the clock anew."""
        self._last_moves = {
            partition: (committed, now) if self.is_progress(partition, committed, end) else self._last_moves[partition]
            for partition, (committed, end) in progress.items()
        }
        stalled = (partition for partition, (_, at) in self._last_moves.items() if now - at >= self._stall_seconds)
        return next(stalled, None)


def stall_error(partition: TopicPartition, stall_seconds: int) -> StalledError:
    """Return the error that ends a worker whose consumer is stuck."""
    return StalledError(
        f"{partition.topic}[{partition.partition}] has lag, and no offset was committed for {stall_seconds} s although "
        "broker and database answer: the consumer is stuck. Restart the worker; it reads uncommitted records again."
    )
