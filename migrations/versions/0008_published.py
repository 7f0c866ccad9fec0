"""Keep when exits were published: insight reads them back from their topic. Find reversals by what they take back.

The functions of days work with and without this table, so a downgrade leaves them as they are. Processes of the release
before call them as before, and write and read events only.

Revision ID: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Without a key, an exit that was published twice has two rows, and readers take the first. Each day is a partition.
EXITS = (
    """
    CREATE TABLE history_exits (
        tenant_id text COLLATE "C" NOT NULL,
        exit_id uuid NOT NULL,
        published_at timestamptz NOT NULL,
        recorded_on date NOT NULL
    ) PARTITION BY RANGE (recorded_on)
    """,
    "CREATE INDEX history_exits_by_id ON history_exits (tenant_id, exit_id)",
    "ALTER TABLE history_exits ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE history_exits FORCE ROW LEVEL SECURITY",
    "CREATE POLICY worker ON history_exits TO goalworker_worker USING (true) WITH CHECK (true)",
    """
    CREATE POLICY tenant ON history_exits TO goalworker_api
        USING (tenant_id = current_setting('goalworker.tenant_id', true))
        WITH CHECK (tenant_id = current_setting('goalworker.tenant_id', true))
    """,
    "GRANT SELECT ON history_exits TO goalworker_worker, goalworker_api",
)

# Of a contact with very many reversals, a judgement reads those of its hits.
SUBJECTS = ("CREATE INDEX reversals_by_subject ON reversals (tenant_id, contact_id, subject_id)",)

# As in 0007, for each table that is partitioned by day.
DAYS = (
    """
    CREATE OR REPLACE FUNCTION goalworker_make_history_days(first date, last date)
        RETURNS SETOF date LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
        DECLARE
            made date;
            parent text;
            name text;
            is_new boolean;
        BEGIN
            PERFORM pg_advisory_xact_lock(1751741811);
            FOR made IN SELECT first + n FROM generate_series(0, least(last - first, 31)) AS n LOOP
                is_new := false;
                FOREACH parent IN ARRAY ARRAY['history_events', 'history_exits'] LOOP
                    name := parent || to_char(made, '_YYYYMMDD');
                    CONTINUE WHEN to_regclass(format('%I.%I', {schema}, parent)) IS NULL
                        OR to_regclass(format('%I.%I', {schema}, name)) IS NOT NULL;
                    EXECUTE format(
                        'CREATE TABLE %1$I.%2$I (LIKE %1$I.%3$I INCLUDING DEFAULTS)', {schema}, name, parent
                    );
                    EXECUTE format(
                        'ALTER TABLE %1$I.%2$I ATTACH PARTITION %1$I.%3$I FOR VALUES FROM (%4$L) TO (%5$L)',
                        {schema}, parent, name, made, made + 1
                    );
                    EXECUTE format('GRANT SELECT, INSERT ON %I.%I TO goalworker_worker', {schema}, name);
                    is_new := true;
                END LOOP;
                IF is_new THEN
                    RETURN NEXT made;
                END IF;
            END LOOP;
        END $$
    """,
    """
    CREATE OR REPLACE FUNCTION goalworker_drop_history_days(before date)
        RETURNS SETOF date LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
        DECLARE
            dropped date;
            names text[];
            name text;
        BEGIN
            PERFORM pg_advisory_xact_lock(1751741811);
            FOR dropped, names IN
                SELECT day, array_agg(relname::text)
                FROM (
                    SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day, c.relname
                    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
                    WHERE i.inhparent IN (
                        to_regclass(format('%I.history_events', {schema})),
                        to_regclass(format('%I.history_exits', {schema}))
                    )
                ) AS partitions
                WHERE day < before GROUP BY day ORDER BY day
            LOOP
                FOREACH name IN ARRAY names LOOP
                    EXECUTE format('DROP TABLE %I.%I', {schema}, name);
                END LOOP;
                RETURN NEXT dropped;
            END LOOP;
        END $$
    """,
)


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_literal(current_schema())").scalar_one()
    for statement in (*EXITS, *SUBJECTS, *(days.replace("{schema}", schema) for days in DAYS)):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP TABLE history_exits")
    op.get_bind().exec_driver_sql("DROP INDEX reversals_by_subject")
