"""State that the fast path shares with the consumer: the bytes of the current fetch, and leader epochs."""

import asyncio
from typing import Final

from aiokafka import TopicPartition

# Decompressed bytes that one fetch hands over. At the limit the rest stays compressed in memory, partition by
# partition, so that well compressed batches do not fill it.
FETCH_BYTES: Final = 16 * 1024 * 1024


class Allowance:
    """Byte limit of one call of getmany(), which begins with begin() or with the event loop's next turn."""

    def __init__(self) -> None:
        self.taken = 0
        self._is_counting = False

    @property
    def left(self) -> int:
        return FETCH_BYTES - self.taken

    def take(self, count: int) -> None:
        """Count bytes. getmany() goes through its partitions without yielding to the event loop."""
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self.begin)
        self.taken += count

    def begin(self) -> None:
        """Count from zero: the next bytes belong to another call."""
        self.taken, self._is_counting = 0, False


# Without the fast path both stay empty: the consumer measures a fetch itself, and commits no leader epochs.
ALLOWANCE: Final = Allowance()
# By partition, the highest leader epoch among the batches handed over: it never falls in one log, even where batches
# are read again.
LEADER_EPOCHS: Final[dict[TopicPartition, int]] = {}
