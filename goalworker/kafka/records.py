"""Records to be produced."""

from collections.abc import Sequence

from msgspec import Struct

Headers = Sequence[tuple[str, bytes]]


class Record(Struct, frozen=True, gc=False):
    """One record to be sent; without a timestamp it has that of its sending."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None
