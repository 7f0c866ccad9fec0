"""What the client's parser in C makes of a fetch, taken as it is, a list at a time.

For each record aiokafka goes through two functions of Python and makes an object of eleven fields out of what its
parser made already: that is most of what reading costs. It has no way to ask for less, so three of its classes are
replaced by these, which do the same except for a consumer that asks for records as parsed. tests/unit/test_parsed.py
and tests/integration/test_fetched.py hold them to the client's own.
"""

import struct
import sys
from collections.abc import Sequence
from typing import Any, Final, Protocol

import google_crc32c
from aiokafka import errors as kafka_errors
from aiokafka.consumer import fetcher


class Fetched(Protocol):
    """What the client's parser makes of a record; the topic and the partition are known to whoever fetched it."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def timestamp_type(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


def as_parsed(value: bytes | None) -> bytes | None:
    """The value as it is; of a consumer of committed records that has this as its deserializer, records are Fetched."""
    return value


class _MemoryRecords(fetcher.MemoryRecords):  # type: ignore[misc]  # aiokafka has no types
    """The batches of a partition; the checksum is the processor's own instruction, where the client's is a loop in C.

    The layout is that of Kafka's record batch: base offset, length of the rest, leader epoch, magic, checksum of the
    rest.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data
        self._start = self._end = 0

    def next_batch(self) -> Any:
        batch = super().next_batch()
        self._start, self._end = self._end, self._end + _LENGTH.size + _LENGTH.unpack_from(self._data, self._end)[1]
        return batch

    def is_damaged(self, batch: Any) -> bool:
        """Say whether the checksum of the batch that next_batch returned last is wrong."""
        magic, checksum = _CHECKSUM.unpack_from(self._data, self._start + _CHECKSUM_AT)
        if magic < _MAGIC:  # of a format that brokers have stopped writing
            return not batch.validate_crc()
        rest = self._data[self._start + _CHECKSUM_AT + _CHECKSUM.size : self._end]
        return bool(google_crc32c.value(rest) != checksum)


_LENGTH: Final = struct.Struct(">qi")
_CHECKSUM: Final = struct.Struct(">bI")
_CHECKSUM_AT: Final = 16
_MAGIC: Final = 2


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, tp: Any, records: Any, aborted: Any, offset: int, key: Any, value: Any, *rest: Any) -> None:
        super().__init__(tp, records, aborted, offset, key, value, *rest)
        self.is_as_parsed = value is as_parsed
        if self.is_as_parsed:
            self._records_iterator = None  # it refers to us: all that was fetched would wait for the collector
        self._parsed: list[Fetched] = []
        self._taken = 0
        self._after = offset
        self._is_damaged = False

    def take(self, limit: int) -> tuple[list[Fetched], bool]:
        """Return the next records, at most so many, and whether there may be more."""
        found: list[Fetched] = []
        while len(found) < limit:
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
        while not self._is_damaged and self._records.has_next():
            self._is_damaged = True  # where an error ends this, nothing behind it is taken: all is fetched again
            batch = self._records.next_batch()
            if self._check_crcs and self._records.is_damaged(batch):
                raise kafka_errors.CorruptRecordException(f"Invalid CRC - {self._tp}")
            self._parsed, self._taken = [] if self._is_hidden(batch) else list(batch), 0
            self._after = batch.next_offset
            self._is_damaged = False
            if self._parsed and self._parsed[0].offset < self.next_fetch_offset:  # read from its middle on
                self._parsed = [record for record in self._parsed if record.offset >= self.next_fetch_offset]
            if self._parsed:
                return True
            self.next_fetch_offset = self._after
        return False

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
        found, has_more = records.take(sys.maxsize if max_records is None else max_records)
        self._update_position()
        if not has_more:
            self._partition_records = None
        return found


fetcher.MemoryRecords = _MemoryRecords
fetcher.PartitionRecords = _PartitionRecords
fetcher.FetchResult = _FetchResult
