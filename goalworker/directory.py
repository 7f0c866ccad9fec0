"""A multimap from hashes to numbers that needs some twenty bytes an entry, and a sieve for what it does not hold.

Hashes are those of `hash`, in 64 bits. Only their upper halves are kept: what is found is to be looked at.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

_BITS: Final = 64
_UPPER: Final = 0xFFFF_FFFF_0000_0000
NUMBERS_MAX: Final = 0xFFFF_FFFF

_BLOCK_ENTRIES: Final = 64
_SLOT_BITS: Final = 9  # a block's share of the sieve: eight slots for each entry at least


class Directory:
    """Numbers below 2^32 by hash, an entry each in one of many sorted blocks, which is the one of its first bits.

    Taking one in moves a block's entries and no more, also where a great many have the same hash.

    `sieve[hashed >> sieve_shift]` is 0 for most hashes that were never added: for a look inline, where calls count.
    """

    __slots__ = ("_blocks", "_count", "_shift", "sieve", "sieve_shift")

    def __init__(self) -> None:
        self._blocks: list[array[int]] = [array("Q")]
        self._shift = _BITS
        self._count = 0
        self._sift()

    def __len__(self) -> int:
        return self._count

    def __contains__(self, hashed: int) -> bool:
        """Say whether anything is found under a hash."""
        first = hashed & _UPPER
        block = self._blocks[hashed >> self._shift]  # of a negative hash from the end, which is where its block is
        at = bisect_left(block, first)
        return at < len(block) and block[at] <= first | NUMBERS_MAX

    def find(self, hashed: int) -> list[int]:
        """Return the numbers that were added under a hash, and with them those under one with the same upper half."""
        if not self.sieve[hashed >> self.sieve_shift]:
            return []
        first = hashed & _UPPER
        block = self._blocks[hashed >> self._shift]
        found = block[bisect_left(block, first) : bisect_right(block, first | NUMBERS_MAX)]
        return [entry & NUMBERS_MAX for entry in found]

    def add(self, hashed: int, number: int) -> None:
        """Add a number under a hash; again is no change."""
        entry = hashed & _UPPER | number
        block = self._blocks[hashed >> self._shift]
        at = bisect_left(block, entry)
        if at < len(block) and block[at] == entry:
            return
        block.insert(at, entry)
        self.sieve[hashed >> self.sieve_shift] = 1
        self._count += 1
        if self._count > len(self._blocks) * _BLOCK_ENTRIES:
            self._split()

    def _split(self) -> None:
        """Make two of each block."""
        self._shift -= 1
        halves: list[array[int]] = []
        for place, block in enumerate(self._blocks):
            middle = bisect_left(block, (2 * place + 1) << self._shift)
            halves += (block[:middle], block[middle:])
        self._blocks = halves
        self._sift()

    def _sift(self) -> None:
        self.sieve_shift = self._shift - _SLOT_BITS
        self.sieve = bytearray(len(self._blocks) << _SLOT_BITS)
        for block in self._blocks:
            for entry in block:
                self.sieve[entry >> self.sieve_shift] = 1
