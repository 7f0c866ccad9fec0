"""A breaker trips at the very record at which a count of the window says so, tenant by tenant."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.pipeline import breaker

A, B, UNKNOWN = "a", "b", None


class Sent(NamedTuple):
    """A record, whose tenant and size the breaker does not see unless it asks."""

    tenant: str | None
    is_dead: bool = False
    size_bytes: int = 0


def dead(tenant: str | None, count: int = 1) -> list[Sent]:
    return [Sent(tenant, is_dead=True)] * count


def good(tenant: str | None, count: int = 1) -> list[Sent]:
    return [Sent(tenant)] * count


def is_exceeded(seen: Sequence[Sent], max_ratio: float) -> bool:
    return sum(record.is_dead for record in seen) > max_ratio * len(seen)


def trips(seen: Sequence[Sent], max_ratio: float) -> bool:
    """Say whether a window trips, counted as the contract says it."""
    letters = Counter(record.tenant for record in seen if record.is_dead)
    worst = [tenant for tenant, count in letters.items() if count == max(letters.values())]
    others = [[record for record in seen if record.tenant != tenant] for tenant in worst]
    return is_exceeded(seen, max_ratio) and all(not rest or is_exceeded(rest, max_ratio) for rest in others)


def first_beyond(sent: Sequence[Sent], max_ratio: float, window: int, start: int = 0) -> int | None:
    """Return the position, counted from start, of the first record from there on whose window trips."""
    ends = range(max(window, start + 1), len(sent) + 1)
    return next((end - 1 - start for end in ends if trips(sent[end - window : end], max_ratio)), None)


def admit(limit: breaker.Breaker[Sent], sent: Sequence[Sent]) -> int | None:
    dead = {at: record.tenant for at, record in enumerate(sent) if record.is_dead}
    return limit.admit(sent, dead, sum(map(size_of, sent)))


def tenant_of(record: Sent) -> str | None:
    assert not record.is_dead, "the tenant of a dead letter is known"
    return record.tenant


def size_of(record: Sent) -> int:
    return record.size_bytes


def breaker_of(max_ratio: float, window: int) -> breaker.Breaker[Sent]:
    return breaker.Breaker(max_ratio, window, tenant_of, size_of)


TENANTS = st.sampled_from((A, A, A, B, "c", UNKNOWN))
SENT = st.builds(Sent, TENANTS, st.booleans(), st.sampled_from((0, 0, 0, breaker.KEPT_BYTES_MAX // 2)))
RATIOS = st.sampled_from((0.0, 0.25, 0.5, 0.9, 1.0))


@given(
    sent=st.lists(SENT, max_size=40),
    cuts=st.sets(st.integers(1, 40), max_size=6),
    max_ratio=RATIOS,
    window=st.integers(1, 10),
)
def test_the_breaker_trips_at_the_first_record_that_exceeds_the_ratio(
    sent: list[Sent], cuts: set[int], max_ratio: float, window: int
) -> None:
    limit = breaker_of(max_ratio, window)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    found = None
    for start, end in itertools.pairwise(bounds):
        position = admit(limit, sent[start:end])
        if position is not None:
            found = start + position
            break
    assert found == first_beyond(sent, max_ratio, window)


@given(
    batches=st.lists(st.tuples(st.lists(SENT, max_size=12), st.lists(TENANTS, max_size=4)), min_size=1, max_size=5),
    max_ratio=RATIOS,
    window=st.integers(1, 10),
)
def test_a_record_dead_lettered_later_counts_as_the_newest_of_its_tenant(
    batches: list[tuple[list[Sent], list[str | None]]], max_ratio: float, window: int
) -> None:
    limit = breaker_of(max_ratio, window)
    seen: list[Sent] = []
    for sent, late in batches:
        start, seen = len(seen), [*seen, *sent]
        position = admit(limit, sent)
        assert position == first_beyond(seen, max_ratio, window, start)
        if position is not None:
            return
        for tenant in late:
            newest = range(len(seen) - 1, max(len(seen) - window, 0) - 1, -1)
            at = next((at for at in newest if seen[at][:2] == (tenant, False)), None)
            if at is not None:
                seen[at] = Sent(tenant, is_dead=True)
        tripped = limit.condemn(late)
        assert tripped is (len(seen) >= window and trips(seen[-window:], max_ratio))
        if tripped:
            return


@pytest.mark.parametrize(
    ("sent", "is_tripped"),
    [
        ([*dead(A, 6), *good(A, 4)], True),
        (dead(A, 10), True),
        (dead(UNKNOWN, 10), True),
        ([*dead(A, 9), *good(B)], False),
        ([*dead(UNKNOWN, 9), *good(B)], False),
        ([*dead(A, 9), *dead(B)], True),
        ([*dead(A, 9), *dead(UNKNOWN)], True),
        ([*dead(A, 5), *dead(B, 3), *good(B, 2)], True),
        ([*dead(A, 5), *dead(B, 2), *good(B, 3)], False),
        ([*dead(A, 3), *dead(B, 3), *good(B, 4)], False),
        ([*dead(A, 5), *good(A, 2), *dead(B, 2), *good("c")], True),
        ([*dead(A, 5), *good(B, 5)], False),
    ],
)
def test_one_tenants_dead_letters_pause_a_topic_only_if_the_others_are_as_bad(
    sent: list[Sent], is_tripped: bool
) -> None:
    assert (admit(breaker_of(0.5, 10), sent) == 9) is is_tripped
    assert trips(sent, 0.5) is is_tripped


def test_the_tenants_of_good_records_are_not_asked_for_below_the_ratio() -> None:
    def unasked(_: Sent) -> str | None:
        raise AssertionError

    limit = breaker.Breaker(0.5, 10, unasked, size_of)
    for sent in (good(A, 25), [*good(A, 5), *dead(A, 5)], good(B, 3), [*good(A, 20), *dead(B, 2)]):
        assert admit(limit, sent) is None
    assert limit.shares() == []


def test_records_with_too_many_bytes_are_replaced_by_their_tenants() -> None:
    asked: list[Sent] = []

    def asking(record: Sent) -> str | None:
        asked.append(record)
        return record.tenant

    limit = breaker.Breaker(0.5, 4, asking, size_of)
    quarter = Sent(A, size_bytes=breaker.KEPT_BYTES_MAX // 4)
    larger = Sent(A, size_bytes=breaker.KEPT_BYTES_MAX // 4 + 1)
    for _ in range(5):
        admit(limit, [quarter] * 4)
    assert asked == []
    admit(limit, [larger])
    assert asked == [larger, *[quarter] * 3][::-1]
    admit(limit, [quarter] * 4)
    assert len(asked) == 4


def test_the_shares_of_tenants_with_more_than_a_few_dead_letters_are_known() -> None:
    limit = breaker_of(1.0, 100)
    admit(limit, [*dead(A, 12), *good(A, 3), *dead(B, 10), *good(B, 10), *dead("c", 9), *good("d", 9)])
    shares = limit.shares()
    assert shares == [breaker.TenantShare(A, 12, 15), breaker.TenantShare(B, 10, 20)]
    assert [share.is_mostly_dead for share in shares] == [True, False]
    admit(limit, good(A, 60))
    assert limit.shares() == [breaker.TenantShare(B, 10, 20)]
