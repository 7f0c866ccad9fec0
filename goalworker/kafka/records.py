"""Records to produce."""

from collections.abc import Sequence

from msgspec import Struct

Headers = Sequence[tuple[str, bytes]]


class Record(Struct, frozen=True, gc=False):
    """A record to produce; without a timestamp it gets the time at which it is sent."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None
