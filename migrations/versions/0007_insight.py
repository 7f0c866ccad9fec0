"""Keep what insight needs: kept events by day, seen values, jobs, and backfilled versions of goals.

A worker of the release before inserts rows without the new columns, which have defaults.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = (
    "ALTER TABLE goal_versions ADD COLUMN counts_from timestamptz",
    "ALTER TABLE goal_versions ADD COLUMN exits_withheld_until timestamptz",
    "ALTER TABLE enrollments ADD COLUMN exit_withheld boolean NOT NULL DEFAULT false",
    # Explanations are entries of the audit, too, and people look for those of a contact and of a span of time.
    'ALTER TABLE audit_log ADD COLUMN contact_id text COLLATE "C"',
    "CREATE INDEX audit_log_by_time ON audit_log (tenant_id, at, id)",
    "CREATE INDEX audit_log_by_contact ON audit_log (tenant_id, contact_id, at, id) WHERE contact_id IS NOT NULL",
)

# Without a key, a repeated event is a row of its own, and readers drop it. Each day is a partition.
HISTORY = (
    """
    CREATE TABLE history_events (
        tenant_id text COLLATE "C" NOT NULL,
        contact_id text COLLATE "C" NOT NULL,
        event_source text COLLATE "C" NOT NULL,
        event_id text COLLATE "C" NOT NULL,
        type text NOT NULL,
        event_time timestamptz NOT NULL,
        data text NOT NULL,
        topic text NOT NULL,
        partition integer NOT NULL,
        "offset" bigint NOT NULL,
        recorded_on date NOT NULL
    ) PARTITION BY RANGE (recorded_on)
    """,
    "CREATE INDEX history_events_by_contact ON history_events (tenant_id, contact_id, event_time)",
    # Every second or so one row of a partition of Kafka changes: half of each page is left empty for that.
    """
    CREATE TABLE history_positions (
        topic text NOT NULL,
        partition integer NOT NULL,
        topic_id uuid,
        first_offset bigint NOT NULL,
        next_offset bigint NOT NULL,
        history_from timestamptz NOT NULL,
        history_until timestamptz,
        PRIMARY KEY (topic, partition)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE history_coverage (
        id smallint PRIMARY KEY CONSTRAINT history_coverage_one_row_check CHECK (id = 1),
        keep text NOT NULL CONSTRAINT history_coverage_keep_check CHECK (keep IN ('enrolled', 'all')),
        all_since timestamptz,
        retention_seconds bigint NOT NULL,
        dropped_before date
    )
    """,
    """
    CREATE TABLE seen_values (
        tenant_id text COLLATE "C" NOT NULL,
        type text COLLATE "C" NOT NULL,
        field text COLLATE "C" NOT NULL,
        value text COLLATE "C" NOT NULL,
        day date NOT NULL,
        count bigint NOT NULL,
        label text,
        first_seen timestamptz NOT NULL,
        last_seen timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, type, field, value, day)
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX seen_values_by_day ON seen_values (day)",
)

JOBS = (
    """
    CREATE TABLE jobs (
        tenant_id text COLLATE "C" NOT NULL,
        job_id uuid NOT NULL,
        kind text NOT NULL CONSTRAINT jobs_kind_check CHECK (kind IN ('plan', 'backfill')),
        workflow_id text COLLATE "C" NOT NULL,
        goal_id uuid,
        request jsonb NOT NULL,
        state text NOT NULL DEFAULT 'queued' CONSTRAINT jobs_state_check
            CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
        progress_done bigint NOT NULL DEFAULT 0,
        progress_of bigint,
        cursor text,
        result jsonb,
        error text,
        cancel_requested boolean NOT NULL DEFAULT false,
        owner uuid,
        heartbeat_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        created_by text NOT NULL,
        finished_at timestamptz,
        PRIMARY KEY (tenant_id, job_id)
    )
    """,
    "CREATE INDEX jobs_by_age ON jobs (created_at) WHERE state IN ('queued', 'running')",
    "CREATE INDEX jobs_by_end ON jobs (finished_at) WHERE finished_at IS NOT NULL",
    """
    CREATE UNIQUE INDEX jobs_one_backfill ON jobs (tenant_id, goal_id)
        WHERE kind = 'backfill' AND state IN ('queued', 'running')
    """,
)

ROW_LEVEL_SECURITY = (
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
    "CREATE POLICY worker ON {table} TO goalworker_worker USING (true) WITH CHECK (true)",
    """
    CREATE POLICY tenant ON {table} TO goalworker_api
        USING (tenant_id = current_setting('goalworker.tenant_id', true))
        WITH CHECK (tenant_id = current_setting('goalworker.tenant_id', true))
    """,
)
TENANT_TABLES = ("history_events", "seen_values", "jobs")

