"""Let the worker analyze tables that have grown, which only their owner may do.

Revision ID: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# The function returns false for a table that is locked, for which somebody analyzes or vacuums it: waiting would cancel
# an autovacuum. A table of another owner is left as it is.
ANALYZE = """
CREATE FUNCTION goalworker_analyze(wanted regclass)
    RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE NOWAIT', wanted);
        EXECUTE format('ANALYZE %s', wanted);
        RETURN true;
    EXCEPTION
        WHEN lock_not_available THEN RETURN false;
        WHEN insufficient_privilege THEN RETURN true;
    END $$
"""


def upgrade() -> None:
    _run(
        ANALYZE,
        "REVOKE ALL ON FUNCTION goalworker_analyze FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION goalworker_analyze TO goalworker_worker",
    )


def downgrade() -> None:
    _run("DROP FUNCTION goalworker_analyze")


def _run(*statements: str) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
