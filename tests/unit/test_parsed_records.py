"""Records taken a list at a time are those of aiokafka's own iterator, whatever was fetched."""

import asyncio
import gc
import gzip
import struct
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest import mock

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from goalworker.decoding.record import RECORD_BYTES_MAX, OversizedRecord
from goalworker.errors import UndecodableError
from goalworker.kafka.fast_fetch import decompression, fetch_state, parsed_records

PARTITION = TopicPartition("t", 0)
READ_COMMITTED = 1
LEADER_EPOCH_AT, CRC_AT, ATTRIBUTES_AT, LAST_DELTA_AT, CONTROL = 12, 17, 21, 23, 0x20
HEADER_BYTES, LENGTH_AT, GZIP, SNAPPY = 61, 8, 1, 2
ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"


class Batch(NamedTuple):
    """A batch of records, the last of which compaction has removed; a marker ends a producer's transaction."""

    records: int
    compacted: int = 0
    producer: int = -1
    marker: bytes | None = None
    gap: int = 0


BATCHES = st.builds(Batch, st.integers(1, 5), st.integers(0, 5), st.integers(-1, 2), st.none(), st.integers(0, 2))
MARKERS = st.builds(
    Batch, st.just(1), st.just(0), st.integers(0, 2), st.sampled_from([ABORT, COMMIT]), st.integers(0, 2)
)


def encoded(batch: Batch, offset: int, leader_epoch: int = 0) -> bytes:
    """Return a batch as a broker sends it."""
    is_transactional = batch.producer >= 0
    builder = DefaultRecordBatchBuilder(2, 0, is_transactional, batch.producer, 0, 0, 1 << 20)
    kept = max(batch.records - batch.compacted, 0)
    for number in range(kept):
        builder.append(number, 1_000 + number, batch.marker or b"key", b"%d" % (offset + number), [("n", b"x")])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, offset)
    struct.pack_into(">i", data, LEADER_EPOCH_AT, leader_epoch)
    struct.pack_into(">i", data, LAST_DELTA_AT, batch.records - 1)
    if batch.marker is not None:
        data[ATTRIBUTES_AT + 1] |= CONTROL
    struct.pack_into(">I", data, CRC_AT, calc_crc32c(bytes(data[ATTRIBUTES_AT:])))
    return bytes(data)


def bytes_of(batches: list[Batch]) -> bytes:
    """Return batches one behind the other, as a broker sends them."""
    data, offset = b"", 0
    for batch in batches:
        offset += batch.gap
        data += encoded(batch, offset)
        offset += batch.records
    return data


def fetched(
    data: bytes,
    aborted: Sequence[tuple[int, int]] = (),
    start: int = 0,
    of: type[parsed_records.PartitionRecords] = parsed_records.PartitionRecords,
) -> parsed_records.PartitionRecords:
    return of(PARTITION, parsed_records.MemoryRecords(data), aborted, start, None, None, True, READ_COMMITTED)


def fetched_by_aiokafka(data: bytes, aborted: Sequence[tuple[int, int]], start: int) -> fetcher.PartitionRecords:
    return fetcher.PartitionRecords(
        PARTITION, fetcher.MemoryRecords(data), aborted, start, None, None, True, READ_COMMITTED
    )


def fields(record: Any) -> tuple[object, ...]:
    return (record.offset, record.timestamp, record.timestamp_type, record.key, record.value, tuple(record.headers))


@given(
    st.lists(st.one_of(BATCHES, MARKERS), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 15)), max_size=3),
    st.integers(0, 6),
    st.integers(1, 7),
)
def test_lists_give_what_the_clients_iterator_gives(
    batches: list[Batch], aborted: list[tuple[int, int]], start: int, limit: int
) -> None:
    start = min(start, batches[0].gap + batches[0].records - 1)  # a broker begins with the batch that was asked for
    data = bytes_of(batches)
    own = fetched_by_aiokafka(data, aborted, start)
    assert not isinstance(own, parsed_records.PartitionRecords)
    expected = [fields(record) for record in own]
    ours = fetched(data, aborted, start)
    found, position, has_more = [], start, True
    while has_more:
        part, has_more = ours.take(limit)
        assert len(part) == limit or not has_more
        assert not part or position <= part[0].offset < ours.next_fetch_offset
        position = ours.next_fetch_offset
        found += [fields(record) for record in part]
    assert found == expected
    assert ours.next_fetch_offset == own.next_fetch_offset


