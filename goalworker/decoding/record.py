"""Fetched records, as the decoder reads them."""

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

# In bytes. A longer record is fetched without its value: with the headers of a dead letter it would exceed the 16 MiB
# that the dead letter topic takes.
RECORD_BYTES_MAX: Final = 16 * 1024 * 1024 - 64 * 1024


class FetchedRecord(Protocol):
    """A record as aiokafka's parser returns it; the mapping that holds it names its topic and partition."""

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


def size_of(record: FetchedRecord) -> int:
    """Return the bytes of a record's key, value and headers."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


class OversizedRecord(Struct, frozen=True, gc=False):
    """A record without its value, which is too large; size is in bytes, and a long key is left out too."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    size: int
    value: bytes = b""
    headers: tuple[tuple[str, bytes | None], ...] = ()
    checksum: None = None
