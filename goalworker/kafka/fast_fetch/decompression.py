"""Decompress record batches piece by piece, so that memory is bounded however large a batch becomes.

aiokafka decompresses a batch at once, and 64 KB of zstd can become gigabytes. Here a batch that stays small goes to
aiokafka's parser whole, and a larger one is cut between its records into uncompressed batches of a few megabytes. The
layout is that of Kafka's record batch, version 2.
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

# Decompressed bytes. A batch up to the first size is decompressed at once, a larger one in pieces of the second.
AT_ONCE_BYTES: Final = 4 * 1024 * 1024
PIECE_BYTES: Final = 2 * 1024 * 1024
# Decompressed bytes of a snappy block. It cannot be cut, so a batch with a larger one is refused. 4 MB become this.
SNAPPY_BYTES_MAX: Final = 96 * 1024 * 1024

_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
# Most batches of zstd grow at most by this ratio, plus some bytes. Others are decompressed in pieces.
_USUAL_RATIO, _USUAL_BYTES = 32, 4_096

_HEADER_BYTES: Final = 61
_CODEC_AT: Final = 22  # the lower byte of the attributes
_OFFSET, _OFFSET_AT = struct.Struct(">q"), 0
_TIMES, _TIMES_AT = struct.Struct(">qq"), 27
_COUNT, _COUNT_AT = struct.Struct(">i"), 57
_CODEC, _LOG_APPEND_TIME = 0x07, 0x08
_GZIP_FORMAT: Final = 31  # zlib's wbits for gzip's header and trailer
_READ_BYTES: Final = 256 * 1024
_VARINT_BYTES_MAX: Final = 10
# Attributes, time, offset and the key's length precede a record's key.
_HEAD_BYTES_MAX: Final = 1 + 3 * _VARINT_BYTES_MAX
_KEY_BYTES_MAX: Final = 64 * 1024
_XERIAL_MAGIC, _XERIAL_HEADER_BYTES = b"\x82SNAPPY\x00", 16
_SIZE: Final = struct.Struct(">I")


def at_once(data: memoryview) -> tuple[list[Any], int] | None:
    """Return the records of a compressed batch and their size in bytes, or None for a batch that needs pieces().

    Raises CorruptRecordException if the batch contradicts its header.
    """
    codec = data[_CODEC_AT] & _CODEC
    unpack = _AT_ONCE.get(codec)
    if unpack is None:
        raise kafka_errors.UnsupportedCodecError(f"unknown compression codec {codec}")
    try:
        whole = unpack(data[_HEADER_BYTES:])
    except _DAMAGED:
        return None  # damaged, or only larger than expected: pieces() finds out
    if whole is None:
        return None
    return list(DefaultRecordBatch(bytes(_plain_header(data)) + whole)), len(whole)


def pieces(data: memoryview, record_bytes_max: int) -> Iterator[tuple[list[Any], int]]:
    """Yield the records of a compressed batch and their size in bytes, piece by piece.

    A record above record_bytes_max is an OversizedRecord. Raises CorruptRecordException if the batch contradicts its
    header.
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
    """Yield lists of whole records of about PIECE_BYTES; an oversized record has a list of its own."""
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
    later, at = _varint(head, at + 1)  # after the attributes
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
    """Decompressed bytes that were not taken yet, and the stream of those that follow."""

    def __init__(self, stream: "_Stream", record_bytes_max: int) -> None:
        self.record_bytes_max = record_bytes_max
        self._bytes, self._at = bytearray(), 0
        self._stream = stream

    def has(self, size: int) -> bool:
        """Decompress until `size` bytes are available; return False if the stream ends before."""
        while len(self._bytes) - self._at < size:
            part = self._stream.read(_READ_BYTES)
            if not part:
                return False
            self._bytes += part
        return True

    def record_bytes(self, ahead: int) -> int:
        """Return the size of the record that begins `ahead` bytes from here, its length field included.

        Unless the record is oversized, all of it is available afterwards.
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
    """Return a zigzag varint and the position after it."""
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


# Two of the libraries are imported by the first batch that needs them.


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
    """Stream of snappy's blocks."""

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
    """Yield the blocks of xerial's framing, or the one block that other libraries write."""
    if payload[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        yield payload
        return
    rest = payload[_XERIAL_HEADER_BYTES:]
    while rest:
        (size,) = _SIZE.unpack_from(rest)
        yield rest[_SIZE.size : _SIZE.size + size]
        rest = rest[_SIZE.size + size :]


class _Zstd:
    """Stream of zstd's frames."""

    def __init__(self, payload: memoryview) -> None:
        # Each stream needs its own decompressor, which reads one at a time.
        self._reader = _zstd().ZstdDecompressor().stream_reader(payload, read_across_frames=True)

    def read(self, size: int, /) -> bytes:
        try:
            part: bytes = self._reader.read(size)
        except _zstd().ZstdError as error:
            raise ValueError(str(error)) from error
        return part


class _Lz4:
    """Stream of lz4's frames."""

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
# Errors that these libraries and struct raise for damaged bytes.
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
