"""Each record of a tenant on the move is one cell's: the former one's before an offset, and the next one's from it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from goalworker.admin import move_sides, topic_ends
from goalworker.admin.move_sides import Side
from goalworker.decoding import decoder
from goalworker.decoding.limits import Limits
from goalworker.domain.cells import Cell, Handover
from goalworker.goal_index import index
from goalworker.pipeline import batches
from goalworker.stores import cell_store
from goalworker.stores.tenant_moves import Placement
from tests.kit import hostile
from tests.unit.test_batches import FORMS, LIFECYCLE, PARTITIONS, VALUES, fetched
from tests.unit.test_cell_comparison import NOW
from tests.unit.test_cell_comparison import cell as known_cell

TENANT = "north"
OFFSETS = st.fixed_dictionaries({}, optional=dict.fromkeys(PARTITIONS, st.integers(0, 30)))
Position = tuple[str, int, int]


def decoded(records: batches.FetchedRecords, cell: Cell, limits: Limits) -> batches.Batch:
    made = batches.Batch(1, 0, decoder.Decoder(hostile.KINDS, limits, cell), records)
    for _ in batches.decoding(made, index.Index(), "redrive"):
        pass
    return made


def effects(batch: batches.Batch) -> set[Position]:
    """Return the positions of the records with an effect, and assert that these are not skipped too."""
    positions = {(*partition, record.offset) for partition, record, _ in batch.items}
    positions |= {batches.position_of(letter.record) for letter in batch.letters}
    assert not positions & {(*partition, offset) for partition, offset, _ in batch.skipped}
    return positions


@pytest.mark.parametrize("trust_keys", [False, True])
@given(values=st.tuples(VALUES, VALUES, VALUES), offsets=OFFSETS)
def test_both_cells_together_take_what_one_would_and_no_record_twice(
    trust_keys: bool, values: tuple[list[bytes | None], ...], offsets: Mapping[TopicPartition, int]
) -> None:
    limits, key = Limits(trust_keys=trust_keys), f"{TENANT}:c".encode()
    records = {
        at: [replace(record, key=key) for record in fetched(sent, at)]
        for at, sent in zip(PARTITIONS, values, strict=True)
    }
    leaving, arrived = (
        Cell(buckets, {TENANT: True}, {TENANT: Handover(offsets, is_leaving)})
        for buckets, is_leaving in ((Cell().buckets, True), (frozenset[int](), False))
    )
    alone = effects(decoded(records, Cell(), limits))
    before, after = (effects(decoded(records, cell, limits)) for cell in (leaving, arrived))
    assert (before | after, before & after) == (alone, set())
    for *partition, offset in after:
        assert offset >= offsets.get(TopicPartition(*partition), 0)


def test_a_partition_without_an_offset_is_the_next_cells() -> None:
    handed = {(FORMS, 0): 5}
    assert [Handover(handed, True).has((FORMS, 0), offset) for offset in (4, 5)] == [True, False]
    assert [Handover(handed, False).has((FORMS, 0), offset) for offset in (4, 5)] == [False, True]
    assert not Handover(handed, True).has((LIFECYCLE, 0), 0)
    assert Handover(handed, False).has((LIFECYCLE, 0), 0)


def test_a_cell_with_a_handover_owns_less_than_all() -> None:
    assert not Cell(moved={TENANT: True}, handovers={TENANT: Handover({}, True)}).owns_all


def test_what_is_left_counts_from_what_was_committed_or_is_still_there() -> None:
    first, second, third = PARTITIONS
    until = {first: 10, second: 20, third: 5}
    assert topic_ends.sum_left({first: 4, third: 9}, {second: 18}, until) == 6 + 2 + 0
    assert topic_ends.sum_left({}, {}, {}) == 0


def test_offsets_are_read_as_they_are_stored() -> None:
    assert cell_store.offsets_of('{"t": {"0": 7, "11": 0}}') == {("t", 0): 7, ("t", 11): 0}


# --- refusals ---


def side(name: str, number: int, buckets: str, **more: object) -> Side:
    return structs.replace(Side(name, known_cell(number, buckets).stored, "0012", True), **more)


def place(state: str, other: int, **more: object) -> Placement:
    return structs.replace(Placement(state, known_cell(other, "none").stored.cell_id, NOW), **more)


SOURCE, TARGET = side("this", 1, "0-1023"), side("that", 2, "none")
GROUP = known_cell(1, "0-1023").stored.group_id


def problems(source: Side, target: Side) -> list[str]:
    return [*move_sides.problems(source, target, "north")]


def test_a_tenant_may_be_moved_between_cells_that_fit() -> None:
    assert problems(SOURCE, TARGET) == []
    back = structs.replace(SOURCE, placement=place("away", 2)), structs.replace(TARGET, placement=place("here", 1))
    assert problems(back[1], back[0]) == []


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (place("leaving", 2), place("arriving", 1)),
        (place("leaving", 2), place("here", 1, bounds={})),
        (place("away", 2), place("here", 1)),
    ],
)
def test_a_move_that_has_begun_is_continued(here: Placement, there: Placement) -> None:
    source, target = structs.replace(SOURCE, placement=here), structs.replace(TARGET, placement=there, has_rows=True)
    assert problems(source, target) == []


@pytest.mark.parametrize(
    ("source", "target", "problem"),
    [
        ({}, {"revision": "0011"}, "The cells are of different releases: the schema is 0012 in this and 0011 in that."),
        ({}, {"stored": None}, "that is not the database of a cell yet: start the workers of that cell"),
        ({}, {"stored": SOURCE.stored}, "--to is this cell itself, or a copy of its database"),
        ({}, {"stored": known_cell(2, "none", group=GROUP).stored}, f"Both cells use the consumer group {GROUP}"),
        ({}, {"stored": known_cell(2, "none", trust_keys=True).stored}, "GOALWORKER_CELL__TRUST_KEYS differs"),
        ({}, {"tracking": False}, "GOALWORKER_ENROLLMENTS__TRACKING differs"),
        ({"is_working": False}, {}, "No worker of this has written progress for 30 s"),
        ({}, {"is_working": False}, "No worker of that has written progress for 30 s"),
        ({"paused": ("t1", "t2")}, {}, "t1, t2 is paused in this"),
        ({}, {"has_rows": True}, "that has rows of north although it was never moved there"),
        ({}, {"stored": known_cell(2, "0-1023").stored}, "Both cells own north"),
        ({"placement": place("away", 3)}, {}, "The tenant north belongs to another cell"),
        ({"placement": place("leaving", 3)}, {}, "north is moving to another cell"),
        ({"placement": place("leaving", 2)}, {}, "that does not know that north is on its way there"),
        ({"placement": place("leaving", 2)}, {"placement": place("away", 1)}, "that does not know that north"),
        ({"placement": place("here", 3, bounds={})}, {}, "The move of north to this cell is unfinished"),
        ({"placement": place("here", 3, replay_from={})}, {}, "The move of north to this cell is unfinished"),
    ],
)
def test_what_forbids_a_move_is_said(source: dict[str, object], target: dict[str, object], problem: str) -> None:
    found = problems(structs.replace(SOURCE, **source), structs.replace(TARGET, **target))
    assert found[0].startswith(problem), found
