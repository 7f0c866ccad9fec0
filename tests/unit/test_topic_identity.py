"""Which offsets are of another topic of the same name, and which are believed."""

import uuid

from aiokafka import TopicPartition

from goalworker.kafka import topic_identity

PARTITION = TopicPartition("tag-added", 0)
OURS, OTHER = uuid.uuid4(), uuid.uuid4()


def _foreign(metadata: str, known: dict[str, uuid.UUID]) -> bool:
    return topic_identity.foreign({PARTITION: (5, metadata)}, known) == {PARTITION}


def test_an_offset_beside_another_id_is_of_another_topic() -> None:
    assert _foreign(str(OTHER), {"tag-added": OURS})
    assert not _foreign(str(OURS), {"tag-added": OURS})


def test_an_offset_without_an_id_or_with_a_text_of_somebody_else_is_believed() -> None:
    for metadata in ("", "set by hand", OTHER.hex):
        assert not _foreign(metadata, {"tag-added": OURS})


def test_where_the_broker_does_not_say_ids_offsets_are_believed() -> None:
    assert not _foreign(str(OTHER), {})


def test_offsets_are_committed_without_an_id_while_none_is_known() -> None:
    assert topic_identity.TopicIdentity().with_metadata({PARTITION: 5}) == {PARTITION: 5}
