"""Note which buckets of tenants the cell of this database owns, and which tenants were moved.

A worker of the release before writes no cell: the database counts as owning every bucket.

Revision ID: 0010
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    CREATE TABLE cell (
        id smallint PRIMARY KEY CONSTRAINT cell_one_row_check CHECK (id = 1),
        cell_id uuid NOT NULL,
        group_id text COLLATE "C" NOT NULL,
        buckets text NOT NULL,
        trust_keys boolean NOT NULL,
        written_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE moved_tenants (
        tenant_id text COLLATE "C" PRIMARY KEY,
        state text NOT NULL CONSTRAINT moved_tenants_state_check CHECK (state IN ('arriving', 'here', 'away')),
        other_cell uuid NOT NULL,
        changed_at timestamptz NOT NULL,
        copied_until bigint,
        replay_from jsonb
    )
    """,
    "ALTER TABLE moved_tenants ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE moved_tenants FORCE ROW LEVEL SECURITY",
    "CREATE POLICY worker ON moved_tenants TO goalworker_worker USING (true) WITH CHECK (true)",
    """
    CREATE POLICY tenant ON moved_tenants TO goalworker_api
        USING (tenant_id = current_setting('goalworker.tenant_id', true))
        WITH CHECK (tenant_id = current_setting('goalworker.tenant_id', true))
    """,
    "GRANT SELECT, INSERT, UPDATE ON cell TO goalworker_worker",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON moved_tenants TO goalworker_worker",
    "GRANT SELECT ON moved_tenants TO goalworker_api",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP TABLE moved_tenants")
    op.get_bind().exec_driver_sql("DROP TABLE cell")
