"""Tables. Every key begins with tenant_id, and every id sorts by code point, as in Python (design)."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from goalworker.postgres import cell_tables, columns, insight_tables
from goalworker.postgres.columns import flag_, id_, text_, time_, uuid_

metadata: Final = columns.metadata
"""Every table, those of insight included."""

WORKER_ROLE: Final = "goalworker_worker"
API_ROLE: Final = "goalworker_api"
TENANT_SETTING: Final = "goalworker.tenant_id"

goals = sa.Table(
    "goals",
    metadata,
    id_("tenant_id", primary_key=True),
    uuid_("goal_id", primary_key=True),
    id_("workflow_id"),
    text_("goal_type"),
    text_("name", nullable=True),
    sa.Column("version", sa.Integer, nullable=False),
    time_("created_at"),
    text_("created_by"),
    time_("updated_at"),
    text_("updated_by"),
    time_("deleted_at", nullable=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Index("goals_by_workflow", "tenant_id", "workflow_id", "created_at", "goal_id"),
    sa.Index("goals_by_revision", "revision"),
)

goal_versions = sa.Table(
    "goal_versions",
    metadata,
    id_("tenant_id", primary_key=True),
    uuid_("goal_id", primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("criteria", pg.JSONB, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    time_("active_from"),
    time_("active_to", nullable=True),
    time_("counts_from", nullable=True),
    time_("exits_withheld_until", nullable=True),
    sa.ForeignKeyConstraint(["tenant_id", "goal_id"], ["goals.tenant_id", "goals.goal_id"]),
)

workflow_settings = sa.Table(
    "workflow_settings",
    metadata,
    id_("tenant_id", primary_key=True),
    id_("workflow_id", primary_key=True),
    time_("active_from", primary_key=True),
    text_("logic"),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.CheckConstraint("logic in ('any', 'all', 'never')", name="logic"),
    sa.Index("workflow_settings_by_revision", "revision"),
)

goal_revision = sa.Table(
    "goal_revision",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    time_("moment"),
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
    id_("tenant_id", primary_key=True),
    id_("workflow_id", primary_key=True),
    time_("since", primary_key=True),
    sa.Column("active", sa.Boolean, nullable=False),
)

enrollments = sa.Table(
    "enrollments",
    metadata,
    id_("tenant_id", primary_key=True),
    id_("enrollment_id", primary_key=True),
    id_("workflow_id"),
    id_("contact_id"),
    time_("enrolled_at", nullable=True),
    time_("ended_at", nullable=True),
    time_("satisfied_at", nullable=True),
    time_("converted_at", nullable=True),
    time_("exited_at", nullable=True),
    id_("correlation_id", nullable=True),
    time_("correlated_at", nullable=True),
    id_("started_by_source", nullable=True),
    id_("started_by_id", nullable=True),
    time_("started_by_at", nullable=True),
    flag_("exit_waits"),
    text_("satisfied_by", nullable=True),
    text_("payments", nullable=True),
    flag_("exit_withheld"),
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

# Each day on which hits were recorded is a partition (stores/day_partitions.py). A day has one index, which is unique:
# by contact_hash, and a hash of goal and event. A hit that is found again on another day is a second row, which
# judgements drop.
goal_hits = sa.Table(
    "goal_hits",
    metadata,
    time_("event_time"),
    sa.Column("contact_hash", sa.BigInteger, nullable=True),
    sa.Column("goal_version", sa.Integer, nullable=False),
    sa.Column("recorded_on", sa.Date, nullable=False, server_default=sa.text("'-infinity'")),
    uuid_("goal_id"),
    id_("tenant_id"),
    id_("workflow_id"),
    id_("contact_id"),
    id_("event_source"),
    id_("event_id"),
    sa.Column("data", pg.JSON, nullable=False),
    text_("traceparent", nullable=True),
    text_("tracestate", nullable=True),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=True, server_default=sa.func.clock_timestamp()),
    time_("kept_until", nullable=True),
    postgresql_partition_by="RANGE (recorded_on)",
)
OF_DAYS: Final = "recorded_on >= '1970-01-01'"
"""Condition that the planner needs to leave goal_hits_kept out."""

# The partition of hits without a day (-infinity), from which a sweep deletes: those of goals that count occurrences, of
# workers of the release before, and of days whose partition is missing.
goal_hits_kept = sa.Table(
    "goal_hits_kept",
    metadata,
    id_("tenant_id", primary_key=True),
    id_("workflow_id", primary_key=True),
    id_("contact_id", primary_key=True),
    uuid_("goal_id", primary_key=True),
    id_("event_source", primary_key=True),
    id_("event_id", primary_key=True),
    sa.Column("goal_version", sa.Integer, nullable=False),
    time_("event_time"),
    sa.Column("data", pg.JSON, nullable=False),
    text_("traceparent", nullable=True),
    text_("tracestate", nullable=True),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    time_("kept_until", nullable=True),
    sa.Column("contact_hash", sa.BigInteger, nullable=True),
    sa.Column("recorded_on", sa.Date, nullable=False, server_default=sa.text("'-infinity'")),
    sa.Index("goal_hits_kept_by_recorded_at", "recorded_at"),
    sa.Index("goal_hits_kept_by_kept_until", "kept_until", postgresql_where=sa.text("kept_until IS NOT NULL")),
)

reversals = sa.Table(
    "reversals",
    metadata,
    id_("tenant_id", primary_key=True),
    id_("contact_id", primary_key=True),
    id_("event_source", primary_key=True),
    id_("event_id", primary_key=True),
    text_("type"),
    id_("subject_id"),
    time_("event_time"),
    id_("refund_id", nullable=True),
    sa.Column("amount", sa.Numeric, nullable=True),
    text_("currency", nullable=True),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Index("reversals_by_subject", "tenant_id", "contact_id", "subject_id"),
    sa.Index("reversals_by_recorded_at", "recorded_at"),
)

achievements = sa.Table(
    "achievements",
    metadata,
    id_("tenant_id", primary_key=True),
    id_("enrollment_id", primary_key=True),
    uuid_("goal_id", primary_key=True),
    id_("workflow_id"),
    id_("contact_id"),
    sa.Column("goal_version", sa.Integer, nullable=False),
    text_("goal_type"),
    time_("enrolled_at", nullable=True),
    time_("achieved_at"),
    id_("event_source"),
    id_("event_id"),
    sa.Column("data", pg.JSON, nullable=False),
    text_("traceparent", nullable=True),
    text_("tracestate", nullable=True),
    sa.Column("revision", sa.Integer, nullable=False),
    time_("revoked_at", nullable=True),
    text_("counted", nullable=True),
    flag_("payments_apart"),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=True, server_default=sa.func.clock_timestamp()),
    sa.Index("achievements_by_workflow", "tenant_id", "workflow_id", "achieved_at", "enrollment_id", "goal_id"),
    sa.Index("achievements_by_recorded_at", "recorded_at"),
)

exits = sa.Table(
    "exits",
    metadata,
    id_("tenant_id", primary_key=True),
    id_("enrollment_id", primary_key=True),
    id_("workflow_id"),
    id_("contact_id"),
    uuid_("goal_id"),
    text_("goal_type"),
    text_("logic"),
    sa.Column("goal_ids", pg.ARRAY(pg.UUID(as_uuid=True)), nullable=False),
    time_("achieved_at"),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Index("exits_by_created_at", "created_at"),
)

# No tenant_id: a queue between our own processes, to which the API may only add. The hot path fills it by COPY,
# which PostgreSQL refuses under row-level security.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    text_("topic"),
    sa.Column("key", pg.BYTEA, nullable=False),
    sa.Column("value", pg.BYTEA, nullable=False),
    text_("traceparent", nullable=True),
    text_("tracestate", nullable=True),
    uuid_("batch_id", nullable=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("event_timestamp_ms", sa.BigInteger, nullable=True),
    time_("claimed_until", nullable=True),
    sa.Index("outbox_by_batch", "batch_id"),
)

# Messages that their topic refuses are moved here from the outbox, so that no other message waits for them.
refused_messages = sa.Table(
    "refused_messages",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    text_("topic"),
    sa.Column("key", pg.BYTEA, nullable=False),
    sa.Column("value", pg.BYTEA, nullable=False),
    text_("traceparent", nullable=True),
    text_("tracestate", nullable=True),
    sa.Column("event_timestamp_ms", sa.BigInteger, nullable=True),
    time_("created_at"),
    sa.Column("refused_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("tried_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    text_("reason"),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("limit_bytes", sa.Integer, nullable=True),
    sa.Index("refused_messages_by_size", "topic", "size_bytes", "id"),
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    id_("tenant_id", primary_key=True),
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    id_("workflow_id"),
    uuid_("goal_id", nullable=True),
    time_("at"),
    text_("actor"),
    text_("action"),
    sa.Column("version", sa.Integer, nullable=True),
    sa.Column("before", pg.JSONB, nullable=True),
    sa.Column("after", pg.JSONB, nullable=True),
    id_("contact_id", nullable=True),
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
    id_("tenant_id", primary_key=True),
    uuid_("key_id", primary_key=True),
    text_("name"),
    sa.Column("key_hash", pg.BYTEA, nullable=False, unique=True),
    sa.Column("scopes", pg.ARRAY(sa.Text), nullable=False),
    time_("created_at"),
    time_("revoked_at", nullable=True),
)

# One-time codes that log in to the console as the holder of a key; only their hashes are kept.
login_codes = sa.Table(
    "login_codes",
    metadata,
    id_("tenant_id"),
    sa.Column("code_hash", pg.BYTEA, primary_key=True),
    uuid_("key_id"),
    time_("expires_at"),
)

# No tenant_id: the secret behind the console's sessions and links, which the API's role reads.
console_secret = sa.Table(
    "console_secret",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("secret", pg.BYTEA, nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
    sa.CheckConstraint("octet_length(secret) = 32", name="size"),
)

paused_topics = sa.Table(
    "paused_topics",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("is_paused", sa.Boolean, nullable=False),
    time_("paused_at"),
    text_("reason"),
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
    time_("judged_until", nullable=True),
    time_("written_at"),
)

# No tenant_id: acts on topics concern the whole installation.
operator_acts = sa.Table(
    "operator_acts",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    text_("actor"),
    text_("action"),
    sa.Column("detail", pg.JSONB, nullable=False),
)

TENANT_TABLES: Final = (
    goals,
    goal_versions,
    workflow_settings,
    workflow_states,
    enrollments,
    goal_hits,
    goal_hits_kept,
    reversals,
    achievements,
    exits,
    audit_log,
    api_keys,
    login_codes,
    cell_tables.moved_tenants,
    insight_tables.history_events,
    insight_tables.history_exits,
    insight_tables.seen_values,
    insight_tables.jobs,
)
