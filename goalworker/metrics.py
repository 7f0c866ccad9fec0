"""Every metric that goalworker has (contract section 6), in the order in which a record meets them.

No tenant, contact, workflow or goal is ever a label. Labels whose values are a closed list start at 0, so that a rate
over the first occurrence is no gap. Each is called here what it is called outside, without `goalworker_`.
"""

import bisect
from collections.abc import Collection, Iterable
from itertools import product
from typing import Final

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

from goalworker.domain import events, goals

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST
REGISTRY: Final = prometheus_client.CollectorRegistry()
prometheus_client.ProcessCollector(registry=REGISTRY)
prometheus_client.PlatformCollector(registry=REGISTRY)

GOAL_OUTCOMES: Final = ("matched", "unmatched", "duplicate", "dead_letter", "tombstone")
LIFECYCLE_OUTCOMES: Final = ("recorded", "duplicate", "ignored", "dead_letter", "tombstone")
STAGES: Final = ("decode", "facts", "judge", "publish", "commit")
CHECKS: Final = ("database", "broker", "topics", "migrations", "goals")
API_CHECKS: Final = ("database", "migrations")
# What a transaction is for.
OPERATIONS: Final = ("facts", "judge", "publish", "goals", "sweep")
API_OPERATIONS: Final = ("goals_read", "goals_write", "enrollments_read", "enrollments_write", "stats", "keys")
POOL_STATES: Final = ("idle", "in_use")
CLOCKS: Final = ("database",)
REASONS: Final = (
    "invalid_json",
    "invalid_envelope",
    "invalid_data",
    "unexpected_type",
    "unsupported_wire_format",
    "too_large",
    "future_time",
    "unstorable",
    "conflicting_enrollment",
)

# 30 s is the objective for an event's age; up to a day, because after an outage a backlog is hours old.
AGE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400)
# From one index lookup to a statement that runs into its timeout.
WORK_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
RECORDS: Final = (1, 10, 50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000)

# The build that runs; always 1.
build_info = Gauge("goalworker_build_info", "The build that runs.", ["version"], registry=REGISTRY)

# The consumer: what it was given, and how far behind it is.
consumer_rebalances_total = Counter(
    "goalworker_consumer_rebalances_total", "Times that partitions were assigned anew.", registry=REGISTRY
)
consumer_assigned_partitions = Gauge(
    "goalworker_consumer_assigned_partitions", "Partitions this worker has.", registry=REGISTRY
)
consumer_lag_records = Gauge(
    "goalworker_consumer_lag_records",
    "Records up to the last stable offset that are not committed.",
    ["topic", "partition"],
    registry=REGISTRY,
)
consumer_hidden_records = Gauge(
    "goalworker_consumer_hidden_records",
    "Records behind somebody's open transaction: high watermark minus last stable offset.",
    ["topic", "partition"],
    registry=REGISTRY,
)
consumer_hidden_seconds = Gauge(
    "goalworker_consumer_hidden_seconds",
    "For how long the same open transaction has been seen to hide them; 0 with none.",
    ["topic", "partition"],
    registry=REGISTRY,
)
consumer_last_progress_timestamp_seconds = Gauge(
    "goalworker_consumer_last_progress_timestamp_seconds",
    "When the position last moved, or nothing was left to read.",
    ["topic", "partition"],
    registry=REGISTRY,
)

# Records in: each has exactly one outcome.
events_total = Counter(
    "goalworker_events_total", "Records by what became of them.", ["topic", "outcome"], registry=REGISTRY
)
events_without_time_total = Counter(
    "goalworker_events_without_time_total", "Events dated by their record's timestamp.", ["topic"], registry=REGISTRY
)
event_age_seconds = Histogram(
    "goalworker_event_age_seconds",
    "From a record's timestamp until its judgement was committed.",
    ["topic"],
    buckets=AGE_SECONDS,
    registry=REGISTRY,
)
dead_letters_total = Counter(
    "goalworker_dead_letters_total", "Records that went to the DLQ.", ["topic", "reason"], registry=REGISTRY
)
topic_paused = Gauge(
    "goalworker_topic_paused",
    "1: too many dead letters, the topic waits for `topics resume`.",
    ["topic"],
    registry=REGISTRY,
)

# Batches, stage by stage.
batch_records = Histogram("goalworker_batch_records", "Records in a batch.", buckets=RECORDS, registry=REGISTRY)
batch_duration_seconds = Histogram(
    "goalworker_batch_duration_seconds",
    "Time that a batch, or those that are told together, spent in a stage.",
    ["stage"],
    buckets=WORK_SECONDS,
    registry=REGISTRY,
)

# What judgement came to.
achievements_total = Counter("goalworker_achievements_total", "Goals achieved.", ["goal_type"], registry=REGISTRY)
achievements_revised_total = Counter(
    "goalworker_achievements_revised_total",
    "Achievements that a late message changed.",
    ["goal_type"],
    registry=REGISTRY,
)
achievements_revoked_total = Counter(
    "goalworker_achievements_revoked_total",
    "Achievements that a late message took back.",
    ["goal_type"],
    registry=REGISTRY,
)
exits_total = Counter("goalworker_exits_total", "Exits decided.", ["logic"], registry=REGISTRY)
exit_age_seconds = Histogram(
    "goalworker_exit_age_seconds",
    "From the satisfying event's record until its exit was acknowledged; unknown where another message completed it.",
    ["logic"],
    buckets=AGE_SECONDS,
    registry=REGISTRY,
)

