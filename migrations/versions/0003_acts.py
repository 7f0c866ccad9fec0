"""Record what operators do to topics, for audits.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql("""
        CREATE TABLE operator_acts (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT clock_timestamp(),
            actor text NOT NULL,
            action text NOT NULL,
            detail jsonb NOT NULL
        )
    """)
    op.get_bind().exec_driver_sql("GRANT SELECT, INSERT ON operator_acts TO goalworker_worker")


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP TABLE operator_acts")