def test_the_position_is_behind_what_was_taken_and_not_behind_what_is_left() -> None:
    records = fetched(bytes_of([Batch(5), Batch(3)]))
    assert [[record.offset for record in records.take(4)[0]], records.next_fetch_offset] == [[0, 1, 2, 3], 4]
    assert [[record.offset for record in records.take(2)[0]], records.next_fetch_offset] == [[4, 5], 6]


def test_what_was_fetched_goes_with_its_last_reference() -> None:
    records = fetched(bytes_of([Batch(3)]))
    kept = weakref.ref(records)
    gc.disable()
    try:
        records.take(3)
        del records
        assert kept() is None
    finally:
        gc.enable()


def test_a_batch_that_was_damaged_is_refused_and_nothing_behind_it_is_taken() -> None:
    damaged = bytearray(encoded(Batch(2), 2))
    damaged[-1] ^= 1
    data = encoded(Batch(2), 0) + bytes(damaged) + encoded(Batch(2), 4)
    records = fetched(data)
    assert [record.offset for record in records.take(2)[0]] == [0, 1]
    with pytest.raises(kafka_errors.CorruptRecordException):
        records.take(2)
    assert records.take(2) == ([], False)
    assert records.next_fetch_offset == 2


def in_snappy(batch: bytes, promised_bytes: int) -> bytes:
    """Return a batch whose block of snappy declares a decompressed size, under a checksum that is right."""
    length = b"".join(
        bytes([promised_bytes >> shift & 0x7F | (0x80 if promised_bytes >> shift + 7 else 0)])
        for shift in range(0, 35, 7)
        if promised_bytes >> shift
    )
    return compressed(batch, SNAPPY, length + b"\0" * 20)


def in_gzip(batch: bytes) -> bytes:
    return compressed(batch, GZIP, gzip.compress(batch[HEADER_BYTES:]))


def compressed(batch: bytes, codec: int, payload: bytes) -> bytes:
    """Return a batch with another payload, under a checksum that is right."""
    data = bytearray(batch[:HEADER_BYTES] + payload)
    data[ATTRIBUTES_AT + 1] |= codec
    struct.pack_into(">i", data, LENGTH_AT, len(data) - LENGTH_AT - 4)
    struct.pack_into(">I", data, CRC_AT, calc_crc32c(bytes(data[ATTRIBUTES_AT:])))
    return bytes(data)


@pytest.mark.parametrize("of", [parsed_records.PartitionRecords, parsed_records.CommandPartitionRecords])
def test_a_batch_that_cannot_be_read_is_named_once_what_comes_before_it_is_taken(
    of: type[parsed_records.PartitionRecords],
) -> None:
    large = in_snappy(encoded(Batch(3), 2), decompression.SNAPPY_BYTES_MAX + 1)
    data = encoded(Batch(2), 0) + large + encoded(Batch(2), 5)
    records = fetched(data, of=of)
    found, has_more = records.take(10)
    assert ([record.offset for record in found], has_more, records.next_fetch_offset) == ([0, 1], False, 2)
    sentence = (
        r"^t\[0\]: the batch of offsets 2 to 4 cannot be read: a batch cannot be decompressed: a block of snappy "
    )
    with pytest.raises(UndecodableError, match=sentence) as no:
        fetched(large + encoded(Batch(2), 5), start=2, of=of).take(10)
    assert (no.value.topic, no.value.partition, no.value.first, no.value.last) == ("t", 0, 2, 4)


def test_a_header_whose_name_is_no_text_makes_its_batch_unreadable() -> None:
    data = bytearray(encoded(Batch(2), 0))
    data[data.rindex(b"\x02n\x02x") + 1] = 0xFF
    struct.pack_into(">I", data, CRC_AT, calc_crc32c(bytes(data[ATTRIBUTES_AT:])))
    with pytest.raises(UndecodableError, match=r"offsets 0 to 1 cannot be read: 'utf-8'"):
        fetched(bytes(data)).take(10)


