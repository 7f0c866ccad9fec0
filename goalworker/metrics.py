"""Metrics (contract section 6), in the order in which a record meets them.

Labels never name a tenant, a contact, a workflow or a goal. Series whose labels have a closed list of values start at
0, so that a rate includes the first occurrence. Each variable has its metric's name without `goalworker_`.
"""

import bisect
from collections.abc import Collection, Iterable
from itertools import product
from typing import Final

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

from goalworker.domain import events, goals, reversal_effects

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST
REGISTRY: Final = prometheus_client.CollectorRegistry()
prometheus_client.ProcessCollector(registry=REGISTRY)
prometheus_client.PlatformCollector(registry=REGISTRY)

# Reversals, which share the topics of what they reverse, are `recorded`.
GOAL_OUTCOMES: Final = (
    "matched",
    "unmatched",
    "recorded",
    "duplicate",
    "dead_letter",
    "tombstone",
    "test",
    "no_move",
    "foreign_type",
    "foreign_tenant",
)
LIFECYCLE_OUTCOMES: Final = (
    *("recorded", "duplicate", "ignored", "dead_letter", "tombstone"),
    *("foreign_type", "foreign_tenant"),
)
STAGES: Final = ("decode", "facts", "judge", "publish", "commit")
CHECKS: Final = ("database", "broker", "topics", "migrations", "goals")
API_CHECKS: Final = ("database", "migrations")
INSIGHT_CHECKS: Final = ("database", "broker", "topics", "migrations")
# Purposes of transactions.
OPERATIONS: Final = ("facts", "judge", "publish", "goals", "sweep")
API_OPERATIONS: Final = (
    "goals_read",
    "goals_write",
    "enrollments_read",
    "enrollments_write",
    "explain",
    "timeline",
    "jobs",
    "seen_values",
    "stats",
    "feed",
    "health",
    "keys",
)
INSIGHT_OPERATIONS: Final = ("history", "goals", "jobs", "plan", "sweep")
POOL_STATES: Final = ("idle", "in_use")
# Records that `insight` has read: left_out are events of contacts without an enrollment.
HISTORY_OUTCOMES: Final = ("kept", "left_out", "skipped", "malformed", "tombstone", "foreign_tenant")
HISTORY_GAPS: Final = ("records_deleted", "log_shortened", "recreated", "unreadable")
JOB_KINDS: Final = ("plan", "backfill")
# Jobs that are not finished, and how others ended.
JOB_STATES: Final = ("queued", "running")
JOB_ENDS: Final = ("done", "failed", "cancelled")
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

# Seconds. The objective for an event's age is 30; after an outage, a backlog may be hours old.
AGE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400)
# Seconds, from an index lookup to a statement that runs into its timeout.
WORK_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
JOB_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 21_600)
REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
RECORDS: Final = (1, 10, 50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000)

build_info = Gauge("goalworker_build_info", "The running build; always 1.", ["version"], registry=REGISTRY)

# The consumer: its partitions, and its lag.
consumer_rebalances_total = Counter(
    "goalworker_consumer_rebalances_total", "Rebalances: times that partitions were assigned.", registry=REGISTRY
)
consumer_assigned_partitions = Gauge(
    "goalworker_consumer_assigned_partitions", "Partitions assigned to this worker.", registry=REGISTRY
)
consumer_lag_records = Gauge(
    "goalworker_consumer_lag_records",
    "Records below the last stable offset whose offsets are not committed.",
    ["topic", "partition"],
    registry=REGISTRY,
)
consumer_hidden_records = Gauge(
    "goalworker_consumer_hidden_records",
    "Records behind an open transaction: high watermark minus last stable offset.",
    ["topic", "partition"],
    registry=REGISTRY,
)
consumer_hidden_seconds = Gauge(
    "goalworker_consumer_hidden_seconds",
    "Seconds since the same open transaction was first seen to hide them; 0 without one.",
    ["topic", "partition"],
    registry=REGISTRY,
)
consumer_last_progress_timestamp_seconds = Gauge(
    "goalworker_consumer_last_progress_timestamp_seconds",
    "When the committed offset last moved, or the lag was 0.",
    ["topic", "partition"],
    registry=REGISTRY,
)

# Records in. Each has exactly one outcome.
events_total = Counter("goalworker_events_total", "Records by outcome.", ["topic", "outcome"], registry=REGISTRY)
events_without_time_total = Counter(
    "goalworker_events_without_time_total",
    "Events without a time of their own, dated by their record's timestamp.",
    ["topic"],
    registry=REGISTRY,
)
event_age_seconds = Histogram(
    "goalworker_event_age_seconds",
    "Time from a record's timestamp to the commit of its judgement.",
    ["topic"],
    buckets=AGE_SECONDS,
    registry=REGISTRY,
)
dead_letters_total = Counter(
    "goalworker_dead_letters_total", "Records sent to the DLQ.", ["topic", "reason"], registry=REGISTRY
)
topic_paused = Gauge(
    "goalworker_topic_paused",
    "1 if too many dead letters have paused the topic; `topics resume` resumes it.",
    ["topic"],
    registry=REGISTRY,
)

