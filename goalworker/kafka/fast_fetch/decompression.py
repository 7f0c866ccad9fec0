"""Decompress record batches piece by piece, so that a piece bounds the memory, whatever a batch becomes.

The client decompresses a batch at once, and 64 KB of zstd can become gigabytes. Here a batch that stays small is given
to the client's parser as the client would, and a large one is cut between its records into batches of a few megabytes
without compression. The layout is that of Kafka's record batch, version 2.
"""

import functools
import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

import cramjam
from aiokafka import errors as kafka_errors
from aiokafka.record.default_records import DefaultRecordBatch

from goalworker.decoding.record import OversizedRecord

# A batch is decompressed at once up to this size, and above it in pieces of the other.
AT_ONCE_BYTES: Final = 4 * 1024 * 1024
PIECE_BYTES: Final = 2 * 1024 * 1024
# A block of snappy cannot be cut: 4 MB of it become so much at most.
SNAPPY_BYTES_MAX: Final = 96 * 1024 * 1024

_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
# Most batches of zstd become no more than so many times their size, and a few bytes.
_USUAL_RATIO, _USUAL_BYTES = 32, 4_096

_HEADER_BYTES: Final = 61
_CODEC_AT: Final = 22  # the lower byte of the attributes
_OFFSET, _OFFSET_AT = struct.Struct(">q"), 0
_TIMES, _TIMES_AT = struct.Struct(">qq"), 27
_COUNT, _COUNT_AT = struct.Struct(">i"), 57
_CODEC, _LOG_APPEND_TIME = 0x07, 0x08
_GZIP_FORMAT: Final = 31
_READ_BYTES: Final = 256 * 1024
_VARINT_BYTES_MAX: Final = 10
# Attributes, time, offset and the key's length, ahead of the key.
_HEAD_BYTES_MAX: Final = 1 + 3 * _VARINT_BYTES_MAX
_KEY_BYTES_MAX: Final = 64 * 1024
_XERIAL_MAGIC, _XERIAL_HEADER_BYTES = b"\x82SNAPPY\x00", 16
_SIZE: Final = struct.Struct(">I")


def at_once(data: memoryview) -> tuple[list[Any], int] | None:
    """Return the records of a compressed batch and how many bytes they have; None where pieces() is to see to it.

    Raises CorruptRecordException where the batch is not what it says.
    """
    codec = data[_CODEC_AT] & _CODEC
    unpack = _AT_ONCE.get(codec)
    if unpack is None:
        raise kafka_errors.UnsupportedCodecError(f"unknown compression codec {codec}")
    try:
        whole = unpack(data[_HEADER_BYTES:])
    except _DAMAGED:
        return None  # perhaps only larger than expected
    if whole is None:
        return None
    return list(DefaultRecordBatch(bytes(_plain_header(data)) + whole)), len(whole)


def pieces(data: memoryview, record_bytes_max: int) -> Iterator[tuple[list[Any], int]]:
    """Yield the records of a compressed batch and how many bytes they have, piece by piece.

    A record of more than record_bytes_max is an OversizedRecord.
    Raises CorruptRecordException where the batch is not what it says.
    """
    attributes, header, payload = data[_CODEC_AT], _plain_header(data), data[_HEADER_BYTES:]
    try:
        rest = _Rest(_STREAMS[attributes & _CODEC](payload), record_bytes_max)
        yield from _cut(header, rest, int(bool(attributes & _LOG_APPEND_TIME)))
    except _DAMAGED as error:
        raise kafka_errors.CorruptRecordException(f"a batch cannot be decompressed: {error}") from error


def _plain_header(data: memoryview) -> bytearray:
    header = bytearray(data[:_HEADER_BYTES])
    header[_CODEC_AT] &= ~_CODEC
    return header


