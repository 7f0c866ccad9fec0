"""Let a tenant leave its cell at an offset of each partition, and come to another one at an offset.

Workers of the release before know no tenant that is leaving: a move begins only once all workers are of this release.

Revision ID: 0012
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

STATES = "ALTER TABLE moved_tenants DROP CONSTRAINT moved_tenants_state_check, ADD CONSTRAINT moved_tenants_state_check"

UPGRADE = (
    "ALTER TABLE moved_tenants ADD COLUMN bounds jsonb",
    f"{STATES} CHECK (state IN ('arriving', 'here', 'leaving', 'away'))",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("UPDATE moved_tenants SET state = 'away' WHERE state = 'leaving'")
    op.get_bind().exec_driver_sql(f"{STATES} CHECK (state IN ('arriving', 'here', 'away'))")
    op.get_bind().exec_driver_sql("ALTER TABLE moved_tenants DROP COLUMN bounds")
