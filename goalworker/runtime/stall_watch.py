"""Stall detection: a partition with lag and no progress (hazard 2)."""

from collections.abc import Mapping

from aiokafka import TopicPartition

from goalworker.errors import StalledError

Progress = Mapping[TopicPartition, tuple[int, int]]
"""By partition: the offset committed, and the last stable offset."""


class StallWatch:
    """Notices a partition with lag that has not moved for so long, while nothing that it needs was away."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._seen: dict[TopicPartition, tuple[int, float]] = {}

    def is_progress(self, partition: TopicPartition, committed: int, end: int) -> bool:
        """Say whether a partition has moved since the last look, or has nothing left to read."""
        return committed >= end or self._seen.get(partition, (None,))[0] != committed

    def look(self, progress: Progress, now: float) -> TopicPartition | None:
        """Take in where the partitions are (none: something is away) and return one that stalls, if one does."""
        self._seen = {
            partition: (committed, now) if self.is_progress(partition, committed, end) else self._seen[partition]
            for partition, (committed, end) in progress.items()
        }
        overdue = (partition for partition, (_, since) in self._seen.items() if now - since >= self._stall_seconds)
        return next(overdue, None)


def _stalled(partition: TopicPartition, stall_seconds: int) -> StalledError:
    return StalledError(
        f"{partition.topic}[{partition.partition}] has lag and nothing was committed for {stall_seconds} s, though "
        "broker and database answer: the consumer is stuck. Start the worker again; what is uncommitted is read again."
    )
