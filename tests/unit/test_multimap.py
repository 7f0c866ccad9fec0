"""A directory finds what was added, and its sieve holds back nothing of that."""

from collections import defaultdict
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.goal_index import multimap

# Mostly few of them, at the edges of the halves and of what a hash can be.
hashes = st.builds(
    lambda upper, lower: (upper << 32) + lower,
    st.sampled_from((-(2**31), -1, 0, 1, 2**31 - 1)) | st.integers(-(2**31), 2**31 - 1),
    st.sampled_from((0, 1, 2**32 - 1)),
)
numbers = st.sampled_from((0, 1, 2, multimap.NUMBERS_MAX)) | st.integers(0, multimap.NUMBERS_MAX)


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Iterator[None]:
    with mock.patch.object(multimap, "_BLOCK_ENTRIES", 2):
        yield


@given(steps=st.lists(st.tuples(st.lists(st.tuples(hashes, numbers), max_size=60), st.lists(hashes, max_size=5))))
def test_it_finds_the_numbers_under_a_hash_and_no_others(steps: list[tuple[list[tuple[int, int]], list[int]]]) -> None:
    """Entries are found however many are added between one search and the next."""
    made, known = multimap.Multimap(), defaultdict[int, set[int]](set)
    for added, others in steps:
        for hashed, number in added:
            made.add(hashed, number)
            known[hashed >> 32].add(number)
        for hashed in [*others, *[hashed for hashed, _ in added]]:
            assert made.find(hashed) == sorted(known.get(hashed >> 32, ()))
            assert _passes(made, hashed) or hashed >> 32 not in known
        assert len(made) == sum(map(len, known.values()))


def _passes(made: multimap.Multimap, hashed: int) -> int:
    slot = hashed >> made.sieve_shift
    return made.sieve[slot >> 3] >> (slot & 7) & 1


def test_its_sieve_holds_back_most_of_what_was_not_added() -> None:
    made = multimap.Multimap()
    for number in range(5_000):
        made.add(hash(("there", str(number))), number)
    made.settle()
    passing = sum(_passes(made, hash(("not there", str(number)))) for number in range(5_000))
    assert passing < 5_000 / 10


def test_very_many_numbers_under_one_hash_are_taken_in_quickly() -> None:
    made = multimap.Multimap()
    for number in range(200_000):
        made.add(7 << 32, number)
    assert made.find(7 << 32) == list(range(200_000))
