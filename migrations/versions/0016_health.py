"""Let the API count what waits to be published, and see which topics are paused.

The API must not read the outbox, which holds messages of all tenants. Functions of its owner give numbers by topic.

Revision ID: 0016
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

STATUS = (
    """
    CREATE FUNCTION goalworker_outbox_status()
        RETURNS TABLE (topic text, records bigint, oldest_at timestamptz)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$ SELECT topic, count(*), min(created_at) FROM {schema}.outbox GROUP BY topic ORDER BY topic $$
    """,
    """
    CREATE FUNCTION goalworker_refused_status()
        RETURNS TABLE (
            topic text, records bigint, smallest_bytes integer, largest_bytes integer, limit_bytes integer, reason text,
            since timestamptz
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
        SELECT topic, count(*), min(size_bytes), max(size_bytes), (array_agg(limit_bytes ORDER BY tried_at DESC))[1],
            (array_agg(reason ORDER BY tried_at DESC))[1], min(refused_at)
        FROM {schema}.refused_messages GROUP BY topic ORDER BY topic
        $$
    """,
    "REVOKE ALL ON FUNCTION goalworker_outbox_status, goalworker_refused_status FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION goalworker_outbox_status, goalworker_refused_status"
    " TO goalworker_worker, goalworker_api",
    "GRANT SELECT ON paused_topics TO goalworker_api",
)

DOWNGRADE = (
    "REVOKE SELECT ON paused_topics FROM goalworker_api",
    "DROP FUNCTION goalworker_refused_status",
    "DROP FUNCTION goalworker_outbox_status",
)


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    _run(tuple(statement.replace("{schema}", schema) for statement in STATUS))


def downgrade() -> None:
    _run(DOWNGRADE)


def _run(statements: tuple[str, ...]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
