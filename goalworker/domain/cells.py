"""Cells: installations that share the topics, each of which owns some of the tenants (contract section 10).

A tenant belongs to one of 1,024 buckets, and a cell owns buckets. A tenant that was moved belongs to the cell that it
was moved to, whatever its bucket.
"""

import re
import zlib
from collections.abc import Collection, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from msgspec import Struct

BUCKETS: Final = 1_024
ALL_BUCKETS: Final = frozenset(range(BUCKETS))
NONE: Final = "none"
"""Buckets of a cell that owns only tenants that were moved to it."""
# Tenants whose owner is remembered. Beyond them all are forgotten, since an event may name any tenant.
REMEMBERED_MAX: Final = 10_000

_PART: Final = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", re.ASCII)


def bucket_of(tenant_id: str) -> int:
    """Return the bucket of a tenant."""
    return zlib.crc32(tenant_id.encode()) % BUCKETS


def parse_buckets(text: str) -> frozenset[int]:
    """Return the buckets of a text such as `0-511,700` or `none`, or raise ValueError with what it should be."""
    if text.strip() == NONE:
        return frozenset()
    found: set[int] = set()
    for part in text.split(","):
        buckets = _buckets_of(part.strip())
        if twice := found.intersection(buckets):
            raise ValueError(f"it should name each bucket once, and names {format_buckets(twice)} twice")
        found.update(buckets)
    return frozenset(found)


def _buckets_of(part: str) -> range:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"it should be buckets and ranges of them, such as 0-511,700, and {part!r} is neither")
    first, last = int(match[1]), int(match[2] or match[1])
    if last >= BUCKETS or first >= BUCKETS:
        raise ValueError(f"it should name buckets from 0 to {BUCKETS - 1}, and {part} goes beyond")
    if first > last:
        raise ValueError(f"it should name the lower bucket of a range first: {last}-{first}, not {part}")
    return range(first, last + 1)


def format_buckets(buckets: Collection[int]) -> str:
    """Return buckets as the setting names them, in order, ranges where there are any."""
    ordered = sorted(buckets)
    if not ordered:
        return NONE
    starts = [ordered[0], *(after for before, after in pairwise(ordered) if after != before + 1)]
    ends = [*(before for before, after in pairwise(ordered) if after != before + 1), ordered[-1]]
    return ",".join(
        str(first) if first == last else f"{first}-{last}" for first, last in zip(starts, ends, strict=True)
    )


class Handover(Struct, frozen=True):
    """The records of a tenant on the move that are this cell's: those before an offset of each partition, or from it.

    A partition that was added since has no offset: all its records are those of the cell that the tenant moves to.
    """

    offsets: Mapping[tuple[str, int], int]
    is_leaving: bool

    def has(self, partition: tuple[str, int], offset: int) -> bool:
        """Say whether a record is this cell's."""
        return (offset < self.offsets.get(partition, 0)) is self.is_leaving


class Cell(Struct, frozen=True):
    """The tenants that an installation owns: those of its buckets, and tenants that were moved, here (True) or away.

    Of a tenant that is being handed over, only a part of the records is this cell's.
    """

    buckets: frozenset[int] = ALL_BUCKETS
    moved: Mapping[str, bool] = MappingProxyType({})
    handovers: Mapping[str, Handover] = MappingProxyType({})

    @property
    def owns_all(self) -> bool:
        """True if every record of every tenant there may ever be is this cell's."""
        return len(self.buckets) == BUCKETS and all(self.moved.values()) and not self.handovers

    @property
    def owns_unknown(self) -> bool:
        """True if the records whose tenant cannot be told are this cell's."""
        return 0 in self.buckets

    def owns(self, tenant_id: str) -> bool:
        """Say whether a tenant is this cell's."""
        is_here = self.moved.get(tenant_id)
        return bucket_of(tenant_id) in self.buckets if is_here is None else is_here


class ForeignTenants(dict[str, bool]):
    """Map of tenants to whether they are another cell's; it finds out each one once, and remembers a limited number."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self._cell = cell

    def __missing__(self, tenant_id: str) -> bool:
        if len(self) >= REMEMBERED_MAX:
            self.clear()
        found = self[tenant_id] = not self._cell.owns(tenant_id)
        return found