# Batches, stage by stage.
batch_records = Histogram("goalworker_batch_records", "Records in a batch.", buckets=RECORDS, registry=REGISTRY)
batch_duration_seconds = Histogram(
    "goalworker_batch_duration_seconds",
    "Time that a batch, or batches published together, spent in a stage.",
    ["stage"],
    buckets=WORK_SECONDS,
    registry=REGISTRY,
)

# Results of judging.
achievements_total = Counter("goalworker_achievements_total", "Goals achieved.", ["goal_type"], registry=REGISTRY)
achievements_revised_total = Counter(
    "goalworker_achievements_revised_total",
    "Achievements that a late message changed.",
    ["goal_type"],
    registry=REGISTRY,
)
achievements_revoked_total = Counter(
    "goalworker_achievements_revoked_total",
    "Achievements that a late message revoked.",
    ["goal_type"],
    registry=REGISTRY,
)
reversals_total = Counter(
    "goalworker_reversals_total",
    "Reversals by what they did when they were judged.",
    ["kind", "effect"],
    registry=REGISTRY,
)
exits_total = Counter("goalworker_exits_total", "Exits decided.", ["logic"], registry=REGISTRY)
exit_age_seconds = Histogram(
    "goalworker_exit_age_seconds",
    "Time from the satisfying event to the acknowledgement of its exit; not observed if another message completed it.",
    ["logic"],
    buckets=AGE_SECONDS,
    registry=REGISTRY,
)

exits_waiting = Gauge(
    "goalworker_exits_waiting", "Exits that wait for an activation of their workflow.", registry=REGISTRY
)

# Messages out.
outbox_pending_records = Gauge(
    "goalworker_outbox_pending_records", "Messages that the broker has not acknowledged.", registry=REGISTRY
)
outbox_oldest_timestamp_seconds = Gauge(
    "goalworker_outbox_oldest_timestamp_seconds",
    "When the oldest pending message was written; 0 without one.",
    registry=REGISTRY,
)
outbox_refused_records = Gauge(
    "goalworker_outbox_refused_records",
    "Messages that their topic refuses; they are retried.",
    ["topic"],
    registry=REGISTRY,
)
outbox_published_total = Counter(
    "goalworker_outbox_published_total", "Messages that the broker acknowledged.", ["topic"], registry=REGISTRY
)

# The goals in memory.
goals_loaded = Gauge("goalworker_goals_loaded", "Goals in the index.", registry=REGISTRY)
goals_loaded_timestamp_seconds = Gauge(
    "goalworker_goals_loaded_timestamp_seconds", "When the index was last refreshed.", registry=REGISTRY
)

# History.
history_records_total = Counter(
    "goalworker_history_records_total",
    "Records that insight has read, by outcome.",
    ["topic", "outcome"],
    registry=REGISTRY,
)
history_gaps_total = Counter(
    "goalworker_history_gaps_total",
    "Places in the logs where insight could not read on, by reason.",
    ["reason"],
    registry=REGISTRY,
)
history_waiting = Gauge(
    "goalworker_history_waiting",
    "1 while insight waits until workers have judged the enrollments of its events.",
    registry=REGISTRY,
)
history_last_day_timestamp_seconds = Gauge(
    "goalworker_history_last_day_timestamp_seconds",
    "When the last day of history whose partition exists is over; 0 without one.",
    registry=REGISTRY,
)
jobs_unfinished = Gauge(
    "goalworker_jobs_unfinished", "Plans and backfills that wait or run.", ["kind", "state"], registry=REGISTRY
)
jobs_oldest_timestamp_seconds = Gauge(
    "goalworker_jobs_oldest_timestamp_seconds",
    "When the oldest plan or backfill in a state was asked for; 0 without one.",
    ["kind", "state"],
    registry=REGISTRY,
)
job_duration_seconds = Histogram(
    "goalworker_job_duration_seconds",
    "Time from when this process took a plan or backfill to its end, by how it ended.",
    ["kind", "state"],
    buckets=JOB_SECONDS,
    registry=REGISTRY,
)
seen_values_dropped_total = Counter(
    "goalworker_seen_values_dropped_total",
    "Counts of values dropped: too old, or of too many rare values.",
    registry=REGISTRY,
)