def _cut(header: bytearray, rest: "_Rest", timestamp_type: int) -> Iterator[tuple[list[Any], int]]:
    """Yield lists of whole records of about PIECE_BYTES; one that is too long is a list of its own."""
    (left,) = _COUNT.unpack_from(header, _COUNT_AT)
    while left > 0:
        count, size = 0, 0
        while count < left and size < PIECE_BYTES:
            length = rest.record_bytes(size)
            if length > rest.record_bytes_max:
                break
            count, size = count + 1, size + length
        if count:
            _COUNT.pack_into(header, _COUNT_AT, count)
            yield list(DefaultRecordBatch(bytes(header) + rest.take(size))), size
        else:
            yield [_oversized(header, rest, length, timestamp_type)], _READ_BYTES
            rest.skip(length)
            count = 1
        left -= count
    if rest.has(1):
        raise kafka_errors.CorruptRecordException("a batch has more bytes than its records")


def _oversized(header: bytearray, rest: "_Rest", length: int, timestamp_type: int) -> OversizedRecord:
    head = rest.peek(_VARINT_BYTES_MAX + _HEAD_BYTES_MAX + _KEY_BYTES_MAX)
    _, at = _varint(head, 0)
    later, at = _varint(head, at + 1)  # behind the attributes
    delta, at = _varint(head, at)
    key_bytes, at = _varint(head, at)
    first, latest = _TIMES.unpack_from(header, _TIMES_AT)
    return OversizedRecord(
        _OFFSET.unpack_from(header, _OFFSET_AT)[0] + delta,
        latest if timestamp_type else first + later,
        timestamp_type,
        head[at : at + key_bytes] if 0 <= key_bytes <= _KEY_BYTES_MAX else None,
        length,
    )


class _Rest:
    """What is decompressed and not taken yet, and the stream that has the rest."""

    def __init__(self, stream: "_Stream", record_bytes_max: int) -> None:
        self.record_bytes_max = record_bytes_max
        self._bytes, self._at = bytearray(), 0
        self._stream = stream

    def has(self, size: int) -> bool:
        """Decompress until so many bytes are there; False where the end comes before."""
        while len(self._bytes) - self._at < size:
            part = self._stream.read(_READ_BYTES)
            if not part:
                return False
            self._bytes += part
        return True

    def record_bytes(self, ahead: int) -> int:
        """Return how many bytes the record has that begins so many bytes ahead, its length included.

        Where the record may be kept, all of it is there afterwards.
        """
        self.has(ahead + _VARINT_BYTES_MAX)
        length, end = _varint(self._bytes, self._at + ahead)
        size = end - self._at - ahead + length
        if length < 0 or (size <= self.record_bytes_max and not self.has(ahead + size)):
            raise kafka_errors.CorruptRecordException("a batch ends before its last record")
        return size

    def peek(self, size: int) -> bytes:
        self.has(size)
        return bytes(self._bytes[self._at : self._at + size])

    def take(self, size: int) -> bytes:
        taken = bytes(self._bytes[self._at : self._at + size])
        self._at += size
        self._drop()
        return taken

    def skip(self, size: int) -> None:
        while size and self.has(1):
            step = min(size, len(self._bytes) - self._at)
            self._at, size = self._at + step, size - step
            self._drop()
        if size:
            raise kafka_errors.CorruptRecordException("a batch ends before its last record")

    def _drop(self) -> None:
        if self._at >= _READ_BYTES:
            del self._bytes[: self._at]
            self._at = 0


