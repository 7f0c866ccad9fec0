"""Room on the pages of enrollments for a verdict on each row, also where neighbours are judged at once.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Rows that are there stay where they are, and nobody waits: pages filled from now on are filled like this.
    # A verdict makes a row a fifth longer, so that less than half a page may be first versions.
    op.get_bind().exec_driver_sql("ALTER TABLE enrollments SET (fillfactor = 45)")


def downgrade() -> None:
    op.get_bind().exec_driver_sql("ALTER TABLE enrollments SET (fillfactor = 90)")