# The database.
db_transaction_duration_seconds = Histogram(
    "goalworker_db_transaction_duration_seconds",
    "Time of a transaction, from begin to commit.",
    ["operation"],
    buckets=WORK_SECONDS,
    registry=REGISTRY,
)
clock_skew_seconds = Gauge(
    "goalworker_clock_skew_seconds",
    "Seconds by which the named clock is ahead of the worker's; negative if it is behind.",
    ["of"],
    registry=REGISTRY,
)
db_pool_connections = Gauge(
    "goalworker_db_pool_connections", "Connections of the pool by state.", ["state"], registry=REGISTRY
)

# The API; a route is its template, never a path.
http_requests_total = Counter(
    "goalworker_http_requests_total", "Requests answered.", ["method", "route", "code"], registry=REGISTRY
)
http_request_duration_seconds = Histogram(
    "goalworker_http_request_duration_seconds",
    "Time to answer a request.",
    ["method", "route", "code"],
    buckets=REQUEST_SECONDS,
    registry=REGISTRY,
)

# The checks of /healthz/ready.
ready = Gauge("goalworker_ready", "1 if this check passes, else 0.", ["check"], registry=REGISTRY)


def initialise(
    version: str, *, goal_topics: Collection[str], lifecycle_topic: str, redrive_topic: str, outputs: Collection[str]
) -> None:
    """Start a worker's series at 0. The redrive topic carries records of every topic, so it has every outcome."""
    build_info.labels(version).set(1)
    outcomes = {
        **dict.fromkeys(goal_topics, GOAL_OUTCOMES),
        lifecycle_topic: LIFECYCLE_OUTCOMES,
        redrive_topic: tuple(dict.fromkeys(GOAL_OUTCOMES + LIFECYCLE_OUTCOMES)),
    }
    for topic, outcomes_of_topic in outcomes.items():
        _start(events_total, [topic], outcomes_of_topic)
        _start(dead_letters_total, [topic], REASONS)
    for by_topic in (events_without_time_total, event_age_seconds, topic_paused):
        _start(by_topic, outcomes)
    for by_goal_type in (achievements_total, achievements_revised_total, achievements_revoked_total):
        _start(by_goal_type, events.GOAL_TYPES)
    _start(outbox_published_total, outputs)
    _start(outbox_refused_records, outputs)
    _start(reversals_total, reversal_effects.KINDS, reversal_effects.EFFECTS)
    _start(exits_total, goals.LOGICS)
    _start(exit_age_seconds, goals.LOGICS)
    _start(batch_duration_seconds, STAGES)
    _start(db_transaction_duration_seconds, OPERATIONS)
    _start(db_pool_connections, POOL_STATES)
    _start(clock_skew_seconds, CLOCKS)


def initialise_insight(version: str, topics: Collection[str]) -> None:
    """Start the series of `insight` at 0."""
    build_info.labels(version).set(1)
    _start(history_records_total, topics, HISTORY_OUTCOMES)
    _start(history_gaps_total, HISTORY_GAPS)
    _start(jobs_unfinished, JOB_KINDS, JOB_STATES)
    _start(jobs_oldest_timestamp_seconds, JOB_KINDS, JOB_STATES)
    _start(job_duration_seconds, JOB_KINDS, JOB_ENDS)
    _start(db_transaction_duration_seconds, INSIGHT_OPERATIONS)
    _start(db_pool_connections, POOL_STATES)
    _start(clock_skew_seconds, CLOCKS)


def initialise_api(version: str) -> None:
    """Start an API's series at 0."""
    build_info.labels(version).set(1)
    _start(db_transaction_duration_seconds, API_OPERATIONS)
    _start(db_pool_connections, POOL_STATES)


def _start(metric: Counter | Gauge | Histogram, *values: Iterable[str]) -> None:
    for combination in product(*values):
        metric.labels(*combination)


def observe_many(histogram: Histogram, value: float, count: int) -> None:
    """Observe a value `count` times at once: thousands of records in a batch share few ages.

    It adds to the histogram's own buckets, since prometheus_client observes one value at a time.
    """
    histogram._sum.inc(value * count)
    histogram._buckets[bisect.bisect_left(histogram._upper_bounds, value)].inc(count)


def forget_partition(topic: str, partition: int) -> None:
    """Drop the series of a partition that this worker no longer has, or its last lag would be exposed for ever."""
    for gauge in (
        consumer_lag_records,
        consumer_hidden_records,
        consumer_hidden_seconds,
        consumer_last_progress_timestamp_seconds,
    ):
        gauge.remove(topic, partition)


def render() -> bytes:
    """Return all metrics in Prometheus' text format, whose media type is CONTENT_TYPE."""
    return prometheus_client.generate_latest(REGISTRY)
