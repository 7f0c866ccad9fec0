"""Offsets of another log are found; offsets without metadata are trusted."""

import uuid

import pytest
from aiokafka import TopicPartition

from goalworker.kafka import topic_identity
from goalworker.kafka.fast_fetch import fetch_state

PARTITION = TopicPartition("tag-added", 0)
OURS, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
OFFSET = 5


def _is_foreign(metadata: str, ids: dict[str, uuid.UUID], *, epoch_end: int | None = None) -> bool:
    committed = {PARTITION: topic_identity.decode(OFFSET, metadata)}
    ends = {} if epoch_end is None else {PARTITION: epoch_end}
    return topic_identity.foreign(topic_identity.Logs(ids, ends, committed)) == {PARTITION}


def test_an_offset_beside_another_id_is_of_another_topic() -> None:
    for epoch in ("", ":0", ":7"):
        assert _is_foreign(f"{OTHER}{epoch}", {"tag-added": OURS})
        assert not _is_foreign(f"{OURS}{epoch}", {"tag-added": OURS})


def test_an_offset_without_an_id_or_with_a_text_of_somebody_else_is_believed() -> None:
    for metadata in ("", "set by hand", OTHER.hex, f"{OTHER}:", f"{OTHER}:-1", f" {OTHER}", "5", ":", f"{OTHER}:5:5"):
        assert not _is_foreign(metadata, {"tag-added": OURS})
        assert topic_identity.decode(OFFSET, metadata) == topic_identity.Committed(OFFSET)


def test_where_the_broker_does_not_say_ids_offsets_are_believed() -> None:
    assert not _is_foreign(str(OTHER), {})


@pytest.mark.parametrize(("end", "is_foreign"), [(0, True), (OFFSET - 1, True), (OFFSET, False), (2**63 - 1, False)])
def test_an_offset_behind_the_end_of_its_epoch_is_of_another_log(end: int, is_foreign: bool) -> None:
    for ids in ({}, {"tag-added": OURS}):
        assert _is_foreign(f"{OURS}:3", ids, epoch_end=end) is is_foreign
        assert _is_foreign(":3", ids, epoch_end=end) is is_foreign


def test_an_offset_at_the_beginning_skips_nothing_in_any_log() -> None:
    for metadata in (":3", f"{OTHER}:3", str(OTHER)):
        committed = {PARTITION: topic_identity.decode(0, metadata)}
        logs = topic_identity.Logs({"tag-added": OURS}, {PARTITION: 0}, committed)
        assert topic_identity.foreign(logs) == set()


def test_a_partition_whose_leader_does_not_answer_is_believed_and_named() -> None:
    other = TopicPartition("tag-added", 1)
    committed = {PARTITION: topic_identity.decode(OFFSET, ":3"), other: topic_identity.decode(OFFSET, str(OURS))}
    logs = topic_identity.Logs({}, {}, committed)
    assert topic_identity.foreign(logs) == set()
    assert logs.unanswered == {PARTITION}


@pytest.mark.parametrize(
    ("topic_id", "epoch", "text"), [(OURS, None, str(OURS)), (OURS, 0, f"{OURS}:0"), (None, 12, ":12")]
)
def test_what_is_written_beside_an_offset_is_read_again(
    topic_id: uuid.UUID | None, epoch: int | None, text: str
) -> None:
    committed = topic_identity.Committed(OFFSET, topic_id, epoch)
    assert topic_identity.encode(committed) == (OFFSET, text)
    assert topic_identity.decode(OFFSET, text) == committed


def test_offsets_are_committed_with_nothing_beside_them_while_nothing_is_known() -> None:
    assert topic_identity.TopicIdentity().with_metadata({PARTITION: OFFSET}) == {PARTITION: OFFSET}


def test_offsets_are_committed_with_the_epoch_of_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fetch_state.LEADER_EPOCHS, PARTITION, 4)
    identity = topic_identity.TopicIdentity()
    assert identity.with_metadata({PARTITION: OFFSET}) == {PARTITION: (OFFSET, ":4")}
    identity.forget_epochs([PARTITION])
    assert identity.with_metadata({PARTITION: 0}) == {PARTITION: 0}


# --- the cell that committed an offset ---


def test_an_offset_says_which_cell_has_committed_it() -> None:
    committed = topic_identity.Committed(OFFSET, OURS, 3, uuid.UUID(int=7))
    encoded = topic_identity.encode(committed)
    assert encoded == (OFFSET, f"{OURS}:3/{uuid.UUID(int=7)}")
    assert topic_identity.decode(*encoded) == committed


def test_offsets_of_another_cell_are_found_and_those_without_a_cell_trusted() -> None:
    ours, other = uuid.UUID(int=7), uuid.UUID(int=8)
    committed = {
        TopicPartition("t", number): topic_identity.Committed(OFFSET, cell_id=cell_id)
        for number, cell_id in enumerate((ours, other, None))
    }
    assert topic_identity.of_another_cell(committed, ours) == {TopicPartition("t", 1)}
    assert topic_identity.of_another_cell(committed, None) == set()
