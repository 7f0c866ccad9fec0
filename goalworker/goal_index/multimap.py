"""Multimap from hashes to numbers, at some fifteen bytes an entry, with a sieve for hashes that it does not hold.

Hashes are those of `hash`, 64 bits wide. Only their upper halves are stored, so the caller must check each result.
"""

from array import array
from bisect import bisect_left
from itertools import chain
from typing import Final

_BITS: Final = 64
_UPPER: Final = 0xFFFF_FFFF_0000_0000
NUMBERS_MAX: Final = 0xFFFF_FFFF

_BLOCK_ENTRIES: Final = 64
_SLOT_BITS: Final = 10  # a block's share of the sieve is 2^10 slots of one bit, at least sixteen for each entry


class Multimap:
    """Numbers below 2^32 by hash: each pair is an entry in one of many sorted blocks, chosen by the hash's first bits.

    Added entries are settled into their blocks at the next search. An insertion moves only the entries of one block,
    however many share a hash; when more entries wait than are settled, all are sorted anew, which is much faster.

    `sieve[slot >> 3] >> (slot & 7) & 1` with `slot = hashed >> sieve_shift` is 0 for most hashes that were never added,
    and for entries that are not settled yet. Callers that cannot afford a call test it inline.
    """

    __slots__ = ("_added", "_blocks", "_count", "_shift", "sieve", "sieve_shift")

    def __init__(self) -> None:
        self._added = array("Q")
        self._build(array("Q"))

    def __len__(self) -> int:
        self.settle()
        return self._count

    def find(self, hashed: int) -> list[int]:
        """Return the numbers under a hash, together with those under hashes with the same upper half."""
        if self._added:
            self.settle()
        slot = hashed >> self.sieve_shift
        if not self.sieve[slot >> 3] >> (slot & 7) & 1:
            return []
        first = hashed & _UPPER
        block = self._blocks[hashed >> self._shift]  # a negative hash counts from the end, where its block is
        at, found = bisect_left(block, first), []
        while at < len(block) and block[at] <= first | NUMBERS_MAX:
            found.append(block[at] & NUMBERS_MAX)
            at += 1
        return found

    def add(self, hashed: int, number: int) -> None:
        """Add a number under a hash; adding it again changes nothing."""
        self._added.append(hashed & _UPPER | number)

    def settle(self) -> None:
        """Put the added entries into their blocks now instead of at the next search."""
        added, self._added = self._added, array("Q")
        if len(added) > self._count:
            self._build(array("Q", chain(*self._blocks, added)))
            return
        for entry in added:
            self._insert(entry)
        if self._count > len(self._blocks) * _BLOCK_ENTRIES:
            self._build(array("Q", chain(*self._blocks)))

    def _insert(self, entry: int) -> None:
        block = self._blocks[entry >> self._shift]
        at = bisect_left(block, entry)
        if at == len(block) or block[at] != entry:
            block.insert(at, entry)
            self._count += 1
            slot = entry >> self.sieve_shift
            self.sieve[slot >> 3] |= 1 << (slot & 7)

    def _build(self, entries: "array[int]") -> None:
        """Build blocks and sieve from entries, which may have duplicates."""
        bits = (max(len(entries) - 1, 0) // _BLOCK_ENTRIES).bit_length()
        self._shift, self.sieve_shift = _BITS - bits, _BITS - bits - _SLOT_BITS
        self.sieve = bytearray(1 << bits + _SLOT_BITS - 3)
        self._blocks = [array("Q") for _ in range(1 << bits)]
        for entry in entries:
            self._blocks[entry >> self._shift].append(entry)
            slot = entry >> self.sieve_shift
            self.sieve[slot >> 3] |= 1 << (slot & 7)
        self._blocks = [array("Q", sorted({*block})) for block in self._blocks]
        self._count = sum(map(len, self._blocks))
