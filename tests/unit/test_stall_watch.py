"""Stalls: lag without progress, and lag that only looks like one (design, hazard 2)."""

from aiokafka import TopicPartition

from goalworker.runtime import stall_watch

FIRST, SECOND = TopicPartition("tag-added", 0), TopicPartition("tag-added", 1)
STALL_SECONDS = 300.0


def test_a_partition_with_lag_that_does_not_move_stalls_after_so_long() -> None:
    stall = stall_watch.StallWatch(STALL_SECONDS)
    assert stall.look({FIRST: (5, 9)}, 1_000.0) is None
    assert stall.look({FIRST: (5, 10)}, 1_000.0 + STALL_SECONDS - 0.1) is None
    assert stall.look({FIRST: (5, 10)}, 1_000.0 + STALL_SECONDS) == FIRST


def test_progress_however_slow_is_no_stall() -> None:
    stall = stall_watch.StallWatch(STALL_SECONDS)
    for step in range(10):
        assert stall.look({FIRST: (step, 1_000)}, step * (STALL_SECONDS - 1)) is None


def test_a_partition_without_lag_never_stalls_until_its_next_record() -> None:
    stall = stall_watch.StallWatch(STALL_SECONDS)
    assert stall.look({FIRST: (5, 5)}, 0.0) is None
    assert stall.look({FIRST: (5, 5)}, 10 * STALL_SECONDS) is None
    assert stall.look({FIRST: (5, 6)}, 11 * STALL_SECONDS - 1) is None
    assert stall.look({FIRST: (5, 6)}, 11 * STALL_SECONDS) == FIRST


def test_an_offset_that_goes_back_is_a_replay_and_no_stall() -> None:
    stall = stall_watch.StallWatch(STALL_SECONDS)
    assert stall.look({FIRST: (5, 9)}, 0.0) is None
    assert stall.look({FIRST: (2, 9)}, STALL_SECONDS) is None


def test_one_stalled_partition_among_others_that_move_is_found() -> None:
    stall = stall_watch.StallWatch(STALL_SECONDS)
    assert stall.look({FIRST: (1, 9), SECOND: (1, 9)}, 0.0) is None
    assert stall.look({FIRST: (2, 9), SECOND: (1, 9)}, STALL_SECONDS) == SECOND


def test_the_stall_clock_restarts_during_an_outage_and_after_a_rebalance() -> None:
    stall = stall_watch.StallWatch(STALL_SECONDS)
    assert stall.look({FIRST: (5, 9)}, 0.0) is None
    assert stall.look({}, STALL_SECONDS - 1) is None
    assert stall.look({FIRST: (5, 9)}, STALL_SECONDS) is None
    assert stall.look({FIRST: (5, 9)}, 2 * STALL_SECONDS - 1) is None
    assert stall.look({FIRST: (5, 9)}, 2 * STALL_SECONDS) == FIRST


def test_what_moves_or_has_no_lag_is_progress() -> None:
    stall = stall_watch.StallWatch(STALL_SECONDS)
    assert stall.is_progress(FIRST, 5, 9)  # seen for the first time
    stall.look({FIRST: (5, 9)}, 0.0)
    assert not stall.is_progress(FIRST, 5, 9)
    assert stall.is_progress(FIRST, 6, 9)
    assert stall.is_progress(FIRST, 5, 5)
