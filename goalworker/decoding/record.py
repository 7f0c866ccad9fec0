"""A fetched record, as the decoder reads it."""

from collections.abc import Sequence
from typing import Protocol


class FetchedRecord(Protocol):
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
