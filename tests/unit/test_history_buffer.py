"""A buffer of history makes rows, counts and steps of positions; where a log does not fit, history begins again."""

import uuid
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from goalworker import config
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import events
from goalworker.insight import arrivals, buffer, fetched_events, positions
from goalworker.insight.arrivals import Arrivals
from goalworker.insight.buffer import Buffer
from goalworker.insight.fetched_events import EventsOfPartition, Span
from goalworker.kafka.positioned_consumer import TopicLog
from goalworker.pipeline import dead_letters
from goalworker.stores.history_writing import Position
from goalworker.stores.seen_values import CountsOfField
from tests.kit import messages_in

TOPICS = config.load({}, env_file=None, secrets_dir=None).topics
FORMS = TopicPartition(TOPICS.form_submitted, 2)
AGAIN = TopicPartition(TOPICS.redrive, 0)
DAY_MS = 86_400_000
NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)
DECODER = Decoder(TOPICS.event_types, Limits())


def record(offset: int, value: bytes | None, timestamp: int = 0, *headers: tuple[str, bytes]) -> ConsumerRecord:
    return ConsumerRecord(FORMS.topic, 2, offset, timestamp, 0, b"k", value, None, 1, 1, headers)


def submitted(offset: int, contact_id: str = "c", form_id: str = "f", timestamp: int = 0) -> ConsumerRecord:
    sent = messages_in.event("form.submitted", {"contact_id": contact_id, "form_id": form_id}, NOW, id=f"e{offset}")
    return record(offset, sent.value, timestamp)


def decoded(partition: TopicPartition, *records: ConsumerRecord) -> EventsOfPartition:
    return fetched_events.decode(DECODER, partition, records, TOPICS, NOW)


# --- decoding ---


def test_malformed_skipped_and_empty_records_move_the_position_and_are_no_events() -> None:
    test = messages_in.event("form.submitted", {"contact_id": "c", "form_id": "f", "test": True}, NOW)
    found = decoded(FORMS, submitted(3), record(4, b"{"), record(5, None), record(6, test.value), submitted(9))
    assert found.offsets == [3, 9]
    assert found.outcomes == {"malformed": 1, "tombstone": 1, "skipped": 1}
    assert (found.next_offset, found.records) == (10, 5)


def test_events_that_only_the_careful_way_decodes_stay_in_order() -> None:
    spaced = submitted(2).value
    assert spaced is not None
    found = decoded(FORMS, submitted(1), record(2, b"[" + spaced + b"]"), submitted(3))
    assert found.offsets == [1, 2, 3]
    assert [event.id for event in found.decoded] == ["e1", "e2", "e3"]


def test_redriven_records_are_decoded_as_those_of_their_topic() -> None:
    value = submitted(1).value
    ours = (dead_letters.ORIGINAL_TOPIC, FORMS.topic.encode())
    lifecycle = (dead_letters.ORIGINAL_TOPIC, TOPICS.workflow_lifecycle.encode())
    started = messages_in.new_enrollment("w").started(NOW).value
    found = decoded(
        AGAIN, record(1, value, 0, ours), record(2, value), record(3, started, 0, lifecycle), record(4, None)
    )
    assert found.offsets == [1]
    assert found.outcomes == {"malformed": 1, "skipped": 1, "tombstone": 1}


