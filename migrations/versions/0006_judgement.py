"""Keep what the second edition of judging needs: reversals, waiting exits, correlation, and evidence of its own.

Every step can be repeated, since indexes of large tables are made outside a transaction, beside running workers.

Revision ID: 0006
"""

from alembic import context, op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = (
    """
    ALTER TABLE enrollments
        ADD COLUMN IF NOT EXISTS correlation_id text COLLATE "C",
        ADD COLUMN IF NOT EXISTS correlated_at timestamptz,
        ADD COLUMN IF NOT EXISTS started_by_source text COLLATE "C",
        ADD COLUMN IF NOT EXISTS started_by_id text COLLATE "C",
        ADD COLUMN IF NOT EXISTS started_by_at timestamptz,
        ADD COLUMN IF NOT EXISTS exit_waits boolean NOT NULL DEFAULT false,
        ADD COLUMN IF NOT EXISTS satisfied_by text,
        ADD COLUMN IF NOT EXISTS payments text
    """,
    """
    ALTER TABLE achievements
        ADD COLUMN IF NOT EXISTS counted text,
        ADD COLUMN IF NOT EXISTS payments_apart boolean NOT NULL DEFAULT false
    """,
    "ALTER TABLE goal_hits ADD COLUMN IF NOT EXISTS kept_until timestamptz",
)

# A worker of the release before finds its rows by each of these as it did by the index that is replaced.
INDEXES = {
    "enrollments_by_contact_next": "enrollments (tenant_id, contact_id, workflow_id)",
    "enrollments_by_waiting_exit": "enrollments (tenant_id, workflow_id, contact_id) WHERE exit_waits",
    "enrollments_by_payments": "enrollments (tenant_id, workflow_id) WHERE payments IS NOT NULL",
    "goal_hits_by_kept_until": "goal_hits (kept_until) WHERE kept_until IS NOT NULL",
}

REVERSALS = (
    "DROP INDEX enrollments_by_contact",
    "ALTER INDEX enrollments_by_contact_next RENAME TO enrollments_by_contact",
    """
    CREATE TABLE reversals (
        tenant_id text COLLATE "C" NOT NULL,
        contact_id text COLLATE "C" NOT NULL,
        event_source text COLLATE "C" NOT NULL,
        event_id text COLLATE "C" NOT NULL,
        type text NOT NULL,
        subject_id text COLLATE "C" NOT NULL,
        event_time timestamptz NOT NULL,
        refund_id text COLLATE "C",
        amount numeric,
        currency text,
        recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (tenant_id, contact_id, event_source, event_id)
    )
    """,
    "CREATE INDEX reversals_by_recorded_at ON reversals (recorded_at)",
    "ALTER TABLE reversals ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE reversals FORCE ROW LEVEL SECURITY",
    "CREATE POLICY worker ON reversals TO goalworker_worker USING (true) WITH CHECK (true)",
    """
    CREATE POLICY tenant ON reversals TO goalworker_api
        USING (tenant_id = current_setting('goalworker.tenant_id', true))
        WITH CHECK (tenant_id = current_setting('goalworker.tenant_id', true))
    """,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON reversals TO goalworker_worker",
)

DOWNGRADE = (
    "DROP TABLE reversals",
    "DROP INDEX enrollments_by_contact",
    "ALTER INDEX enrollments_by_contact_next RENAME TO enrollments_by_contact",
    """
    ALTER TABLE enrollments
        DROP COLUMN correlation_id, DROP COLUMN correlated_at, DROP COLUMN started_by_source, DROP COLUMN started_by_id,
        DROP COLUMN started_by_at, DROP COLUMN exit_waits, DROP COLUMN satisfied_by, DROP COLUMN payments
    """,
    "ALTER TABLE achievements DROP COLUMN counted, DROP COLUMN payments_apart",
    "ALTER TABLE goal_hits DROP COLUMN kept_until",
)


def upgrade() -> None:
    _run(COLUMNS)
    _make_indexes(INDEXES)
    _run(REVERSALS)


def downgrade() -> None:
    _make_indexes({"enrollments_by_contact_next": "enrollments (tenant_id, workflow_id, contact_id)"})
    _run(DOWNGRADE)


def _run(statements: tuple[str, ...]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)


def _make_indexes(indexes: dict[str, str]) -> None:
    if context.config.attributes["is_one_transaction"]:  # through a pooler, which hands out a connection by transaction
        _run(tuple(f"CREATE INDEX {name} ON {columns}" for name, columns in indexes.items()))
        return
    with op.get_context().autocommit_block():
        _run(("SET statement_timeout = 0",))
        for name, columns in indexes.items():
            # One that an earlier attempt left behind is not complete.
            _run((f"DROP INDEX CONCURRENTLY IF EXISTS {name}", f"CREATE INDEX CONCURRENTLY {name} ON {columns}"))
