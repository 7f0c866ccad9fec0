"""Tests, moves to the same stage and foreign types become neither items nor dead letters, and are counted once."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, get_args
from uuid import UUID

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from structlog import testing

from goalworker import metrics
from goalworker.decoding import skipping
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.decoding.skipping import Skipped
from goalworker.domain import facts, goals
from goalworker.domain.criteria import Criteria
from goalworker.goal_index import index
from goalworker.pipeline import batches, fetched_order, foreign_types, outcomes, record_tenants, recording
from tests.kit import hostile
from tests.kit.clocks import Clock

REDRIVE: Final = "redrive"
FORMS: Final = TopicPartition("form-submitted", 3)
STAGES: Final = TopicPartition("stage-changed", 0)
LIFECYCLE: Final = TopicPartition("workflow-lifecycle", 0)
REDRIVEN: Final = TopicPartition(REDRIVE, 0)
NOTHING_NEW: Final = recording.Recorded()


def message(kind: str, name: str = "", **fields: object) -> bytes:
    """Return a good event, of another type if named."""
    return json.dumps(hostile.envelope(kind, {**hostile.DATA[kind], **fields}, type=name or kind)).encode()


FORM: Final = message("form.submitted")
TEST: Final = message("form.submitted", test=True)
TEST_OF_INTEGERS: Final = message("form.submitted", test=True, form_id=7)
FOREIGN: Final = message("form.submitted", "order.placed")
FOREIGN_BY_DATA: Final = FOREIGN.replace(b'"data"', b'"data": 1, "data_base64": "", "x"')
STAYED: Final = message("pipeline.stage.changed", stage_id="st-1")
MOVED: Final = message("pipeline.stage.changed")
ORIGIN: Final = (("x-original-topic", b"form-submitted"), ("x-original-partition", b"1"), ("x-original-offset", b"2"))


def fetched(
    partition: TopicPartition, values: Sequence[bytes | None], headers: hostile.Headers = (), since: int = 10
) -> list[ConsumerRecord]:
    return [
        ConsumerRecord(*partition, since + number, hostile.TIMESTAMP_MS, 0, None, value, None, 0, 0, headers)
        for number, value in enumerate(values)
    ]


def decoded(
    records: batches.FetchedRecords, goal_index: index.Index | None = None, limits: Limits | None = None
) -> batches.Batch:
    goal_index = goal_index or index.Index()
    batch = batches.Batch(1, goal_index.revision, Decoder(hostile.KINDS, limits or Limits()), records)
    for _ in batches.decoding(batch, goal_index, REDRIVE):
        pass
    return batch


def counted(batch: batches.Batch, recorded: recording.Recorded = NOTHING_NEW) -> dict[tuple[str, str], float]:
    """Count the outcomes of a committed batch, and return those that moved, by topic and outcome."""
    before = _counters()
    outcomes.count(batch, recorded, {}, tracking=True)
    return {key: value - before.get(key, 0) for key, value in _counters().items() if value != before.get(key, 0)}


def _counters() -> dict[tuple[str, str], float]:
    samples = [sample for metric in metrics.events_total.collect() for sample in metric.samples]
    return {(sample.labels["topic"], sample.labels["outcome"]): sample.value for sample in samples}


MIXED: Final = {
    FORMS: fetched(FORMS, [TEST, FORM, FOREIGN, None, b"{", TEST_OF_INTEGERS, FOREIGN_BY_DATA, FOREIGN]),
    STAGES: fetched(STAGES, [STAYED, MOVED, STAYED.replace(b'"st-1"', b"1"), FOREIGN]),
    LIFECYCLE: fetched(LIFECYCLE, [FOREIGN, message("workflow.activated")]),
}


def test_the_metrics_know_every_outcome_of_a_skipped_event() -> None:
    assert {*get_args(skipping.Outcome)} <= {*metrics.GOAL_OUTCOMES}
    assert {skipping.FOREIGN_TYPE, skipping.FOREIGN_TENANT} <= {*metrics.LIFECYCLE_OUTCOMES}
    assert skipping.FOREIGN_TENANT in metrics.HISTORY_OUTCOMES


def test_each_record_has_one_outcome_whatever_it_is() -> None:
    batch = decoded(MIXED)
    assert counted(batch) == {
        ("form-submitted", "test"): 2,
        ("form-submitted", "foreign_type"): 3,
        ("form-submitted", "tombstone"): 1,
        ("form-submitted", "dead_letter"): 1,
        ("form-submitted", "unmatched"): 1,
        ("stage-changed", "no_move"): 2,
        ("stage-changed", "foreign_type"): 1,
        ("stage-changed", "unmatched"): 1,
        ("workflow-lifecycle", "foreign_type"): 1,
        ("workflow-lifecycle", "duplicate"): 1,
    }
    assert [event.type for *_, event in batch.items] == ["workflow.activated"]


def test_a_reversal_is_recorded_or_a_duplicate_and_never_unmatched() -> None:
    reversals = [message("form.rejected"), message("form.rejected", submission_id=17)]
    batch = decoded({FORMS: fetched(FORMS, [*reversals, message("form.rejected", test=True)])})  # without any goal
    assert [record.offset for _, record, _ in batch.items] == [10, 11]
    assert (batch.has_reversals, batch.matched) == (True, [])
    assert counted(batch) == {("form-submitted", "duplicate"): 2, ("form-submitted", "test"): 1}
    new = recording.Recorded(frozenset(facts.event_key(event) for *_, event in batch.items))
    assert counted(batch, new) == {("form-submitted", "recorded"): 2, ("form-submitted", "test"): 1}


def test_a_redriven_reversal_is_recorded_as_one_of_redrive() -> None:
    batch = decoded({REDRIVEN: fetched(REDRIVEN, [message("form.rejected")], ORIGIN)})
    assert batch.has_reversals
    assert counted(batch) == {(REDRIVE, "duplicate"): 1}


def test_settings_make_tests_count_and_foreign_types_dead_letters() -> None:
    limits = Limits(test_events="count", foreign_types="dead_letter")
    batch = decoded({FORMS: fetched(FORMS, [TEST, FOREIGN]), STAGES: fetched(STAGES, [STAYED])}, limits=limits)
    assert {letter.reason for letter in batch.letters} == {"unexpected_type"}
    assert [found for *_, found in batch.skipped] == [Skipped("no_move", "pipeline.stage.changed", "north")]
    assert counted(batch)["form-submitted", "unmatched"] == 1


def test_skipped_records_of_merged_batches_are_counted_together() -> None:
    first, second = (decoded({FORMS: fetched(FORMS, [TEST, FORM, FOREIGN], since=since)}) for since in (0, 100))
    first.add(second)
    assert counted(first) == {
        ("form-submitted", "test"): 2,
        ("form-submitted", "foreign_type"): 2,
        ("form-submitted", "unmatched"): 2,
    }


def test_goals_that_change_meanwhile_find_no_skipped_event_and_count_none_twice() -> None:
    batch = decoded(MIXED)
    before = list(batch.skipped)
    batch.match(_index())
    assert {(partition.topic, record.value) for partition, record, _ in batch.matched} == {
        ("form-submitted", FORM),
        ("stage-changed", MOVED),
    }
    assert batch.skipped == before


def _index() -> index.Index:
    """Return an index with goals that the good events of two types meet."""
    found = index.Index()
    found.replace(
        [_goal("form_submitted", form_id="f-1"), _goal("pipeline_stage_reached", pipeline_id="pl-1", stage_id="st-2")],
        {},
        1,
    )
    return found


def _goal(goal_type: str, **criteria: Any) -> goals.Goal:
    since = hostile.NOW - timedelta(days=1)
    version = goals.GoalVersion(1, Criteria(**criteria), is_active=True, active_from=since)
    return goals.Goal("north", UUID(int=len(criteria)), "w", goal_type, since, (version,))


def test_a_skipped_event_is_no_item_where_a_goal_would_match_it() -> None:
    goal_index = _index()
    stayed = message("pipeline.stage.changed", previous_stage_id="st-2")
    batch = decoded({FORMS: fetched(FORMS, [TEST, FORM]), STAGES: fetched(STAGES, [stayed])}, goal_index)
    assert [record.value for _, record, _ in batch.items] == [FORM]
    counting = decoded({FORMS: fetched(FORMS, [TEST])}, goal_index, Limits(test_events="count"))
    (hit,) = counting.hits
    assert json.loads(hit.trigger.data) == {**hostile.DATA["form.submitted"], "test": True}


def test_a_redriven_record_is_skipped_as_one_of_its_topic_and_counted_as_one_of_redrive() -> None:
    batch = decoded({REDRIVEN: fetched(REDRIVEN, [TEST, FOREIGN, FOREIGN_BY_DATA, FORM], ORIGIN)})
    assert [found.outcome for *_, found in batch.skipped] == ["test", "foreign_type", "foreign_type"]
    assert len(batch.items) == 1
    assert batch.letters == []
    assert counted(batch) == {(REDRIVE, "test"): 1, (REDRIVE, "foreign_type"): 2, (REDRIVE, "unmatched"): 1}


def test_records_withheld_for_a_pause_are_counted_when_they_are_read_again() -> None:
    batch = decoded(MIXED)
    batch.withhold("form-submitted", 3, index.Index())
    of_forms = Counter(found.outcome for partition, _, found in batch.skipped if partition == FORMS)
    assert of_forms == {"test": 1, "foreign_type": 1}
    assert sum(partition == STAGES for partition, *_ in batch.skipped) == 3


def test_a_foreign_type_counts_for_the_breaker_as_a_good_record_of_its_tenant() -> None:
    records = fetched(FORMS, [FOREIGN] * 50)
    batch = decoded({FORMS: records})
    assert fetched_order.letters_in_order(batch, "form-submitted") == {}
    assert record_tenants.tenant_of(batch.decoder, "form-submitted", records[0]) == "north"


@pytest.mark.parametrize("value", [FOREIGN, TEST])
def test_a_skipped_event_without_a_time_is_not_counted_as_dated_by_its_record(value: bytes) -> None:
    timeless = value.replace(f'"{hostile.GOOD_TIME}"'.encode(), b"null")
    integers = timeless.replace(b'"f-1"', b"7")  # decoded the careful way
    batch = decoded({FORMS: fetched(FORMS, [timeless, integers])})
    assert (len(batch.skipped), batch.without_time) == (2, [])


# --- the log of foreign types ---


def logged(log: foreign_types.ForeignTypes, *types: str, topic: str = "form-submitted") -> list[tuple[str, str, int]]:
    """Log a batch with records of these types; return the lines by topic, type and number of records."""
    partition = TopicPartition(topic, 1)
    skipped = [(partition, 7 + place, Skipped("foreign_type", name, "north")) for place, name in enumerate(types)]
    with testing.capture_logs() as lines:
        log.log([(partition, 6, Skipped("test", "form.submitted", "north")), *skipped])
    assert all(line["event"] == "foreign_type" and line["partition"] == 1 for line in lines)
    return [(line["topic"], line["type"], line["records"]) for line in lines]


def test_a_foreign_type_is_logged_once_an_hour_for_each_topic() -> None:
    clock = Clock()
    log = foreign_types.ForeignTypes(clock)
    assert logged(log, "a", "b", "a") == [("form-submitted", "a", 2), ("form-submitted", "b", 1)]
    assert logged(log, "b", "a") == []
    assert logged(log, "a", topic="tag-added") == [("tag-added", "a", 1)]
    clock.now += 3_600
    assert logged(log, "a") == [("form-submitted", "a", 1)]


def test_a_sender_of_ever_new_types_fills_neither_log_nor_memory() -> None:
    clock = Clock()
    log = foreign_types.ForeignTypes(clock)
    assert len(logged(log, *(f"type-{number}" for number in range(5_000)))) == foreign_types.TYPES_MAX
    assert logged(log, "a", topic="tag-added") == [("tag-added", "a", 1)]
    clock.now += 3_600
    assert len(logged(log, *(f"other-{number}" for number in range(5_000)))) == foreign_types.TYPES_MAX
    assert len(log._lines._written_at["form-submitted"]) == foreign_types.TYPES_MAX
