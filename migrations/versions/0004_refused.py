"""Keep messages that their topic refuses apart from the outbox; add batch and time of recording to the others.

This is a table of its own, not a column of the outbox: a worker of the previous release sends everything in the
outbox, and ends where the topic refuses a message.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    ALTER TABLE outbox ADD COLUMN event_timestamp_ms bigint, ADD COLUMN claimed_until timestamptz
    """,
    # Same id as in the outbox.
    """
    CREATE TABLE refused_messages (
        id bigint PRIMARY KEY,
        topic text NOT NULL,
        key bytea NOT NULL,
        value bytea NOT NULL,
        traceparent text,
        tracestate text,
        event_timestamp_ms bigint,
        created_at timestamptz NOT NULL,
        refused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        tried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        reason text NOT NULL,
        size_bytes integer NOT NULL,
        limit_bytes integer
    )
    """,
    "CREATE INDEX refused_messages_by_size ON refused_messages (topic, size_bytes, id)",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON refused_messages TO goalworker_worker",
)

DOWNGRADE = (
    # Nothing is lost: refused messages go back to the outbox, whose identity gives them new ids.
    """
    INSERT INTO outbox (topic, key, value, traceparent, tracestate, created_at)
    SELECT topic, key, value, traceparent, tracestate, created_at FROM refused_messages ORDER BY id
    """,
    "DROP TABLE refused_messages",
    "ALTER TABLE outbox DROP COLUMN event_timestamp_ms, DROP COLUMN claimed_until",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.get_bind().exec_driver_sql(statement)