@given(st.lists(st.integers(0, 4 * DAY_MS), min_size=1))
def test_records_are_parted_by_day_in_their_order(timestamps: list[int]) -> None:
    records = [record(offset, b"", timestamp) for offset, timestamp in enumerate(timestamps)]
    parts = list(fetched_events.by_day(records))
    assert [one for part in parts for one in part] == records
    if timestamps == sorted(timestamps):
        assert all(len({one.timestamp // DAY_MS for one in part}) == 1 for part in parts)


# --- the buffer ---


def filled(*parts: EventsOfPartition) -> Buffer:
    made = Buffer()
    for part in parts:
        made.add(part, NOW)
    return made


def test_rows_are_those_of_the_contacts_that_are_kept() -> None:
    made = filled(decoded(FORMS, submitted(1, "c"), submitted(2, "d")), decoded(FORMS, submitted(3, "c")))
    rows = made.rows({("acme", "c")}.__contains__)
    assert [(row[1], row[3], row[7:10]) for row in rows] == [
        ("c", "e1", (FORMS.topic, 2, 1)),
        ("c", "e3", (FORMS.topic, 2, 3)),
    ]
    assert rows[0][6] == '{"contact_id":"c","form_id":"f"}'
    assert made.contacts() == {("acme", "c"), ("acme", "d")}
    assert made.outcomes(rows, keeps_exits=True) == {(FORMS.topic, "kept"): 2, (FORMS.topic, "left_out"): 1}


def test_a_partition_moves_once_however_many_parts_it_has() -> None:
    made = filled(
        decoded(FORMS, submitted(4, timestamp=2_000)), decoded(FORMS, submitted(7, timestamp=1_000), submitted(8))
    )
    (move,) = made.moves({FORMS: 3})
    assert move == (FORMS, 3, 9, datetime(1970, 1, 1, tzinfo=UTC))


def part(timestamp_ms: int, counts: dict[str, int], tenant_id: str = "acme") -> EventsOfPartition:
    found = [
        events.Event(tenant_id, "s", "1", "form.submitted", NOW, events.FormSubmitted("c", value))
        for value, number in counts.items()
        for _ in range(number)
    ]
    return of_events(timestamp_ms, found)


def of_events(timestamp_ms: int, found: list[events.Event]) -> EventsOfPartition:
    number = len(found)
    span = Span(timestamp_ms, timestamp_ms)
    return EventsOfPartition(FORMS, number, span, NOW, number, list(range(number)), found)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@given(st.lists(st.tuples(st.integers(0, 60), st.dictionaries(st.sampled_from("abc"), st.integers(1, 9)))))
def test_counts_are_added_up_by_day_and_value(drawn: list[tuple[int, dict[str, int]]]) -> None:
    moments = [NOW - timedelta(hours=hours) for hours, _ in drawn]
    found = list(filled(*(part(ms(at), counts) for at, (_, counts) in zip(moments, drawn, strict=True))).counts())
    expected: Counter[tuple[date, str]] = Counter()
    for at, (_, counts) in zip(moments, drawn, strict=True):
        for value, number in counts.items():
            expected[at.date(), value] += number
    assert {(one.day, value): number for one in found for (_, value), number in one.numbers.items()} == expected
    assert len({one.day for one in found}) == len(found)
    for one in found:
        assert one.first_seen <= one.last_seen
        assert one.first_seen.date() == one.last_seen.date() == one.day


@pytest.mark.parametrize("timestamp", [0, -1, ms(NOW) + 10 * DAY_MS, 2**62])
def test_a_record_of_an_absurd_time_counts_within_the_days_that_are_kept(timestamp: int) -> None:
    (one,) = filled(part(timestamp, {"a": 1})).counts()
    assert NOW.date() - timedelta(days=89) <= one.day <= NOW.date()


def test_of_too_many_values_the_most_frequent_ones_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "VALUES_MAX", 2)
    (found,) = filled(part(ms(NOW), {"a": 1, "b": 5, "c": 3}), part(ms(NOW), {"z": 1}, "south")).counts()
    assert found.numbers == {("acme", "b"): 5, ("acme", "c"): 3, ("south", "z"): 1}


def test_the_latest_label_of_a_buffer_stands() -> None:
    tags = [
        events.Event("acme", "s", "1", "contact.tag.added", NOW, events.TagAdded("c", "t", name))
        for name in ("old", "new", None)
    ]
    found = {one.field: one for one in filled(*(of_events(ms(NOW), [tag]) for tag in tags)).counts()}
    assert found["tag_id"] == CountsOfField(
        "contact.tag.added", "tag_id", NOW.date(), NOW, NOW, {("acme", "t"): 3}, {("acme", "t"): "new"}
    )
    assert found["tag_name"].labels == {}


# --- arrivals ---


def at(second: int) -> datetime:
    return NOW + timedelta(seconds=second)


def test_records_had_arrived_by_the_first_sight_of_an_end_behind_them() -> None:
    seen = Arrivals()
    for end, second in ((10, 1), (10, 2), (20, 3), (None, 4), (30, 5)):
        seen.note(FORMS, end, at(second))
    seen.note(AGAIN, 5, at(6))
    assert [seen.arrived_by(FORMS, offset, at(9)) for offset in (4, 10, 11, 20, 30, 31)] == list(
        map(at, (1, 1, 3, 3, 5, 9))
    )
    assert seen.arrived_by(AGAIN, 5, at(9)) == at(6)
    assert seen.arrived_by(TopicPartition("t", 0), 1, at(9)) == at(9)


def test_the_ends_of_a_log_that_was_longer_are_forgotten() -> None:
    seen = Arrivals()
    for end, second in ((90, 1), (5, 2), (8, 3)):
        seen.note(FORMS, end, at(second))
    assert [seen.arrived_by(FORMS, offset, at(9)) for offset in (5, 8, 9)] == list(map(at, (2, 3, 9)))


@given(st.integers(1, 3 * arrivals.ENDS_MAX))
def test_of_too_many_ends_some_are_dropped_and_records_count_as_later(number: int) -> None:
    seen = Arrivals()
    for end in range(1, number + 1):
        seen.note(FORMS, end, at(end))
    found = [seen.arrived_by(FORMS, end, at(number)) for end in range(1, number + 1)]
    assert all(at(end) <= by for end, by in enumerate(found, 1))
    assert found == sorted(found)


# --- positions ---

ID, OTHER_ID = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.mark.parametrize(
    ("stored", "found", "reason"),
    [
        (None, TopicLog(5, 9, ID), "new"),
        (Position(7, ID), TopicLog(5, 9, ID), None),
        (Position(5, ID), TopicLog(5, 9, ID), None),
        (Position(9, ID), TopicLog(9, 9, ID), None),
        (Position(4, ID), TopicLog(5, 9, ID), "records_deleted"),
        (Position(7, ID), TopicLog(0, 9, OTHER_ID), "recreated"),
        (Position(7, None), TopicLog(0, 9, OTHER_ID), None),
        (Position(7, ID), TopicLog(0, 9, None), None),
        (Position(10, ID), TopicLog(5, 9, ID), None),
    ],
)
def test_history_begins_again_where_its_position_does_not_fit_the_log(
    stored: Position | None, found: TopicLog, reason: str | None
) -> None:
    begun = positions.beginnings({} if stored is None else {FORMS: stored}, {FORMS: found}, is_out_of_range=False)
    expected = {} if reason is None else {FORMS: positions.Beginning(Position(found.begin, found.topic_id), reason)}  # type: ignore[arg-type]
    assert begun == expected


def test_a_position_behind_the_end_counts_only_once_the_broker_has_refused_it() -> None:
    stored, found = {FORMS: Position(10, ID)}, {FORMS: TopicLog(5, 9, ID)}
    assert positions.beginnings(stored, found, is_out_of_range=False) == {}
    assert positions.beginnings(stored, found, is_out_of_range=True)[FORMS].reason == "log_shortened"
