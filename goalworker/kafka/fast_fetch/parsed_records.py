"""What the client's parser in C makes of a fetch, taken as it is, a list at a time.

For each record aiokafka goes through two functions of Python and makes an object of eleven fields out of what its
parser made already: that is most of what reading costs. It has no way to ask for less, so three of its classes are
replaced by these, which do the same except for a consumer that asks for records as parsed. tests/unit/test_parsed.py
and tests/integration/test_fetched.py hold them to the client's own.
"""

import asyncio
import struct
import sys
from collections.abc import Iterator
from typing import Any, Final

import google_crc32c
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.consumer import fetcher

from goalworker.decoding.record import FetchedRecord
from goalworker.kafka.fast_fetch import decompression

# What one fetch hands over, decompressed; the rest of what was read waits compressed, partition by partition.
FETCH_BYTES: Final = 16 * 1024 * 1024


def as_parsed(value: bytes | None) -> bytes | None:
    """The value as it is; of a consumer of committed records that has this as its deserializer, records are Fetched."""
    return value


class Allowance:
    """Counts the bytes that one call of getmany hands over, from begin() or the event loop's last turn on."""

    def __init__(self) -> None:
        self.taken = 0
        self._is_counting = False

    @property
    def left(self) -> int:
        return FETCH_BYTES - self.taken

    def take(self, count: int) -> None:
        """Count bytes: getmany goes through its partitions without letting the event loop turn."""
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self.begin)
        self.taken += count

    def begin(self) -> None:
        """Begin anew: what follows is another call."""
        self.taken, self._is_counting = 0, False


ALLOWANCE: Final = Allowance()


# By partition, the highest leader epoch among the batches handed over: it never falls in one log, even where batches
# are read again.
LEADER_EPOCHS: Final[dict[TopicPartition, int]] = {}


