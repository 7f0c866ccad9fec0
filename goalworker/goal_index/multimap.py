"""A multimap from hashes to numbers that needs some fifteen bytes an entry, and a sieve for what it does not hold.

Hashes are those of `hash`, in 64 bits. Only their upper halves are kept: what is found is to be looked at.
"""

from array import array
from bisect import bisect_left
from itertools import chain
from typing import Final

_BITS: Final = 64
_UPPER: Final = 0xFFFF_FFFF_0000_0000
NUMBERS_MAX: Final = 0xFFFF_FFFF

_BLOCK_ENTRIES: Final = 64
_SLOT_BITS: Final = 10  # a block's share of the sieve: sixteen slots of a bit for each entry at least


class Multimap:
    """Numbers below 2^32 by hash, an entry each in one of many sorted blocks, which is the one of its first bits.

    What comes in is put there when next something is looked for. One entry moves those of its block and no more, also
    where a great many have the same hash; as many as there are already are sorted with them, in a fraction of the time.

    `sieve[slot >> 3] >> (slot & 7) & 1` with `slot = hashed >> sieve_shift` is 0 for most hashes that were never added,
    and for those that have not been settled yet: for a look inline, where calls count.
    """

    __slots__ = ("_blocks", "_coming", "_count", "_shift", "sieve", "sieve_shift")

    def __init__(self) -> None:
        self._coming = array("Q")
        self._build(array("Q"))

    def __len__(self) -> int:
        self.settle()
        return self._count

    def find(self, hashed: int) -> list[int]:
        """Return the numbers that were added under a hash, and with them those under one with the same upper half."""
        if self._coming:
            self.settle()
        slot = hashed >> self.sieve_shift
        if not self.sieve[slot >> 3] >> (slot & 7) & 1:
            return []
        first = hashed & _UPPER
        block = self._blocks[hashed >> self._shift]  # of a negative hash from the end, which is where its block is
        at, found = bisect_left(block, first), []
        while at < len(block) and block[at] <= first | NUMBERS_MAX:
            found.append(block[at] & NUMBERS_MAX)
            at += 1
        return found

    def add(self, hashed: int, number: int) -> None:
        """Add a number under a hash; again is no change."""
        self._coming.append(hashed & _UPPER | number)

    def settle(self) -> None:
        """Put what has come in where it belongs, now rather than when something is looked for."""
        coming, self._coming = self._coming, array("Q")
        if len(coming) > self._count:
            self._build(array("Q", chain(*self._blocks, coming)))
            return
        for entry in coming:
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
        """Make blocks and sieve for entries, each of which may come twice."""
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
