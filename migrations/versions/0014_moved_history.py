"""Note how far the history of a tenant that was moved goes back.

A mover of the release before writes none of these columns: the tenant's history then counts from its announcement on.

Revision ID: 0014
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(
        "ALTER TABLE moved_tenants ADD COLUMN history_from timestamptz, ADD COLUMN all_since timestamptz,"
        " ADD COLUMN kept_since timestamptz, ADD COLUMN keep_from jsonb"
    )


def downgrade() -> None:
    op.get_bind().exec_driver_sql(
        "ALTER TABLE moved_tenants DROP COLUMN history_from, DROP COLUMN all_since, DROP COLUMN kept_since,"
        " DROP COLUMN keep_from"
    )
