"""Exits are read from their topic as goalworker writes them, with the time of their records (contract section 7)."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from goalworker import config
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import facts, ids, messages
from goalworker.domain.cells import ALL_BUCKETS, Cell, bucket_of
from goalworker.insight import fetched_events, published_exits
from goalworker.insight.buffer import Buffer
from goalworker.insight.fetched_events import EventsOfPartition

TOPICS = config.load({}, env_file=None, secrets_dir=None).topics
EXITS = TopicPartition(TOPICS.workflow_exit, 1)
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
ENROLLMENT = facts.Enrollment("acme", "e-1", "onboarding", "c-17")


def value() -> bytes:
    command = facts.Exit(UUID(int=1), "any", AT, (UUID(int=1),))
    return messages.exit_goal(ENROLLMENT, "purchase_made", command).value


def record(given_value: bytes | None, timestamp_ms: int = 0) -> ConsumerRecord:
    return ConsumerRecord(EXITS.topic, 1, 7, timestamp_ms, 0, b"k", given_value, None, 1, 1, ())


def decoded(*records: ConsumerRecord, cell: Cell | None = None) -> EventsOfPartition:
    return fetched_events.decode(Decoder(TOPICS.event_types, Limits(), cell), EXITS, records, TOPICS, AT)


def test_an_exit_was_published_at_the_time_of_its_record() -> None:
    made = Buffer()
    made.add(decoded(record(value(), 1_777_636_800_123)), AT)
    published_at = datetime(2026, 5, 1, 12, 0, 0, 123_000, tzinfo=UTC)
    assert made.exits() == [("acme", ids.exit_id("acme", "e-1"), published_at)]
    assert made.rows(lambda _: True) == list(made.counts()) == []
    assert +made.outcomes([], keeps_exits=True) == {(EXITS.topic, "kept"): 1}
    assert +made.outcomes([], keeps_exits=False) == {(EXITS.topic, "left_out"): 1}


@pytest.mark.parametrize(
    "given_value",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        value().replace(b"workflow.exit.goal", b"workflow.exit.other"),
        value().replace(b'"acme"', b"7"),
        value().replace(b'"acme"', rb'"a\u0000"'),
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_another_record_of_the_topic_is_no_exit_and_moves_the_position(given_value: bytes) -> None:
    found = decoded(record(given_value), record(None))
    assert found.exits == []
    assert found.outcomes == {"malformed": 1, "tombstone": 1}
    assert (found.next_offset, found.records) == (8, 2)


def test_an_exit_of_another_cells_tenant_is_counted_and_not_kept() -> None:
    own = frozenset({bucket_of("acme")})
    elsewhere = decoded(record(value()), record(b""), cell=Cell(ALL_BUCKETS - own))
    assert (elsewhere.exits, elsewhere.next_offset) == ([], 8)
    assert elsewhere.outcomes == {"foreign_tenant": 1, "malformed": 1}
    assert [found.tenant_id for found in decoded(record(value()), cell=Cell(own)).exits] == ["acme"]


@given(st.binary())
def test_whatever_the_bytes_a_record_is_read(drawn: bytes) -> None:
    found, outcomes = published_exits.read([record(drawn)])
    assert len(found) + outcomes.total() == 1
