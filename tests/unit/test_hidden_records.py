"""The seconds for which one transaction hides records begin anew with the next one."""

from aiokafka import TopicPartition

from goalworker.kafka import hidden_records

FIRST, SECOND = TopicPartition("tag-added", 0), TopicPartition("tag-added", 1)


def test_the_same_transaction_hides_more_and_more_for_longer_and_longer() -> None:
    seen = hidden_records.HiddenRecords()
    assert seen.update({FIRST: 9}, {FIRST: 5}, 100.0) == {FIRST: (4, 0.0)}
    assert seen.update({FIRST: 12}, {FIRST: 5}, 130.0) == {FIRST: (7, 30.0)}


def test_the_next_transaction_begins_its_own_time() -> None:
    seen = hidden_records.HiddenRecords()
    seen.update({FIRST: 9}, {FIRST: 5}, 100.0)
    assert seen.update({FIRST: 12}, {FIRST: 10}, 130.0) == {FIRST: (2, 0.0)}
    assert seen.update({FIRST: 12}, {FIRST: 10}, 131.0) == {FIRST: (2, 1.0)}


def test_where_it_ended_nothing_is_hidden_and_the_time_begins_anew() -> None:
    seen = hidden_records.HiddenRecords()
    seen.update({FIRST: 9}, {FIRST: 5}, 100.0)
    assert seen.update({FIRST: 9}, {FIRST: 9}, 130.0) == {FIRST: (0, 0.0)}
    assert seen.update({FIRST: 12}, {FIRST: 9}, 131.0) == {FIRST: (3, 0.0)}


def test_records_written_between_the_two_looks_are_not_hidden() -> None:
    assert hidden_records.HiddenRecords().update({FIRST: 9}, {FIRST: 11, SECOND: 3}, 1.0) == {
        FIRST: (0, 0.0),
        SECOND: (0, 0.0),
    }
