"""A batch without the records of a paused topic equals a batch that was fetched without them."""

import json
from collections.abc import Sequence
from dataclasses import fields

from aiokafka import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from goalworker.decoding import decoder
from goalworker.decoding.limits import Limits
from goalworker.goal_index import index
from goalworker.pipeline import batches
from tests.kit import hostile

FORMS, LIFECYCLE = "form-submitted", "workflow-lifecycle"
PARTITIONS = (TopicPartition(FORMS, 0), TopicPartition(LIFECYCLE, 0), TopicPartition(FORMS, 1))


def message(kind: str, **attributes: object) -> bytes:
    return json.dumps(hostile.envelope(kind, hostile.DATA[kind], **attributes)).encode()


SENT = (
    message("form.submitted"),
    message("form.submitted", time=None),
    message("workflow.enrollment.started"),
    message("workflow.enrollment.started", time=None),
    message("form.rejected"),
    message("form.submitted", type="order.placed"),
    message("form.submitted", type="order.placed", time=None),
    message("form.submitted").replace(b'"form_id"', b'"test": true, "form_id"'),
    message("form.submitted").replace(b'"form_id"', b'"test": 1, "form_id"'),
    b"{",
    None,
)
VALUES = st.lists(st.sampled_from(SENT), min_size=1, max_size=8)


def fetched(values: Sequence[bytes | None], partition: TopicPartition) -> list[ConsumerRecord]:
    return [
        ConsumerRecord(*partition, 10 + 2 * number, number % 3, 0, None, value, None, 0, 0, ())
        for number, value in enumerate(values)
    ]


def decoded(records: batches.FetchedRecords) -> batches.Batch:
    made = batches.Batch(1, 0, decoder.Decoder(hostile.KINDS, Limits()), records)
    for _ in batches.decoding(made, index.Index(), "redrive"):
        pass
    return made


@given(st.tuples(VALUES, VALUES, VALUES), st.sampled_from((FORMS, LIFECYCLE)), st.integers(0, 16))
def test_withholding_leaves_what_decoding_the_rest_gives(
    values: tuple[list[bytes | None], ...], topic: str, position: int
) -> None:
    records = {at: fetched(sent, at) for at, sent in zip(PARTITIONS, values, strict=True)}
    whole = decoded(records)
    resume_at = whole.withhold(topic, position, index.Index())
    rest, passing = {}, position
    for at, sent in records.items():
        rest[at] = sent if at.topic != topic else sent[:passing]
        passing = max(passing - len(sent), 0) if at.topic == topic else passing
    expected = decoded({at: kept for at, kept in rest.items() if kept})
    for field in fields(batches.Batch):
        if field.name not in ("decoder", "without_time"):
            assert getattr(whole, field.name) == getattr(expected, field.name), field.name
    assert timeless(whole) == timeless(expected)
    assert resume_at == {at: sent[len(rest[at])].offset for at, sent in records.items() if rest[at] != sent}


def timeless(of: batches.Batch) -> set[tuple[TopicPartition, int]]:
    return {(partition, offset) for _, partition, offsets in of.without_time for offset in offsets}