class _MemoryRecords(fetcher.MemoryRecords):  # type: ignore[misc]  # aiokafka has no types
    """The batches of a partition; the checksum is the processor's own instruction, where the client's is a loop in C.

    The layout is that of Kafka's record batch: base offset, length of the rest, leader epoch, magic, checksum of the
    rest.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data
        self._start = self._end = self.size = self.is_compressed = self._magic = self._checksum = 0
        self._epoch = -1

    def next_batch(self) -> Any:
        batch = super().next_batch()
        self._start = start = self._end
        _, length, self._epoch, self._magic, self._checksum, attributes = _HEAD.unpack_from(self._data, start)
        self.size = _LENGTH_END + length
        self._end = start + self.size
        # A format that brokers have stopped writing is left to the client.
        self.is_compressed = attributes & _CODEC if self._magic >= _MAGIC else 0
        return batch

    @property
    def leader_epoch(self) -> int:
        """The leader epoch of the batch that next_batch returned last; -1 where it has none."""
        return self._epoch if self._magic >= _MAGIC else -1

    def last(self) -> memoryview:
        """Return the batch that next_batch returned last, as it came."""
        return memoryview(self._data)[self._start : self._end]

    def is_damaged(self, batch: Any) -> bool:
        """Say whether the checksum of the batch that next_batch returned last is wrong."""
        if self._magic < _MAGIC:  # of a format that brokers have stopped writing
            return not batch.validate_crc()
        rest = self._data[self._start + _CHECKSUM_END : self._end]
        return bool(google_crc32c.value(rest) != self._checksum)


# Base offset, length of the rest, leader epoch, magic, checksum, attributes.
_HEAD: Final = struct.Struct(">qiibIh")


_LENGTH_END, _CHECKSUM_END = 12, 21


_MAGIC: Final = 2


_CODEC: Final = 0x07


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, tp: Any, records: Any, aborted: Any, offset: int, key: Any, value: Any, *rest: Any) -> None:
        super().__init__(tp, records, aborted, offset, key, value, *rest)
        self.is_as_parsed = value is as_parsed
        if self.is_as_parsed:
            self._records_iterator = None  # it refers to us: all that was fetched would wait for the collector
        self._parsed: list[FetchedRecord] = []
        self._pieces: Iterator[tuple[list[FetchedRecord], int]] | None = None
        self._taken = 0
        self._after = offset
        self._end_of_pieces = offset
        self._is_damaged = False
        self.bytes_left = 0

    @property
    def leader_epoch(self) -> int:
        """The leader epoch of the last batch that was parsed; -1 where it has none."""
        epoch: int = self._records.leader_epoch
        return epoch

    def take(self, limit: int, bytes_limit: int = sys.maxsize) -> tuple[list[FetchedRecord], bool]:
        """Return the next records, at most so many and about so many bytes, and whether there may be more.

        bytes_left says afterwards what is left of the bytes.
        """
        found: list[FetchedRecord] = []
        self.bytes_left = bytes_limit
        while len(found) < limit and (self.bytes_left > 0 or self._taken < len(self._parsed)):
            if self._taken == len(self._parsed) and not self._parse():
                return found, False
            part = self._parsed[self._taken : self._taken + limit - len(found)]
            self._taken += len(part)
            # After the last one of a batch comes the next batch, whatever compaction took from its end.
            is_whole = self._taken == len(self._parsed)
            self.next_fetch_offset = self._after if is_whole else part[-1].offset + 1
            found += part
        return found, True

    def _parse(self) -> bool:
        """Parse the next batch that has anything to be seen; False where there is none."""
        while not self._is_damaged and (self._pieces is not None or self._records.has_next()):
            self._is_damaged = True  # where an error ends this, nothing behind it is taken: all is fetched again
            if self._pieces is not None:
                self._parse_piece(self._pieces)
            else:
                self._parse_batch()
            self._is_damaged = False
            if self._parsed and self._parsed[0].offset < self.next_fetch_offset:  # read from its middle on
                self._parsed = [record for record in self._parsed if record.offset >= self.next_fetch_offset]
            if self._parsed:
                return True
            self.next_fetch_offset = self._after
        return False

    def _parse_batch(self) -> None:
        records = self._records
        batch = records.next_batch()
        if self._check_crcs and records.is_damaged(batch):
            raise kafka_errors.CorruptRecordException(f"Invalid CRC - {self._tp}")
        self._parsed, self._taken, self._after = [], 0, batch.next_offset
        if self._is_hidden(batch):
            return
        if not records.is_compressed:
            self._parsed = list(batch)
            self.bytes_left -= records.size
            return
        unpacked = decompression.at_once(records.last())
        if unpacked is not None:
            self._parsed, size = unpacked
            self.bytes_left -= size
        else:
            self._end_of_pieces = batch.next_offset
            self._parse_piece(decompression.pieces(records.last()))

    def _parse_piece(self, pieces: Iterator[tuple[list[FetchedRecord], int]]) -> None:
        piece = next(pieces, None)
        self._pieces = None if piece is None else pieces
        if piece is None:
            self._parsed, self._after = [], self._end_of_pieces
        else:
            self._parsed, size = piece
            self._after = self._parsed[-1].offset + 1 if self._parsed else self.next_fetch_offset
            self.bytes_left -= size
        self._taken = 0

    def _is_hidden(self, batch: Any) -> bool:
        """Say whether a batch is a marker, or of a transaction that was aborted."""
        if batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
        return batch.is_control_batch or (batch.is_transactional and batch.producer_id in self._aborted_producers)


class _FetchResult(fetcher.FetchResult):  # type: ignore[misc]  # aiokafka has no types
    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        records = self._partition_records
        if records is None or not records.is_as_parsed:
            whole: list[Any] = super().getall(max_records)
            return whole
        if not self.check_assignment(self._topic_partition):
            return []
        found: list[Any]
        left = ALLOWANCE.left
        if left <= 0:
            return []
        found, has_more = records.take(sys.maxsize if max_records is None else max_records, left)
        _note_epoch(self._topic_partition, records.leader_epoch)
        ALLOWANCE.take(left - records.bytes_left)
        self._update_position()
        if not has_more:
            self._partition_records = None
        return found


def _note_epoch(partition: TopicPartition, epoch: int) -> None:
    if epoch > LEADER_EPOCHS.get(partition, -1):
        LEADER_EPOCHS[partition] = epoch


fetcher.MemoryRecords = _MemoryRecords


fetcher.PartitionRecords = _PartitionRecords


fetcher.FetchResult = _FetchResult
