"""Keep when an achievement was recorded, and let the API read what was recorded lately.

A worker of the release before inserts achievements without the new column, which has a default. Achievements from
before have no such time: the feed shows what is new.

Revision ID: 0013
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COLUMN = (
    # In two steps, for with a volatile default the first one would write every row again.
    "ALTER TABLE achievements ADD COLUMN recorded_at timestamptz",
    "ALTER TABLE achievements ALTER COLUMN recorded_at SET DEFAULT clock_timestamp()",
    "CREATE INDEX achievements_by_recorded_at ON achievements (recorded_at)",
)

# The API's role sees one tenant in a transaction, and a feed of many tenants would take as many. This function reads
# for all of them at once, by time. It names them for the owner's policy: the owner sees no others, and outside of the
# function none. EXECUTE has it planned with its arguments: a plan for any time would read all of a tenant.
POLICY = """
    CREATE POLICY owner_reads ON {table} FOR SELECT TO CURRENT_USER USING (
        tenant_id = ANY ((SELECT string_to_array(current_setting('goalworker.feed_tenants', true), chr(10)))::text[])
    )
"""
RECENT = (
    """
    CREATE FUNCTION goalworker_recent_effects(tenants text[], since timestamptz, most integer)
        RETURNS TABLE (
            kind text, recorded_at timestamptz, tenant_id text, enrollment_id text, workflow_id text, contact_id text,
            goal_id uuid, goal_version integer, goal_type text, enrolled_at timestamptz, achieved_at timestamptz,
            event_source text, event_id text, data text, revision integer, counted text, logic text, goal_ids uuid[]
        )
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
        BEGIN
            PERFORM set_config('goalworker.feed_tenants', array_to_string(tenants, chr(10)), true);
            RETURN QUERY EXECUTE '
                SELECT ''achievement'', a.recorded_at, a.tenant_id, a.enrollment_id, a.workflow_id, a.contact_id,
                    a.goal_id, a.goal_version, a.goal_type, a.enrolled_at, a.achieved_at, a.event_source, a.event_id,
                    a.data::text, a.revision, a.counted, NULL, NULL::uuid[]
                FROM (
                    SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY recorded_at DESC) AS newest
                    FROM {schema}.achievements
                    WHERE recorded_at > $2 AND tenant_id = ANY($1) AND revoked_at IS NULL
                ) AS a
                WHERE newest <= $3
                UNION ALL
                SELECT ''exit'', x.created_at, x.tenant_id, x.enrollment_id, x.workflow_id, x.contact_id, x.goal_id,
                    NULL, x.goal_type, NULL, x.achieved_at, NULL, NULL, NULL, NULL, NULL, x.logic, x.goal_ids
                FROM (
                    SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY created_at DESC) AS newest
                    FROM {schema}.exits
                    WHERE created_at > $2 AND tenant_id = ANY($1)
                ) AS x
                WHERE newest <= $3
            ' USING tenants, since, most;
        END $$
    """,
    "REVOKE ALL ON FUNCTION goalworker_recent_effects FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION goalworker_recent_effects TO goalworker_api",
    POLICY.replace("{table}", "achievements"),
    POLICY.replace("{table}", "exits"),
)

DOWNGRADE = (
    "DROP POLICY owner_reads ON exits",
    "DROP POLICY owner_reads ON achievements",
    "DROP FUNCTION goalworker_recent_effects",
    "ALTER TABLE achievements DROP COLUMN recorded_at",
)


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    # Inside of a text, a quote stands for itself only if it is doubled.
    _run((*COLUMN, *(statement.replace("{schema}", schema.replace("'", "''")) for statement in RECENT)))


def downgrade() -> None:
    _run(DOWNGRADE)


def _run(statements: tuple[str, ...]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
