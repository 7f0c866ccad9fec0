"""Arrivals: by when records had reached Kafka, which their timestamps do not say, because producers set these."""

from collections import deque
from datetime import datetime
from typing import Final, NamedTuple

from aiokafka import TopicPartition

# Ends of a partition that are remembered. Beyond them every second one is dropped: its records count as later.
ENDS_MAX: Final = 256


class _End(NamedTuple):
    offset: int
    seen_at: datetime


class Arrivals:
    """Ends of partitions as they were seen: what lies before an end had arrived by then."""

    def __init__(self) -> None:
        self._ends: dict[TopicPartition, deque[_End]] = {}

    def note(self, partition: TopicPartition, end: int | None, now: datetime) -> None:
        """Note where a partition's log ends; None says nothing."""
        ends = self._ends.setdefault(partition, deque())
        if end is None or (ends and end == ends[-1].offset):
            return
        if ends and end < ends[-1].offset:
            ends.clear()  # another log, or one that has lost its end
        if len(ends) >= ENDS_MAX:
            self._ends[partition] = ends = deque(list(ends)[1::2])
        ends.append(_End(end, now))

    def arrived_by(self, partition: TopicPartition, next_offset: int, now: datetime) -> datetime:
        """Return by when the records before an offset had arrived; a partition's offsets are asked for in order."""
        ends = self._ends.get(partition, deque())
        while ends and ends[0].offset < next_offset:
            ends.popleft()
        return ends[0].seen_at if ends else now
