"""Tables of insight: kept events, positions, seen values, and jobs (contract section 7)."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from goalworker.postgres.columns import flag_, id_, metadata, text_, time_, uuid_

# Kept events. Each day is a partition (stores/day_partitions.py), into which rows go straight. Without a key, an event
# that comes again is a row of its own.
history_events = sa.Table(
    "history_events",
    metadata,
    id_("tenant_id"),
    id_("contact_id"),
    id_("event_source"),
    id_("event_id"),
    text_("type"),
    time_("event_time"),
    text_("data"),
    text_("topic"),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("recorded_on", sa.Date, nullable=False),
    sa.Index("history_events_by_contact", "tenant_id", "contact_id", "event_time"),
    postgresql_partition_by="RANGE (recorded_on)",
)

# When exits were published, by day as kept events are. An exit that was published twice has two rows.
history_exits = sa.Table(
    "history_exits",
    metadata,
    id_("tenant_id"),
    uuid_("exit_id"),
    time_("published_at"),
    sa.Column("recorded_on", sa.Date, nullable=False),
    sa.Index("history_exits_by_id", "tenant_id", "exit_id"),
    postgresql_partition_by="RANGE (recorded_on)",
)

# No tenant_id: one row per partition of the topics that insight reads. next_offset moves in the transaction that adds
# the rows. history_from is when the kept events of the partition begin, first_offset where they begin, -1 behind a gap;
# all that reached the partition before history_until is kept. The topic of exits has no events and bounds nothing: from
# -infinity until infinity.
history_positions = sa.Table(
    "history_positions",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    uuid_("topic_id", nullable=True),
    sa.Column("first_offset", sa.BigInteger, nullable=False),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
    time_("history_from"),
    time_("history_until", nullable=True),
)

# What the insight processes keep, written by them. all_since: since when events of everyone are kept, null if only
# those of enrolled contacts are. dropped_before: the day before which kept events were dropped.
history_coverage = sa.Table(
    "history_coverage",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    text_("keep"),
    time_("all_since", nullable=True),
    sa.Column("retention_seconds", sa.BigInteger, nullable=False),
    sa.Column("dropped_before", sa.Date, nullable=True),
    sa.CheckConstraint("id = 1", name="one_row"),
    sa.CheckConstraint("keep in ('enrolled', 'all')", name="keep"),
)

# How often a value came on a day. A pipeline and its stage are one value, separated by U+001F, which no id contains.
seen_values = sa.Table(
    "seen_values",
    metadata,
    id_("tenant_id", primary_key=True),
    id_("type", primary_key=True),
    id_("field", primary_key=True),
    id_("value", primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    text_("label", nullable=True),
    time_("first_seen"),
    time_("last_seen"),
    sa.Index("seen_values_by_day", "day"),
)

# Plans and backfills: the API inserts them, and an insight process takes them. cursor is the last finished slice.
jobs = sa.Table(
    "jobs",
    metadata,
    id_("tenant_id", primary_key=True),
    uuid_("job_id", primary_key=True),
    text_("kind"),
    id_("workflow_id"),
    uuid_("goal_id", nullable=True),
    sa.Column("request", pg.JSONB, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="queued"),
    sa.Column("progress_done", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("progress_of", sa.BigInteger, nullable=True),
    text_("cursor", nullable=True),
    sa.Column("result", pg.JSONB, nullable=True),
    text_("error", nullable=True),
    flag_("cancel_requested"),
    uuid_("owner", nullable=True),
    time_("heartbeat_at", nullable=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    text_("created_by"),
    time_("finished_at", nullable=True),
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
