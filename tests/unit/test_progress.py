"""Progress of partitions: a time is never later than the arrival of a record that is not judged."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from aiokafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from goalworker.pipeline import progress

EPOCH = datetime(2026, 5, 1, tzinfo=UTC)
PARTITIONS = [TopicPartition("tag-added", 0), TopicPartition("tag-added", 1), TopicPartition("form-submitted", 0)]
PARTITION = PARTITIONS[0]


def at(tick: int) -> datetime:
    return EPOCH + timedelta(seconds=tick)


class Worlds(RuleBasedStateMachine):
    """Two workers that share partitions, come and go, and freeze anywhere between a question and its answer.

    Of each partition the world knows when every offset was written, transaction markers included, and how far it is
    judged. The stored times only grow, as in the database.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.arrivals: dict[TopicPartition, list[int]] = {partition: [] for partition in PARTITIONS}
        self.judged = dict.fromkeys(PARTITIONS, 0)
        self.stored: dict[TopicPartition, datetime] = {}
        self.marks = [progress.Marks(), progress.Marks()]
        self.asked: list[tuple[datetime, Mapping[TopicPartition, int], dict[TopicPartition, int]] | None] = [None, None]
        self.reached: list[dict[TopicPartition, datetime]] = [{}, {}]

    @rule(seconds=st.integers(1, 3))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(partition=st.sampled_from(PARTITIONS), records=st.integers(1, 3))
    def records_arrive(self, partition: TopicPartition, records: int) -> None:
        self.arrivals[partition] += [self.now] * records

    @rule(partition=st.sampled_from(PARTITIONS), records=st.integers(1, 5))
    def a_batch_is_committed(self, partition: TopicPartition, records: int) -> None:
        self.judged[partition] = min(self.judged[partition] + records, len(self.arrivals[partition]))

    @rule(worker=st.integers(0, 1), ours=st.sets(st.sampled_from(PARTITIONS)))
    def a_worker_reads_clock_and_offsets(self, worker: int, ours: set[TopicPartition]) -> None:
        self.asked[worker] = (at(self.now), {partition: self.judged[partition] for partition in ours}, {})

    @rule(worker=st.integers(0, 1))
    def a_worker_asks_for_ends(self, worker: int) -> None:
        if (asked := self.asked[worker]) is not None:
            asked[2].update({partition: len(self.arrivals[partition]) for partition in asked[1]})

    @rule(worker=st.integers(0, 1))
    def a_worker_marks_them(self, worker: int) -> None:
        if (asked := self.asked[worker]) is not None:
            moment, committed, ends = asked
            self.marks[worker].add(moment, ends, committed)

    @rule(worker=st.integers(0, 1), ours=st.sets(st.sampled_from(PARTITIONS)))
    def a_worker_looks_what_is_reached(self, worker: int, ours: set[TopicPartition]) -> None:
        committed = {partition: self.judged[partition] for partition in ours}
        self.reached[worker] |= self.marks[worker].take_reached(committed)

    @rule(worker=st.integers(0, 1))
    def a_worker_writes(self, worker: int) -> None:
        for partition, moment in self.reached[worker].items():
            self.stored[partition] = max(moment, self.stored.get(partition, moment))

    @rule(worker=st.integers(0, 1))
    def a_worker_restarts(self, worker: int) -> None:
        self.marks[worker], self.asked[worker], self.reached[worker] = progress.Marks(), None, {}

    @invariant()
    def every_record_that_came_before_a_stored_time_is_judged(self) -> None:
        for partition, moment in self.stored.items():
            waiting = self.arrivals[partition][self.judged[partition] :]
            assert all(at(arrived) >= moment for arrived in waiting)


TestWorlds = Worlds.TestCase
TestWorlds.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_a_partition_without_new_records_moves_with_the_clock() -> None:
    marks = progress.Marks()
    for tick in range(5):
        marks.add(at(tick), {PARTITION: 7}, {PARTITION: 7})
        assert marks.take_reached({PARTITION: 7}) == {PARTITION: at(tick)}
    assert marks.take_reached({PARTITION: 7}) == {}


def test_a_partition_stands_still_at_the_first_record_that_is_not_committed() -> None:
    marks = progress.Marks()
    for tick, end in enumerate((7, 8, 8, 9)):
        marks.add(at(tick), {PARTITION: end}, {PARTITION: 7})
    assert marks.take_reached({PARTITION: 7}) == {PARTITION: at(0)}
    assert marks.take_reached({PARTITION: 7}) == {}
    assert marks.take_reached({PARTITION: 8}) == {PARTITION: at(2)}
    assert marks.take_reached({PARTITION: 11}) == {PARTITION: at(3)}


def test_an_end_below_the_committed_offset_says_nothing() -> None:
    marks = progress.Marks()
    marks.add(at(0), {PARTITION: 5}, {PARTITION: 1_000})
    assert marks.take_reached({PARTITION: 1_000}) == {}


def test_a_log_that_lost_its_end_is_marked_anew() -> None:
    marks = progress.Marks()
    marks.add(at(0), {PARTITION: 9}, {PARTITION: 5})
    marks.add(at(1), {PARTITION: 6}, {PARTITION: 5})
    assert marks.take_reached({PARTITION: 8}) == {PARTITION: at(1)}


def test_partitions_of_others_are_forgotten() -> None:
    marks, other = progress.Marks(), PARTITIONS[1]
    marks.add(at(0), {PARTITION: 5, other: 5}, {PARTITION: 4, other: 4})
    marks.add(at(1), {other: 5}, {other: 4})
    assert marks.take_reached({PARTITION: 5, other: 5}) == {other: at(1)}


@given(st.integers(progress.MARKS_MAX, 2_000))
def test_a_partition_that_lags_for_long_keeps_few_marks_up_to_the_newest(ticks: int) -> None:
    marks = progress.Marks()
    for tick in range(ticks):
        marks.add(at(tick), {PARTITION: tick + 1}, {PARTITION: 0})
    assert len(marks._marks[PARTITION]) <= progress.MARKS_MAX
    passed = [marks.take_reached({PARTITION: offset}).get(PARTITION) for offset in range(1, ticks + 1)]
    assert (passed[0], passed[-1]) == (at(0), at(ticks - 1))
    assert all(moment is None or moment == at(tick) for tick, moment in enumerate(passed))