def _varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return a zigzag varint and where it ends."""
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


# --- the codecs ---


# Two libraries are imported by the first batch that needs them.


def _gzip_at_once(payload: memoryview) -> bytes | None:
    decompressor = zlib.decompressobj(_GZIP_FORMAT)
    whole = decompressor.decompress(payload, AT_ONCE_BYTES)
    return whole if decompressor.eof and not decompressor.unused_data else None


@functools.cache
def _lz4() -> Any:
    from lz4 import frame

    return frame


@functools.cache
def _zstd() -> Any:
    import zstandard

    return zstandard


@functools.cache
def _zstd_decompressor() -> Any:
    return _zstd().ZstdDecompressor()


def _lz4_at_once(payload: memoryview) -> bytes | None:
    decompressor = _lz4().LZ4FrameDecompressor()
    whole: bytes = decompressor.decompress(payload, max_length=AT_ONCE_BYTES)
    return whole if decompressor.eof and not decompressor.unused_data else None


def _snappy_at_once(payload: memoryview) -> bytes | None:
    parts, left = [], AT_ONCE_BYTES
    for block in _snappy_blocks(payload):
        left -= cramjam.snappy.decompress_raw_len(block)
        if left < 0:
            return None
        parts.append(cramjam.snappy.decompress_raw(block))
    return b"".join(parts)


def _zstd_at_once(payload: memoryview) -> bytes | None:
    try:
        size = _zstd().frame_content_size(payload)
        if size > AT_ONCE_BYTES:
            return None
        size = min(AT_ONCE_BYTES, _USUAL_RATIO * len(payload) + _USUAL_BYTES) if size < 0 else size
        whole: bytes = _zstd_decompressor().decompress(payload, max_output_size=size, allow_extra_data=False)
    except _zstd().ZstdError:
        return None  # larger than usual, of several frames, or damaged
    return whole


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Snappy:
    """Blocks of snappy, one after the other."""

    def __init__(self, payload: memoryview) -> None:
        self._blocks = _snappy_blocks(payload)
        self._block = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._block:
            block = next(self._blocks, None)
            if block is None:
                return b""
            if cramjam.snappy.decompress_raw_len(block) > SNAPPY_BYTES_MAX:
                raise ValueError(f"a block of snappy would have more than {SNAPPY_BYTES_MAX} bytes")
            self._block = memoryview(bytes(cramjam.snappy.decompress_raw(block)))
        part, self._block = self._block[:size], self._block[size:]
        return bytes(part)


def _snappy_blocks(payload: memoryview) -> Iterator[memoryview]:
    """Yield the blocks as xerial's library frames them, or the one block that others make."""
    if payload[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        yield payload
        return
    rest = payload[_XERIAL_HEADER_BYTES:]
    while rest:
        (size,) = _SIZE.unpack_from(rest)
        yield rest[_SIZE.size : _SIZE.size + size]
        rest = rest[_SIZE.size + size :]


class _Zstd:
    """Frames of zstd, one after the other."""

    def __init__(self, payload: memoryview) -> None:
        # Of its own: a decompressor reads one stream at a time.
        self._reader = _zstd().ZstdDecompressor().stream_reader(payload, read_across_frames=True)

    def read(self, size: int, /) -> bytes:
        try:
            part: bytes = self._reader.read(size)
        except _zstd().ZstdError as error:
            raise ValueError(str(error)) from error
        return part


class _Lz4:
    """Frames of lz4, one after the other."""

    def __init__(self, payload: memoryview) -> None:
        self._decompressor = _lz4().LZ4FrameDecompressor()
        self._data: bytes | memoryview = payload

    def read(self, size: int, /) -> bytes:
        if self._decompressor.eof:
            self._data = self._decompressor.unused_data or b""
            if not self._data:
                return b""
            self._decompressor = _lz4().LZ4FrameDecompressor()
        part: bytes = self._decompressor.decompress(self._data, max_length=size)
        self._data = b""
        if not part and not self._decompressor.eof:
            raise EOFError("the frame ends before its end mark")
        return part


_AT_ONCE: Final = {_GZIP: _gzip_at_once, _SNAPPY: _snappy_at_once, _LZ4: _lz4_at_once, _ZSTD: _zstd_at_once}
_STREAMS: Final[dict[int, Any]] = {
    _GZIP: lambda payload: gzip.GzipFile(fileobj=io.BytesIO(payload)),
    _SNAPPY: _Snappy,
    _LZ4: _Lz4,
    _ZSTD: _Zstd,
}
# What these libraries and struct raise about bytes that are not what they should be.
_DAMAGED: Final = (
    OSError,
    EOFError,
    zlib.error,
    RuntimeError,
    ValueError,
    IndexError,
    struct.error,
    cramjam.DecompressionError,
)
