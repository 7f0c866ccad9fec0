"""Record up to which time the records of each partition are judged.

A worker of the previous release writes no progress: the times stand still while only such workers run.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UPGRADE = (
    # Every row changes once a second: half of each page is left empty, so that its updates stay on it.
    """
    CREATE TABLE progress (
        topic text NOT NULL,
        partition integer NOT NULL,
        judged_until timestamptz,
        written_at timestamptz NOT NULL,
        PRIMARY KEY (topic, partition)
    ) WITH (fillfactor = 50)
    """,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON progress TO goalworker_worker",
    "GRANT SELECT ON progress TO goalworker_api",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP TABLE progress")
