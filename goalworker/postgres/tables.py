"""Tables. Every key begins with tenant_id, and every id sorts by code point, as in Python (design)."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

WORKER_ROLE: Final = "goalworker_worker"
API_ROLE: Final = "goalworker_api"
TENANT_SETTING: Final = "goalworker.tenant_id"

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def _id(name: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), primary_key=primary_key, nullable=nullable)


def _uuid(name: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, pg.UUID(as_uuid=True), primary_key=primary_key, nullable=nullable)


def _time(name: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), primary_key=primary_key, nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


goals = sa.Table(
    "goals",
    metadata,
    _id("tenant_id", primary_key=True),
    _uuid("goal_id", primary_key=True),
    _id("workflow_id"),
    _text("goal_type"),
    _text("name", nullable=True),
    sa.Column("version", sa.Integer, nullable=False),
    _time("created_at"),
    _text("created_by"),
    _time("updated_at"),
    _text("updated_by"),
    _time("deleted_at", nullable=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Index("goals_by_workflow", "tenant_id", "workflow_id", "created_at", "goal_id"),
    sa.Index("goals_by_revision", "revision"),
)

goal_versions = sa.Table(
    "goal_versions",
    metadata,
    _id("tenant_id", primary_key=True),
    _uuid("goal_id", primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("criteria", pg.JSONB, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    _time("active_from"),
    _time("active_to", nullable=True),
    _time("counts_from", nullable=True),
    _time("exits_withheld_until", nullable=True),
    sa.ForeignKeyConstraint(["tenant_id", "goal_id"], ["goals.tenant_id", "goals.goal_id"]),
)

workflow_settings = sa.Table(
    "workflow_settings",
    metadata,
    _id("tenant_id", primary_key=True),
    _id("workflow_id", primary_key=True),
    _time("active_from", primary_key=True),
    _text("logic"),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.CheckConstraint("logic in ('any', 'all', 'never')", name="logic"),
    sa.Index("workflow_settings_by_revision", "revision"),
)

goal_revision = sa.Table(
    "goal_revision",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    _time("moment"),
    sa.CheckConstraint("id = 1", name="one_row"),
)

installation = sa.Table(
    "installation",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("enrollment_tracking", sa.Boolean, nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)

workflow_states = sa.Table(
    "workflow_states",
    metadata,
    _id("tenant_id", primary_key=True),
    _id("workflow_id", primary_key=True),
    _time("since", primary_key=True),
    sa.Column("active", sa.Boolean, nullable=False),
)

enrollments = sa.Table(
    "enrollments",
    metadata,
    _id("tenant_id", primary_key=True),
    _id("enrollment_id", primary_key=True),
    _id("workflow_id"),
    _id("contact_id"),
    _time("enrolled_at", nullable=True),
    _time("ended_at", nullable=True),
    _time("satisfied_at", nullable=True),
    _time("converted_at", nullable=True),
    _time("exited_at", nullable=True),
    _id("correlation_id", nullable=True),
    _time("correlated_at", nullable=True),
    _id("started_by_source", nullable=True),
    _id("started_by_id", nullable=True),
    _time("started_by_at", nullable=True),
    _flag("exit_waits"),
    _text("satisfied_by", nullable=True),
    _text("payments", nullable=True),
    _flag("exit_withheld"),
    sa.Index("enrollments_by_contact", "tenant_id", "contact_id", "workflow_id"),
    sa.Index("enrollments_by_start", "tenant_id", "workflow_id", "enrolled_at"),
    sa.Index("enrollments_by_end", "ended_at", postgresql_where=sa.text("ended_at IS NOT NULL")),
    # Updates stay in place: these columns, by which the indexes choose their rows, hardly ever change.
    sa.Index(
        "enrollments_by_waiting_exit",
        *("tenant_id", "workflow_id", "contact_id"),
        postgresql_where=sa.text("exit_waits"),
    ),
    sa.Index("enrollments_by_payments", "tenant_id", "workflow_id", postgresql_where=sa.text("payments IS NOT NULL")),
)

goal_hits = sa.Table(
    "goal_hits",
    metadata,
    _id("tenant_id", primary_key=True),
    _id("workflow_id", primary_key=True),
    _id("contact_id", primary_key=True),
    _uuid("goal_id", primary_key=True),
    _id("event_source", primary_key=True),
    _id("event_id", primary_key=True),
    sa.Column("goal_version", sa.Integer, nullable=False),
    _time("event_time"),
    sa.Column("data", pg.JSON, nullable=False),
    _text("traceparent", nullable=True),
    _text("tracestate", nullable=True),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    _time("kept_until", nullable=True),
    sa.Index("goal_hits_by_recorded_at", "recorded_at"),
    sa.Index("goal_hits_by_kept_until", "kept_until", postgresql_where=sa.text("kept_until IS NOT NULL")),
)

reversals = sa.Table(
    "reversals",
    metadata,
    _id("tenant_id", primary_key=True),
    _id("contact_id", primary_key=True),
    _id("event_source", primary_key=True),
    _id("event_id", primary_key=True),
    _text("type"),
    _id("subject_id"),
    _time("event_time"),
    _id("refund_id", nullable=True),
    sa.Column("amount", sa.Numeric, nullable=True),
    _text("currency", nullable=True),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Index("reversals_by_recorded_at", "recorded_at"),
)

achievements = sa.Table(
    "achievements",
    metadata,
    _id("tenant_id", primary_key=True),
    _id("enrollment_id", primary_key=True),
    _uuid("goal_id", primary_key=True),
    _id("workflow_id"),
    _id("contact_id"),
    sa.Column("goal_version", sa.Integer, nullable=False),
    _text("goal_type"),
    _time("enrolled_at", nullable=True),
    _time("achieved_at"),
    _id("event_source"),
    _id("event_id"),
    sa.Column("data", pg.JSON, nullable=False),
    _text("traceparent", nullable=True),
    _text("tracestate", nullable=True),
    sa.Column("revision", sa.Integer, nullable=False),
    _time("revoked_at", nullable=True),
    _text("counted", nullable=True),
    _flag("payments_apart"),
    sa.Index("achievements_by_workflow", "tenant_id", "workflow_id", "achieved_at", "enrollment_id", "goal_id"),
)

exits = sa.Table(
    "exits",
    metadata,
    _id("tenant_id", primary_key=True),
    _id("enrollment_id", primary_key=True),
    _id("workflow_id"),
    _id("contact_id"),
    _uuid("goal_id"),
    _text("goal_type"),
    _text("logic"),
    sa.Column("goal_ids", pg.ARRAY(pg.UUID(as_uuid=True)), nullable=False),
    _time("achieved_at"),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Index("exits_by_created_at", "created_at"),
)

# No tenant_id: a queue between our own processes, to which the API may only add. The hot path fills it by COPY,
# which PostgreSQL refuses under row-level security.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _text("topic"),
    sa.Column("key", pg.BYTEA, nullable=False),
    sa.Column("value", pg.BYTEA, nullable=False),
    _text("traceparent", nullable=True),
    _text("tracestate", nullable=True),
    _uuid("batch_id", nullable=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("event_timestamp_ms", sa.BigInteger, nullable=True),
    _time("claimed_until", nullable=True),
    sa.Index("outbox_by_batch", "batch_id"),
)

# Messages that their topic refuses are moved here from the outbox, so that no other message waits for them.
refused_messages = sa.Table(
    "refused_messages",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    _text("topic"),
    sa.Column("key", pg.BYTEA, nullable=False),
    sa.Column("value", pg.BYTEA, nullable=False),
    _text("traceparent", nullable=True),
    _text("tracestate", nullable=True),
    sa.Column("event_timestamp_ms", sa.BigInteger, nullable=True),
    _time("created_at"),
    sa.Column("refused_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("tried_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    _text("reason"),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("limit_bytes", sa.Integer, nullable=True),
    sa.Index("refused_messages_by_size", "topic", "size_bytes", "id"),
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    _id("tenant_id", primary_key=True),
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _id("workflow_id"),
    _uuid("goal_id", nullable=True),
    _time("at"),
    _text("actor"),
    _text("action"),
    sa.Column("version", sa.Integer, nullable=True),
    sa.Column("before", pg.JSONB, nullable=True),
    sa.Column("after", pg.JSONB, nullable=True),
    _id("contact_id", nullable=True),
    sa.Index("audit_log_by_goal", "tenant_id", "goal_id", "id"),
    sa.Index("audit_log_by_time", "tenant_id", "at", "id"),
    sa.Index(
        "audit_log_by_contact",
        *("tenant_id", "contact_id", "at", "id"),
        postgresql_where=sa.text("contact_id IS NOT NULL"),
    ),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    _id("tenant_id", primary_key=True),
    _uuid("key_id", primary_key=True),
    _text("name"),
    sa.Column("key_hash", pg.BYTEA, nullable=False, unique=True),
    sa.Column("scopes", pg.ARRAY(sa.Text), nullable=False),
    _time("created_at"),
    _time("revoked_at", nullable=True),
)

paused_topics = sa.Table(
    "paused_topics",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("is_paused", sa.Boolean, nullable=False),
    _time("paused_at"),
    _text("reason"),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("accept_records", sa.BigInteger, nullable=False, server_default=sa.text("0")),
)

# No tenant_id: one row per partition of the topics in. judged_until is null until a worker has judged a partition to
# its end once; written_at is a moment after which the partition was seen.
progress = sa.Table(
    "progress",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    _time("judged_until", nullable=True),
    _time("written_at"),
)

# Kept events. Each day is a partition, which goalworker_make_history_days() makes and goalworker_drop_history_days()
# drops; rows go straight into it. Without a key, a repeated event is a row of its own.
history_events = sa.Table(
    "history_events",
    metadata,
    _id("tenant_id"),
    _id("contact_id"),
    _id("event_source"),
    _id("event_id"),
    _text("type"),
    _time("event_time"),
    _text("data"),
    _text("topic"),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("recorded_on", sa.Date, nullable=False),
    sa.Index("history_events_by_contact", "tenant_id", "contact_id", "event_time"),
    postgresql_partition_by="RANGE (recorded_on)",
)

# No tenant_id: one row per partition of the goal topics. next_offset moves in the transaction that adds the rows.
# history_from is when the kept events of the partition begin, first_offset where they begin; all that reached the
# partition before history_until is kept.
history_positions = sa.Table(
    "history_positions",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    _uuid("topic_id", nullable=True),
    sa.Column("first_offset", sa.BigInteger, nullable=False),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
    _time("history_from"),
    _time("history_until", nullable=True),
)

# What the insight processes keep, written by them. all_since: since when events of everyone are kept, null if only
# those of enrolled contacts are. dropped_before: the day before which kept events were dropped.
history_coverage = sa.Table(
    "history_coverage",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    _text("keep"),
    _time("all_since", nullable=True),
    sa.Column("retention_seconds", sa.BigInteger, nullable=False),
    sa.Column("dropped_before", sa.Date, nullable=True),
    sa.CheckConstraint("id = 1", name="one_row"),
    sa.CheckConstraint("keep in ('enrolled', 'all')", name="keep"),
)

# How often a value came on a day. A pipeline and its stage are one value, separated by U+001F, which no id contains.
seen_values = sa.Table(
    "seen_values",
    metadata,
    _id("tenant_id", primary_key=True),
    sa.Column("type", sa.Text(collation="C"), primary_key=True),
    sa.Column("field", sa.Text(collation="C"), primary_key=True),
    sa.Column("value", sa.Text(collation="C"), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    _text("label", nullable=True),
    _time("first_seen"),
    _time("last_seen"),
    sa.Index("seen_values_by_day", "day"),
)

# Plans and backfills: the API inserts them, and an insight process takes them. cursor is the last finished slice.
jobs = sa.Table(
    "jobs",
    metadata,
    _id("tenant_id", primary_key=True),
    _uuid("job_id", primary_key=True),
    _text("kind"),
    _id("workflow_id"),
    _uuid("goal_id", nullable=True),
    sa.Column("request", pg.JSONB, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="queued"),
    sa.Column("progress_done", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("progress_of", sa.BigInteger, nullable=True),
    _text("cursor", nullable=True),
    sa.Column("result", pg.JSONB, nullable=True),
    _text("error", nullable=True),
    _flag("cancel_requested"),
    _uuid("owner", nullable=True),
    _time("heartbeat_at", nullable=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    _text("created_by"),
    _time("finished_at", nullable=True),
    sa.CheckConstraint("kind in ('plan', 'backfill')", name="kind"),
    sa.CheckConstraint("state in ('queued', 'running', 'done', 'failed', 'cancelled')", name="state"),
    sa.Index("jobs_by_age", "created_at", postgresql_where=sa.text("state IN ('queued', 'running')")),
    sa.Index("jobs_by_end", "finished_at", postgresql_where=sa.text("finished_at IS NOT NULL")),
    sa.Index(
        "jobs_one_backfill",
        *("tenant_id", "goal_id"),
        unique=True,
        postgresql_where=sa.text("kind = 'backfill' AND state IN ('queued', 'running')"),
    ),
)

# No tenant_id: acts on topics concern the whole installation.
operator_acts = sa.Table(
    "operator_acts",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    _text("actor"),
    _text("action"),
    sa.Column("detail", pg.JSONB, nullable=False),
)

TENANT_TABLES: Final = (
    goals,
    goal_versions,
    workflow_settings,
    workflow_states,
    enrollments,
    goal_hits,
    reversals,
    achievements,
    exits,
    audit_log,
    api_keys,
    history_events,
    seen_values,
    jobs,
)