def test_a_fetch_that_begins_in_the_middle_of_a_large_batch_repeats_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "AT_ONCE_BYTES", 1)
    monkeypatch.setattr(decompression, "PIECE_BYTES", 60)
    data = in_gzip(encoded(Batch(12), 0))
    assert len(fetched(data).take(12, 1)[0]) < 6  # of one piece
    records = fetched(data, start=7)
    assert [record.offset for record in records.take(12)[0]] == [7, 8, 9, 10, 11]


def test_a_command_gets_the_clients_records_within_the_limit_of_a_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_state, "FETCH_BYTES", 100)
    monkeypatch.setattr(parsed_records.FetchResult, "check_assignment", lambda *_: True)
    data = bytes_of([Batch(3), Batch(5, gap=2), Batch(1)])
    records = fetched(data, of=parsed_records.CommandPartitionRecords)
    result = parsed_records.FetchResult(PARTITION, assignment=mock.MagicMock(), partition_records=records, backoff=0)
    parts = []
    while result.has_more():
        parts.append(asyncio.run(_all(result, 100)))
    assert [record for part in parts for record in part] == list(fetched_by_aiokafka(data, [], 0))
    assert [len(part) for part in parts if part] == [3, 5, 1]


@pytest.mark.parametrize("size", [RECORD_BYTES_MAX + 1, parsed_records.COMMAND_RECORD_BYTES_MAX + 1])
def test_a_command_gets_values_that_are_too_large_for_the_worker(size: int) -> None:
    builder = DefaultRecordBatchBuilder(2, GZIP, False, -1, 0, 0, size + 4096)
    builder.append(0, 1_000, b"key", bytes(size), [])
    data = bytes(builder.build())
    (ours,), _ = fetched(data, of=parsed_records.CommandPartitionRecords).take(1)
    assert isinstance(ours, aiokafka.ConsumerRecord)
    assert len(ours.value) == (size if size < parsed_records.COMMAND_RECORD_BYTES_MAX else 0)
    (workers,), _ = fetched(data).take(1)
    assert isinstance(workers, OversizedRecord)


def test_a_batch_in_the_format_of_old_has_its_own_checksum() -> None:
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    builder.append(0, 1_000, b"key", b"value")
    data = bytearray(builder.build())
    for at, is_damaged in ((-1, False), (-1, True)):
        data[at] ^= is_damaged
        records = parsed_records.MemoryRecords(bytes(data))
        assert records.is_damaged(records.next_batch()) is is_damaged


def test_the_highest_leader_epoch_of_what_was_handed_over_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def hand_over(data: bytes, offset: int, limit: int) -> int | None:
        result = parsed_records.FetchResult(
            PARTITION, assignment=mock.MagicMock(), partition_records=fetched(data, start=offset), backoff=0
        )
        monkeypatch.setattr(result, "check_assignment", lambda _: True)
        assert len(asyncio.run(_all(result, limit))) == limit
        return epochs.get(PARTITION)

    epochs = dict[TopicPartition, int]()
    monkeypatch.setattr(parsed_records, "LEADER_EPOCHS", epochs)
    two = encoded(Batch(2), 0, 3) + encoded(Batch(2), 2, 5)
    assert hand_over(two, 0, 1) == 3
    assert hand_over(two, 0, 3) == 5
    assert hand_over(two, 0, 1) == 5  # read again
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    builder.append(0, 1_000, b"key", b"value")
    assert hand_over(bytes(builder.build()), 0, 1) == 5  # the old format has other bytes in that place


async def _all(result: Any, limit: int) -> list[Any]:
    fetch_state.ALLOWANCE.begin()
    taken: list[Any] = result.getall(limit)
    return taken


@pytest.mark.parametrize(
    ("key", "value", "isolation"), [(bytes, None, READ_COMMITTED), (None, bytes, READ_COMMITTED), (None, None, 0)]
)
def test_other_consumers_get_records_as_aiokafka_makes_them(key: Any, value: Any, isolation: int) -> None:
    data = bytes_of([Batch(2)])
    records = parsed_records.PartitionRecords(
        PARTITION, parsed_records.MemoryRecords(data), [], 0, key, value, True, isolation
    )
    result = parsed_records.FetchResult(PARTITION, assignment=mock.MagicMock(), partition_records=records, backoff=0)
    with mock.patch.object(result, "check_assignment", return_value=True):
        assert [(record.topic, record.offset) for record in result.getall(2)] == [("t", 0), ("t", 1)]
