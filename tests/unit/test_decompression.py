"""A batch cut into pieces holds what the client's own parser finds in it, whatever the codec and the sizes."""

import struct
from collections.abc import Callable
from typing import Any

import cramjam
import pytest
from aiokafka import codec
from aiokafka import errors as kafka_errors
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goalworker.decoding.record import OversizedRecord
from goalworker.kafka.fast_fetch import decompression

CODECS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (1, codec.gzip_encode),
    "snappy, framed": (2, codec.snappy_encode),
    "snappy": (2, lambda data: codec.snappy_encode(data, xerial_compatible=False)),
    "lz4": (3, codec.lz4_encode),
    "lz4, linked": (3, lambda data: bytes(cramjam.lz4.compress(data))),
    "zstd": (4, codec.zstd_encode),
    "zstd, two frames": (4, lambda data: codec.zstd_encode(data[:9]) + codec.zstd_encode(data[9:])),
}
KIND = pytest.mark.parametrize("kind", CODECS)
HEADER_BYTES, COUNT_AT = 61, 57
RECORD_BYTES_MAX = 400


def batch_of(values: list[bytes | None], kind: str) -> bytes:
    number, compress = CODECS[kind]
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for offset, value in enumerate(values):
        builder.append(offset, 1_000 + offset, b"key%d" % offset, value, [("n", b"x")])
    plain = bytearray(builder.build())
    struct.pack_into(">q", plain, 0, 500)
    plain[22] |= number
    return bytes(plain[:HEADER_BYTES]) + compress(bytes(plain[HEADER_BYTES:]))


def fields(record: Any) -> tuple[object, ...]:
    return (record.offset, record.timestamp, record.timestamp_type, record.key, record.value, tuple(record.headers))


def cut(data: bytes) -> list[list[Any]]:
    """Return a batch's records at once where that is possible, else piece by piece."""
    whole = decompression.at_once(memoryview(data))
    if whole is not None:
        return [whole[0]]
    return [records for records, _ in decompression.pieces(memoryview(data), RECORD_BYTES_MAX)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of a few hundred bytes."""
    monkeypatch.setattr(decompression, "AT_ONCE_BYTES", 300)
    monkeypatch.setattr(decompression, "PIECE_BYTES", 200)
    monkeypatch.setattr(decompression, "_READ_BYTES", 64)


@KIND
@pytest.mark.usefixtures("small")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.one_of(st.none(), st.binary(max_size=350)), min_size=1, max_size=12))
def test_pieces_hold_what_the_clients_parser_finds(kind: str, values: list[bytes | None]) -> None:
    data = batch_of(values, kind)
    found = cut(data)
    assert [fields(record) for records in found for record in records] == [
        fields(record) for record in DefaultRecordBatch(data)
    ]
    assert all(sum(len(record.value or b"") for record in records) <= 300 + 350 for records in found)


@KIND
@pytest.mark.usefixtures("small")
def test_a_record_that_is_too_long_is_left_out_and_those_around_it_are_not(kind: str) -> None:
    data = batch_of([b"a", b"b" * 100_000, b"c" * 399, b"d"], kind)
    expected = [fields(record) for record in DefaultRecordBatch(data)]
    found = [record for records in cut(data) for record in records]
    kept = [record for record in found if not isinstance(record, OversizedRecord)]
    assert [fields(record) for record in kept] == [expected[0], expected[3]]
    first, second = (record for record in found if isinstance(record, OversizedRecord))
    assert [record.offset for record in found] == [500, 501, 502, 503]
    assert (first.timestamp, first.key, first.timestamp_type) == (expected[1][1], b"key1", 0)
    assert first.size > 100_000 > second.size > 400


@KIND
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("values", [[b"a"], [b"a" * 300] * 9, [b"a" * 9_000]], ids=["small", "large", "too long"])
def test_a_batch_that_is_not_what_it_says_is_refused_as_corrupt(kind: str, values: list[bytes | None]) -> None:
    data = batch_of(values, kind)
    more, fewer = bytearray(data), bytearray(data)
    struct.pack_into(">i", more, COUNT_AT, len(values) + 1)
    struct.pack_into(">i", fewer, COUNT_AT, len(values) - 1)
    for damaged in (data[:-7], data[:HEADER_BYTES] + b"garbage", bytes(more), bytes(fewer)):
        with pytest.raises(kafka_errors.CorruptRecordException):
            cut(damaged)


def test_a_codec_that_nobody_knows_is_refused() -> None:
    data = bytearray(batch_of([b"a"], "zstd"))
    data[22] |= 7
    with pytest.raises(kafka_errors.UnsupportedCodecError):
        cut(bytes(data))
