"""A reset moves offsets that are out of range; a time also moves back those that are beyond it."""

from datetime import UTC, datetime

import pytest
from aiokafka import TopicPartition

from goalworker.kafka import offset_reset

PARTITION = TopicPartition("tag-added", 0)
BEGIN, END, AT = 10, 20, 15
TIME = datetime(2026, 5, 1, tzinfo=UTC)


def _moved(target: offset_reset.Target, offset: int) -> tuple[int, int] | None:
    moves = offset_reset.decide_moves(
        target, {PARTITION: offset}, {PARTITION: BEGIN}, {PARTITION: END}, {PARTITION: AT}
    )
    return next(((move.to_offset, move.skipped_records) for move in moves), None)


@pytest.mark.parametrize("offset", [BEGIN, AT, END])
def test_an_offset_in_range_stays_where_it_is(offset: int) -> None:
    assert _moved("earliest", offset) is None
    assert _moved("latest", offset) is None


@pytest.mark.parametrize("offset", [BEGIN - 1, END + 1])
def test_one_out_of_range_goes_where_it_is_told_and_what_is_skipped_is_counted(offset: int) -> None:
    assert _moved("earliest", offset) == (BEGIN, 0)
    assert _moved("latest", offset) == (END, END - BEGIN)
    assert _moved(TIME, offset) == (AT, AT - BEGIN)


def test_a_time_takes_back_and_never_forward() -> None:
    assert _moved(TIME, END) == (AT, 0)
    assert _moved(TIME, AT) is None
    assert _moved(TIME, BEGIN) is None


@pytest.mark.parametrize(("target", "to_offset"), [("earliest", BEGIN), ("latest", END), (TIME, AT)])
def test_an_offset_of_another_topic_is_in_no_range_and_is_committed_anew(
    target: offset_reset.Target, to_offset: int
) -> None:
    for offset in (BEGIN, AT, END):
        (move,) = offset_reset.decide_moves(
            target, {PARTITION: offset}, {PARTITION: BEGIN}, {PARTITION: END}, {PARTITION: AT}, {PARTITION}
        )
        assert (move.to_offset, move.skipped_records) == (to_offset, to_offset - BEGIN)
