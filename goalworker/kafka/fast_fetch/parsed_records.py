"""Hand over aiokafka's C-parsed records unchanged, one list per partition.

For each record aiokafka calls two Python functions and copies the parsed record into an object of eleven fields, which
is most of the cost of reading. It offers no cheaper way, so three of its classes are replaced by these. They serve
consumers that read committed records without deserializers, which then have getmany() and not getone(); for every
other consumer they do as aiokafka does.
tests/unit/test_parsed_records.py and tests/integration/test_fetched.py compare them with aiokafka's own.
"""

import struct
import sys
from collections.abc import Iterator
from typing import Any, Final

import google_crc32c
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.consumer import fetcher

from goalworker.decoding.record import RECORD_BYTES_MAX, FetchedRecord
from goalworker.errors import UndecodableError
from goalworker.kafka.fast_fetch import decompression
from goalworker.kafka.fast_fetch.fetch_state import ALLOWANCE, LEADER_EPOCHS

# The layout of Kafka's record batch, version 2: base offset, length of the rest, leader epoch, magic, checksum of the
# rest, attributes.
_HEAD: Final = struct.Struct(">qiibIh")
_LENGTH_END, _CHECKSUM_END = 12, 21
_MAGIC: Final = 2  # brokers no longer write older formats
_CODEC: Final = 0x07  # the bits of the attributes that name the compression

# In bytes. A command gets a larger record without its value. No dead letter is larger, since the sender refuses it.
COMMAND_RECORD_BYTES_MAX: Final = 96 * 1024 * 1024

# Errors of parsing a batch; the last one is about the name of a header.
_UNREADABLE: Final = (kafka_errors.CorruptRecordException, kafka_errors.UnsupportedCodecError, UnicodeDecodeError)


