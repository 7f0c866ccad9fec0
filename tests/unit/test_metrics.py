"""Metrics: the names and labels that dashboards and alerts are written against."""

from collections.abc import Iterator

import prometheus_client
import pytest
from prometheus_client import parser

from goalworker import metrics

CONTRACT = {
    "build_info": ("gauge", {"version"}),
    "events_total": ("counter", {"topic", "outcome"}),
    "event_age_seconds": ("histogram", {"topic"}),
    "batch_duration_seconds": ("histogram", {"stage"}),
    "batch_records": ("histogram", set()),
    "achievements_total": ("counter", {"goal_type"}),
    "achievements_revised_total": ("counter", {"goal_type"}),
    "achievements_revoked_total": ("counter", {"goal_type"}),
    "exits_total": ("counter", {"logic"}),
    "exits_waiting": ("gauge", set()),
    "reversals_total": ("counter", {"kind", "effect"}),
    "consumer_lag_records": ("gauge", {"topic", "partition"}),
    "consumer_hidden_records": ("gauge", {"topic", "partition"}),
    "consumer_hidden_seconds": ("gauge", {"topic", "partition"}),
    "consumer_last_progress_timestamp_seconds": ("gauge", {"topic", "partition"}),
    "consumer_rebalances_total": ("counter", set()),
    "consumer_assigned_partitions": ("gauge", set()),
    "events_without_time_total": ("counter", {"topic"}),
    "topic_paused": ("gauge", {"topic"}),
    "ready": ("gauge", {"check"}),
    "dead_letters_total": ("counter", {"topic", "reason"}),
    "exit_age_seconds": ("histogram", {"logic"}),
    "outbox_pending_records": ("gauge", set()),
    "outbox_oldest_timestamp_seconds": ("gauge", set()),
    "outbox_refused_records": ("gauge", {"topic"}),
    "outbox_published_total": ("counter", {"topic"}),
    "goals_loaded": ("gauge", set()),
    "goals_loaded_timestamp_seconds": ("gauge", set()),
    "history_records_total": ("counter", {"topic", "outcome"}),
    "history_gaps_total": ("counter", {"reason"}),
    "history_waiting": ("gauge", set()),
    "history_last_day_timestamp_seconds": ("gauge", set()),
    "jobs_unfinished": ("gauge", {"kind", "state"}),
    "jobs_oldest_timestamp_seconds": ("gauge", {"kind", "state"}),
    "job_duration_seconds": ("histogram", {"kind", "state"}),
    "seen_values_dropped_total": ("counter", set()),
    "db_transaction_duration_seconds": ("histogram", {"operation"}),
    "clock_skew_seconds": ("gauge", {"of"}),
    "db_pool_connections": ("gauge", {"state"}),
    "http_requests_total": ("counter", {"method", "route", "code"}),
    "http_request_duration_seconds": ("histogram", {"method", "route", "code"}),
}
REASONS = {
    "invalid_json",
    "invalid_envelope",
    "invalid_data",
    "unexpected_type",
    "unsupported_wire_format",
    "too_large",
    "future_time",
    "unstorable",
    "conflicting_enrollment",
}
GOAL_TYPES = {"tag_added", "purchase_made", "appointment_booked", "form_submitted", "pipeline_stage_reached"}
OUTCOMES = {
    *("matched", "unmatched", "recorded", "duplicate", "dead_letter", "tombstone"),
    *("test", "no_move", "foreign_type", "foreign_tenant"),
}
LIFECYCLE_OUTCOMES = {
    *("recorded", "duplicate", "ignored", "dead_letter", "tombstone"),
    *("foreign_type", "foreign_tenant"),
}


@pytest.fixture
def initialised() -> Iterator[None]:
    metrics.initialise(
        "1.2.3",
        goal_topics=["tags", "payments"],
        lifecycle_topic="lifecycle",
        redrive_topic="again",
        outputs=["achieved", "exit"],
    )
    yield
    for metric in (value for value in vars(metrics).values() if getattr(value, "_labelnames", ())):
        metric.clear()


def exposed() -> dict[str, prometheus_client.Metric]:
    families = parser.text_string_to_metric_families(metrics.render().decode())
    return {family.name: family for family in families}


def values_of(name: str, label: str, **others: str) -> set[str]:
    return {
        sample.labels[label]
        for family in exposed().values()
        for sample in family.samples
        if sample.name == f"goalworker_{name}" and others.items() <= sample.labels.items()
    }