# Rows of a day go by COPY straight into its partition, which has no row-level security: PostgreSQL refuses COPY under
# it. The API's role has no right to a partition and reads through the parent.
#
# The service's login does not own the tables, so these functions, which belong to the owner, make and drop days. A day
# is attached, which does not wait for readers, where CREATE TABLE ... PARTITION OF would.
DAYS = (
    """
    CREATE FUNCTION goalworker_make_history_days(first date, last date)
        RETURNS SETOF date LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
        DECLARE
            made date;
            name text;
        BEGIN
            PERFORM pg_advisory_xact_lock(1751741811);
            FOR made IN SELECT first + n FROM generate_series(0, least(last - first, 31)) AS n LOOP
                name := 'history_events_' || to_char(made, 'YYYYMMDD');
                CONTINUE WHEN to_regclass(format('%I.%I', {schema}, name)) IS NOT NULL;
                EXECUTE format('CREATE TABLE %1$I.%2$I (LIKE %1$I.history_events INCLUDING DEFAULTS)', {schema}, name);
                EXECUTE format(
                    'ALTER TABLE %1$I.history_events ATTACH PARTITION %1$I.%2$I FOR VALUES FROM (%3$L) TO (%4$L)',
                    {schema}, name, made, made + 1
                );
                EXECUTE format('GRANT SELECT, INSERT ON %I.%I TO goalworker_worker', {schema}, name);
                RETURN NEXT made;
            END LOOP;
        END $$
    """,
    """
    CREATE FUNCTION goalworker_drop_history_days(before date)
        RETURNS SETOF date LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
        DECLARE
            dropped date;
            name text;
        BEGIN
            PERFORM pg_advisory_xact_lock(1751741811);
            FOR dropped, name IN
                SELECT to_date(right(c.relname, 8), 'YYYYMMDD'), c.relname
                FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
                WHERE i.inhparent = format('%I.history_events', {schema})::regclass
                    AND to_date(right(c.relname, 8), 'YYYYMMDD') < before
                ORDER BY c.relname
            LOOP
                EXECUTE format('DROP TABLE %I.%I', {schema}, name);
                RETURN NEXT dropped;
            END LOOP;
        END $$
    """,
    "REVOKE ALL ON FUNCTION goalworker_make_history_days, goalworker_drop_history_days FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION goalworker_make_history_days, goalworker_drop_history_days TO goalworker_worker",
)

# The API must not read the outbox, which has no tenants. It asks for the exits of a contact that still wait there.
UNPUBLISHED = (
    """
    CREATE FUNCTION goalworker_unpublished_exits(wanted_key bytea)
        RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
        SELECT (message ->> 'id')::uuid
        FROM (
            SELECT convert_from(value, 'UTF8')::json AS message FROM {schema}.outbox
            WHERE topic = 'workflow_exit' AND key = wanted_key
            UNION ALL
            SELECT convert_from(value, 'UTF8')::json FROM {schema}.refused_messages
            WHERE topic = 'workflow_exit' AND key = wanted_key
        ) AS waiting
        WHERE message ->> 'tenantid' = current_setting('goalworker.tenant_id', true)
        $$
    """,
    "REVOKE ALL ON FUNCTION goalworker_unpublished_exits FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION goalworker_unpublished_exits TO goalworker_api",
)

# The API explains from facts, and inserts jobs that `goalworker insight` takes.
GRANTS = (
    "GRANT SELECT ON history_events TO goalworker_worker, goalworker_api",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON history_positions, history_coverage, seen_values TO goalworker_worker",
    "GRANT SELECT ON history_positions, history_coverage, seen_values TO goalworker_api",
    "GRANT SELECT, UPDATE, DELETE ON jobs TO goalworker_worker",
    "GRANT SELECT, INSERT, UPDATE (cancel_requested) ON jobs TO goalworker_api",
    "GRANT SELECT ON goal_hits, reversals TO goalworker_api",
)

DOWNGRADE = (
    "REVOKE SELECT ON goal_hits, reversals FROM goalworker_api",
    "DROP FUNCTION goalworker_unpublished_exits, goalworker_make_history_days, goalworker_drop_history_days",
    "DROP TABLE jobs, seen_values, history_coverage, history_positions, history_events",
    "ALTER TABLE audit_log DROP COLUMN contact_id",
    "DROP INDEX audit_log_by_time",
    "ALTER TABLE enrollments DROP COLUMN exit_withheld",
    "ALTER TABLE goal_versions DROP COLUMN exits_withheld_until",
    "ALTER TABLE goal_versions DROP COLUMN counts_from",
)


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_literal(current_schema())").scalar_one()
    _run((*COLUMNS, *HISTORY, *JOBS))
    for table in TENANT_TABLES:
        _run(tuple(statement.replace("{table}", table) for statement in ROW_LEVEL_SECURITY))
    _run(tuple(statement.replace("{schema}", schema) for statement in DAYS))
    name = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    _run(tuple(statement.replace("{schema}", name) for statement in UNPUBLISHED))
    _run(GRANTS)


def downgrade() -> None:
    _run(DOWNGRADE)


def _run(statements: tuple[str, ...]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