class MemoryRecords(fetcher.MemoryRecords):  # type: ignore[misc]  # aiokafka has no types
    """Batches of a partition; the processor computes their checksums, which aiokafka does in a loop."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data
        self._start = self._end = self.size = self.is_compressed = self._magic = self._checksum = 0
        self._epoch = self.base_offset = -1

    def next_batch(self) -> Any:
        batch = super().next_batch()
        self._start = start = self._end
        self.base_offset, length, self._epoch, self._magic, self._checksum, attributes = _HEAD.unpack_from(
            self._data, start
        )
        self.size = _LENGTH_END + length
        self._end = start + self.size
        # aiokafka decompresses the older formats itself.
        self.is_compressed = attributes & _CODEC if self._magic >= _MAGIC else 0
        return batch

    @property
    def leader_epoch(self) -> int:
        """The leader epoch of the last batch from next_batch(); -1 in the older formats, which lack it."""
        return self._epoch if self._magic >= _MAGIC else -1

    def last(self) -> memoryview:
        """Return the bytes of the last batch from next_batch()."""
        return memoryview(self._data)[self._start : self._end]

    def is_damaged(self, batch: Any) -> bool:
        """Say whether the checksum of the last batch from next_batch() is wrong."""
        if self._magic < _MAGIC:
            return not batch.validate_crc()
        rest = self._data[self._start + _CHECKSUM_END : self._end]
        return bool(google_crc32c.value(rest) != self._checksum)


class PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """Records of a fetch from one partition, parsed batch by batch as they are taken."""

    record_bytes_max = RECORD_BYTES_MAX

    def __init__(self, tp: Any, records: Any, aborted: Any, offset: int, key: Any, value: Any, *rest: Any) -> None:
        super().__init__(tp, records, aborted, offset, key, value, *rest)
        self.is_fast = key is None and value is None and self._isolation_level == fetcher.READ_COMMITTED
        if self.is_fast:
            self._records_iterator = None  # its reference to us would keep the whole fetch until the collector runs
        self._parsed: list[FetchedRecord] = []
        self._pieces: Iterator[tuple[list[FetchedRecord], int]] | None = None
        self._taken = 0
        self._after = offset
        self._first, self._end = offset, offset  # of the last batch
        self._is_damaged = False
        self.bytes_left = 0

    @property
    def leader_epoch(self) -> int:
        """The leader epoch of the last parsed batch; -1 in the older formats, which lack it."""
        epoch: int = self._records.leader_epoch
        return epoch

    def take(self, limit: int, bytes_limit: int = sys.maxsize) -> tuple[list[FetchedRecord], bool]:
        """Return up to `limit` records of about `bytes_limit` bytes, and whether there may be more.

        Afterwards bytes_left is the rest of bytes_limit. Records before a batch that is damaged or cannot be read are
        returned; that batch is fetched again, and then raises.
        """
        found: list[FetchedRecord] = []
        self.bytes_left = bytes_limit
        while len(found) < limit and (self.bytes_left > 0 or self._taken < len(self._parsed)):
            try:
                if self._taken == len(self._parsed) and not self._parse():
                    return found, False
            except (kafka_errors.CorruptRecordException, UndecodableError):
                if found:
                    return found, False
                raise
            part = self._parsed[self._taken : self._taken + limit - len(found)]
            self._taken += len(part)
            # Behind a batch's last record the next batch follows, whatever compaction removed in between.
            is_whole = self._taken == len(self._parsed)
            self.next_fetch_offset = self._after if is_whole else part[-1].offset + 1
            found += part
        return found, True

    def _parse(self) -> bool:
        """Parse the next batch or piece that has visible records; return False at the end."""
        while not self._is_damaged and (self._pieces is not None or self._records.has_next()):
            self._is_damaged = True  # stays True on an error: nothing behind it is handed over, all is fetched again
            batch = self._next_batch() if self._pieces is None else None
            try:
                if self._pieces is None:
                    self._parse_batch(batch)
                else:
                    self._parse_piece(self._pieces)
            except _UNREADABLE as error:
                raise self._undecodable(error) from error
            self._is_damaged = False
            if self._parsed and self._parsed[0].offset < self.next_fetch_offset:  # the fetch began inside this batch
                self._parsed = [record for record in self._parsed if record.offset >= self.next_fetch_offset]
            if self._parsed:
                return True
            # Pieces before the offset where the fetch began do not move it back.
            self.next_fetch_offset = max(self.next_fetch_offset, self._after)
        return False

    def _next_batch(self) -> Any:
        """Return the next batch; raises CorruptRecordException where it was damaged, perhaps only on its way."""
        records = self._records
        batch = records.next_batch()
        if self._check_crcs and records.is_damaged(batch):
            raise kafka_errors.CorruptRecordException(f"Invalid CRC - {self._tp} at {records.base_offset}")
        self._first, self._end = records.base_offset, batch.next_offset
        return batch

    def _undecodable(self, error: Exception) -> UndecodableError:
        first = max(self._first, self.next_fetch_offset)
        is_kafka_error = isinstance(error, kafka_errors.KafkaError)  # whose text begins with its number and class
        reason = error.args[0] if is_kafka_error and error.args else error
        return UndecodableError(self._tp.topic, self._tp.partition, first, self._end - 1, str(reason))

    def _parse_batch(self, batch: Any) -> None:
        records = self._records
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
            self._parse_piece(decompression.pieces(records.last(), self.record_bytes_max))

    def _parse_piece(self, pieces: Iterator[tuple[list[FetchedRecord], int]]) -> None:
        piece = next(pieces, None)
        self._pieces = None if piece is None else pieces
        if piece is None:
            self._parsed, self._after = [], self._end
        else:
            self._parsed, size = piece
            self._after = self._parsed[-1].offset + 1 if self._parsed else self.next_fetch_offset
            self.bytes_left -= size
        self._taken = 0

    def _is_hidden(self, batch: Any) -> bool:
        """Say whether a batch is a transaction marker, or belongs to an aborted transaction."""
        if batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
        return batch.is_control_batch or (batch.is_transactional and batch.producer_id in self._aborted_producers)


class CommandPartitionRecords(PartitionRecords):
    """Records for a command: ConsumerRecords, with values up to the size of the largest dead letter."""

    record_bytes_max = COMMAND_RECORD_BYTES_MAX

    def take(self, limit: int, bytes_limit: int = sys.maxsize) -> tuple[list[Any], bool]:
        found, has_more = super().take(limit, bytes_limit)
        return [self._consumer_record(self._tp, record) for record in found], has_more


class FetchResult(fetcher.FetchResult):  # type: ignore[misc]  # aiokafka has no types
    """Result of a fetch from one partition; getall() hands records over within the byte limit of a fetch."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        records = self._partition_records
        if records is None or not records.is_fast:
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
