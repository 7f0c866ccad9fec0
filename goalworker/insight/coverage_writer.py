"""Task that writes once a second up to which time history has every event (contract section 7, coverage)."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker.pipeline import progress
from goalworker.stores import history_writing

WRITE_SECONDS: Final = 1.0

Offsets = Mapping[TopicPartition, int]


class CoverageWriter:
    """Marks where this process's partitions end, and writes which marks its commits have reached.

    Offsets are committed once events are kept, so the marks are those of the worker's progress.
    """

    def __init__(
        self, pool: AsyncEngine, committed: Callable[[], Offsets], ends: Callable[[Offsets], Awaitable[Offsets]]
    ) -> None:
        self._pool, self._committed, self._ends = pool, committed, ends
        self._marks = progress.Marks()
        self._unwritten: dict[TopicPartition, datetime] = {}

    async def write(self) -> None:
        """Write the last marks that were reached, and mark the ends of the partitions as they are now."""
        self._unwritten |= self._marks.take_reached(self._committed())
        marked_at = await history_writing.cover_until(self._pool, self._unwritten)
        self._unwritten = {}
        committed = dict(self._committed())
        if committed:
            self._marks.add(marked_at, await self._ends(committed), committed)