def test_names_types_and_labels_are_those_of_the_contract() -> None:
    ours = {
        metric._name + "_total" * isinstance(metric, prometheus_client.Counter): (metric._type, set(metric._labelnames))
        for metric in vars(metrics).values()
        if isinstance(metric, prometheus_client.Counter | prometheus_client.Gauge | prometheus_client.Histogram)
    }
    assert ours == {f"goalworker_{name}": shape for name, shape in CONTRACT.items()}


def test_a_metric_is_called_in_the_code_what_it_is_called_outside() -> None:
    assert all(hasattr(metrics, name) for name in CONTRACT)


@pytest.mark.usefixtures("initialised")
def test_whatever_is_counted_is_exposed_under_exactly_its_name() -> None:
    metrics.http_requests_total.labels("GET", "/goals", "200").inc()
    lines = metrics.render().decode().splitlines()
    assert 'goalworker_http_requests_total{code="200",method="GET",route="/goals"} 1.0' in lines
    assert 'goalworker_build_info{version="1.2.3"} 1.0' in lines
    assert not [line for line in lines if "_created" in line]


@pytest.mark.usefixtures("initialised")
def test_every_closed_list_of_labels_begins_at_zero() -> None:
    assert values_of("events_total", "outcome", topic="tags") == OUTCOMES
    assert values_of("events_total", "outcome", topic="lifecycle") == LIFECYCLE_OUTCOMES
    assert values_of("events_total", "outcome", topic="again") == OUTCOMES | LIFECYCLE_OUTCOMES
    for topic in ("tags", "payments", "lifecycle", "again"):
        assert values_of("dead_letters_total", "reason", topic=topic) == REASONS
    for name in ("events_without_time_total", "topic_paused", "event_age_seconds_count"):
        assert values_of(name, "topic") == {"tags", "payments", "lifecycle", "again"}
    for name in ("achievements_total", "achievements_revised_total", "achievements_revoked_total"):
        assert values_of(name, "goal_type") == GOAL_TYPES
    assert values_of("reversals_total", "kind") == {"refunded", "failed", "cancelled", "rejected"}
    assert values_of("reversals_total", "effect") == {
        *("reversed", "partial", "excess", "mismatch", "moved", "unknown"),
    }
    for name in ("outbox_published_total", "outbox_refused_records"):
        assert values_of(name, "topic") == {"achieved", "exit"}
    for name in ("exits_total", "exit_age_seconds_count"):
        assert values_of(name, "logic") == {"any", "all", "never"}
    assert values_of("batch_duration_seconds_count", "stage") == {"decode", "facts", "judge", "publish", "commit"}
    assert values_of("db_transaction_duration_seconds_count", "operation") == set(metrics.OPERATIONS)
    assert values_of("db_pool_connections", "state") == {"idle", "in_use"}


@pytest.mark.usefixtures("initialised")
def test_thirty_seconds_of_age_is_a_bucket_because_the_objective_is() -> None:
    assert "30.0" in values_of("event_age_seconds_bucket", "le", topic="tags")


@pytest.mark.usefixtures("initialised")
def test_a_partition_that_was_revoked_reports_nothing() -> None:
    by_partition = [name for name, (_, labels) in CONTRACT.items() if "partition" in labels]
    assert len(by_partition) == 4
    for name in by_partition:
        for partition in (0, 1):
            getattr(metrics, name).labels("tags", partition).set(7)
    metrics.forget_partition("tags", 0)
    for name in by_partition:
        assert values_of(name, "partition") == {"1"}


def test_a_partition_of_which_nothing_was_reported_can_be_forgotten_too() -> None:
    metrics.forget_partition("tags", 9)
    assert values_of("consumer_lag_records", "partition") == set()


def test_the_process_is_measured_too() -> None:
    assert {"python_info", "process_cpu_seconds"} <= exposed().keys()


def test_a_value_observed_many_times_at_once_counts_as_often() -> None:
    registry = prometheus_client.CollectorRegistry()
    one, many = (
        prometheus_client.Histogram(name, "Ages.", ["topic"], buckets=(0.1, 1, 10), registry=registry)
        for name in ("one", "many")
    )
    for value, count in ((0.1, 3), (0.5, 2), (99.0, 4), (1.0, 1)):
        metrics.observe_many(many.labels("tags"), value, count)
        for _ in range(count):
            one.labels("tags").observe(value)
    found = {metric.name: [(s.name, s.labels, s.value) for s in metric.samples] for metric in registry.collect()}
    assert found["many"] == [(name.replace("one", "many"), labels, value) for name, labels, value in found["one"]]
