"""One line a minute of each shape is written, and the others are counted."""

import pytest

from goalworker import log_repeats
from tests.kit.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> log_repeats.RepeatLimiter:
    return log_repeats.RepeatLimiter(clock)


def test_the_first_line_of_a_shape_is_written_and_the_next_ones_are_held_back(lines: log_repeats.RepeatLimiter) -> None:
    assert [lines.admit("broker", "cannot connect") for _ in range(3)] == [0, None, None]


def test_after_a_minute_a_line_is_written_with_the_number_held_back(
    lines: log_repeats.RepeatLimiter, clock: Clock
) -> None:
    for _ in range(5):
        lines.admit("broker", "cannot connect")
    clock.now += log_repeats.WINDOW_SECONDS
    assert lines.admit("broker", "cannot connect") == 4
    clock.now += log_repeats.WINDOW_SECONDS
    assert lines.admit("broker", "cannot connect") == 0


def test_a_family_writes_no_more_shapes_than_these_in_a_minute(lines: log_repeats.RepeatLimiter, clock: Clock) -> None:
    written = [lines.admit("broker", f"shape {number}") for number in range(log_repeats.SHAPES_MAX + 2)]
    assert written == [0] * log_repeats.SHAPES_MAX + [None] * 2
    assert lines.admit("database", "shape 0") == 0
    clock.now += log_repeats.WINDOW_SECONDS
    assert lines.admit("broker", f"shape {log_repeats.SHAPES_MAX}") == 0


def test_a_silenced_family_writes_nothing_and_counts(lines: log_repeats.RepeatLimiter) -> None:
    lines.silence("broker")
    assert lines.admit("broker", "cannot connect") is None
    assert lines.admit("database", "cannot connect") == 0
    assert lines.held("broker") == 1
    lines.resume("broker")
    assert lines.admit("broker", "cannot connect") == 0


def test_what_was_held_back_is_taken_once(lines: log_repeats.RepeatLimiter) -> None:
    for _ in range(4):
        lines.admit("broker", "cannot connect")
    assert (lines.held("broker"), lines.take_held("broker"), lines.take_held("broker")) == (3, 3, 0)


def test_counts_of_shapes_that_never_come_again_do_not_pile_up(lines: log_repeats.RepeatLimiter, clock: Clock) -> None:
    for number in range(2 * log_repeats._COUNTS_MAX):
        lines.admit("broker", f"shape {number}")
        lines.admit("broker", f"shape {number}")
        clock.now += log_repeats.WINDOW_SECONDS
    assert len(lines._held_by_shape) <= log_repeats._COUNTS_MAX


def test_the_window_and_the_number_of_shapes_can_be_other_ones(clock: Clock) -> None:
    limiter = log_repeats.RepeatLimiter(clock, window_seconds=3_600, shapes_max=10)
    assert [limiter.admit("tenant", f"tenant {number}") for number in range(12)] == [0] * 10 + [None] * 2
    clock.now += 3_599
    assert limiter.admit("tenant", "tenant 0") is None
    clock.now += 1
    assert limiter.admit("tenant", "tenant 0") == 1