# Messages out.
outbox_pending_records = Gauge("goalworker_outbox_pending_records", "Messages not yet acknowledged.", registry=REGISTRY)
outbox_oldest_timestamp_seconds = Gauge(
    "goalworker_outbox_oldest_timestamp_seconds", "When the oldest of them was written; 0 with none.", registry=REGISTRY
)
outbox_refused_records = Gauge(
    "goalworker_outbox_refused_records",
    "Messages that their topic refuses; they are tried again.",
    ["topic"],
    registry=REGISTRY,
)
outbox_published_total = Counter(
    "goalworker_outbox_published_total", "Messages the broker acknowledged.", ["topic"], registry=REGISTRY
)

# The goals in memory.
goals_loaded = Gauge("goalworker_goals_loaded", "Goals in the index.", registry=REGISTRY)
goals_loaded_timestamp_seconds = Gauge(
    "goalworker_goals_loaded_timestamp_seconds", "When the index was last brought up to date.", registry=REGISTRY
)

# The database.
db_transaction_duration_seconds = Histogram(
    "goalworker_db_transaction_duration_seconds",
    "Time from begin to commit.",
    ["operation"],
    buckets=WORK_SECONDS,
    registry=REGISTRY,
)
clock_skew_seconds = Gauge(
    "goalworker_clock_skew_seconds",
    "How far the clock of what is named is ahead of the worker's; negative: behind.",
    ["of"],
    registry=REGISTRY,
)
db_pool_connections = Gauge("goalworker_db_pool_connections", "Connections of the pool.", ["state"], registry=REGISTRY)

# The API; a route is its template, never a path.
http_requests_total = Counter(
    "goalworker_http_requests_total", "Requests.", ["method", "route", "code"], registry=REGISTRY
)
http_request_duration_seconds = Histogram(
    "goalworker_http_request_duration_seconds",
    "Time to answer a request.",
    ["method", "route", "code"],
    buckets=REQUEST_SECONDS,
    registry=REGISTRY,
)

# What /healthz/ready answers, check by check.
ready = Gauge("goalworker_ready", "1: this check is fine.", ["check"], registry=REGISTRY)


def initialise(
    version: str, *, goal_topics: Collection[str], lifecycle_topic: str, redrive_topic: str, outputs: Collection[str]
) -> None:
    """Let a worker's series begin at 0; redrive carries what any topic carries, so it has every outcome."""
    build_info.labels(version).set(1)
    outcomes = {
        **dict.fromkeys(goal_topics, GOAL_OUTCOMES),
        lifecycle_topic: LIFECYCLE_OUTCOMES,
        redrive_topic: tuple(dict.fromkeys(GOAL_OUTCOMES + LIFECYCLE_OUTCOMES)),
    }
    for topic, outcomes_of_topic in outcomes.items():
        _begin(events_total, [topic], outcomes_of_topic)
        _begin(dead_letters_total, [topic], REASONS)
    for by_topic in (events_without_time_total, event_age_seconds, topic_paused):
        _begin(by_topic, outcomes)
    for by_goal_type in (achievements_total, achievements_revised_total, achievements_revoked_total):
        _begin(by_goal_type, events.GOAL_TYPES)
    _begin(outbox_published_total, outputs)
    _begin(outbox_refused_records, outputs)
    _begin(exits_total, goals.LOGICS)
    _begin(exit_age_seconds, goals.LOGICS)
    _begin(batch_duration_seconds, STAGES)
    _begin(db_transaction_duration_seconds, OPERATIONS)
    _begin(db_pool_connections, POOL_STATES)
    _begin(clock_skew_seconds, CLOCKS)


def initialise_api(version: str) -> None:
    """Let an API's series begin at 0."""
    build_info.labels(version).set(1)
    _begin(db_transaction_duration_seconds, API_OPERATIONS)
    _begin(db_pool_connections, POOL_STATES)


def _begin(metric: Counter | Gauge | Histogram, *values: Iterable[str]) -> None:
    for combination in product(*values):
        metric.labels(*combination)


def observe_many(histogram: Histogram, value: float, count: int) -> None:
    """Observe a value `count` times at once: records of one millisecond share their age, and a batch has thousands."""
    histogram._sum.inc(value * count)
    histogram._buckets[bisect.bisect_left(histogram._upper_bounds, value)].inc(count)


def forget_partition(topic: str, partition: int) -> None:
    """Drop the series of a partition that this worker no longer has: its last lag would be reported for ever."""
    for gauge in (
        consumer_lag_records,
        consumer_hidden_records,
        consumer_hidden_seconds,
        consumer_last_progress_timestamp_seconds,
    ):
        gauge.remove(topic, partition)


def render() -> bytes:
    """Return everything in Prometheus' text format, whose media type is CONTENT_TYPE."""
    return prometheus_client.generate_latest(REGISTRY)
