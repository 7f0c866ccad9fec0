"""Offsets of the records that the demo sent; every other record in its topics comes from another sender."""

import bisect
from collections.abc import Iterator, Mapping

from aiokafka import TopicPartition


class OwnOffsets:
    """The demo's own offsets of each partition, as ranges; `starts` are the end offsets when the demo started."""

    def __init__(self, starts: Mapping[TopicPartition, int]) -> None:
        self._starts = dict(starts)
        self._own: dict[TopicPartition, list[range]] = {partition: [] for partition in starts}

    @property
    def partitions(self) -> list[TopicPartition]:
        """The partitions that the demo sends to."""
        return list(self._starts)

    def add(self, partition: TopicPartition, offset: int) -> None:
        """Add the offset of an acknowledged record."""
        own = self._own.setdefault(partition, [])
        if own and own[-1].stop == offset:
            own[-1] = range(own[-1].start, offset + 1)
        else:
            bisect.insort(own, range(offset, offset + 1), key=lambda span: span.start)

    def is_own(self, partition: TopicPartition, offset: int) -> bool:
        """Say whether the demo sent this record."""
        own = self._own.get(partition, [])
        index = bisect.bisect_right(own, offset, key=lambda span: span.start)
        return bool(index and offset < own[index - 1].stop)

    def is_older(self, partition: TopicPartition, offset: int) -> bool:
        """Say whether a record was there before the demo started, as in a kept folder."""
        return bool(offset < self._starts.get(partition, 0))

    def gaps(self, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, range]:
        """Return the range from the first to the last foreign record of each partition that has any."""
        spans = {}
        for partition, end in ends.items():
            foreign = list(self._foreign(partition, end))
            if foreign:
                spans[partition] = range(foreign[0].start, foreign[-1].stop)
        return spans

    def _foreign(self, partition: TopicPartition, end: int) -> Iterator[range]:
        position = self._starts.get(partition, 0)
        for own in (*self._own.get(partition, ()), range(end, end)):
            if position < own.start:
                yield range(position, own.start)
            position = max(position, own.stop)
