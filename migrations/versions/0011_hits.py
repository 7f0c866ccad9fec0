"""Keep hits in partitions by the day on which they were recorded, so that old ones go by dropping a day.

The table of the release before becomes a partition, goal_hits_kept, of a table that has its name and its columns.
Workers of both releases find all hits through that one. Those that the release before adds go to goal_hits_kept.
Nothing is copied: a scan, beside running workers, proves that every row belongs into that partition. Every step can be
repeated.

A downgrade copies the hits of days back, in slices of pages, and drops a day only with the last step.

Revision ID: 0011
"""

import time

import sqlalchemy as sa
from alembic import context, op

from goalworker import logs

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

log = logs.get("migrations")

# Statements that change the whole table wait for its lock, and workers wait behind them: briefly, many times.
LOCK_TIMEOUT_MS = 100
ATTEMPTS = 600
PAUSE_SECONDS = 1.0
# Pages copied in one transaction.
SLICE_PAGES = 5_000

NEW_COLUMNS = """
DO $$ BEGIN
    IF to_regclass('goal_hits_kept') IS NULL THEN
        ALTER TABLE goal_hits
            ADD COLUMN IF NOT EXISTS contact_hash bigint,
            ADD COLUMN IF NOT EXISTS recorded_on date NOT NULL DEFAULT '-infinity';
        IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'goal_hits_without_day') THEN
            ALTER TABLE goal_hits ADD CONSTRAINT goal_hits_without_day CHECK (recorded_on < '1970-01-01') NOT VALID;
        END IF;
    END IF;
END $$
"""
VALIDATE = """
DO $$ BEGIN
    IF to_regclass('goal_hits_kept') IS NULL THEN
        ALTER TABLE goal_hits VALIDATE CONSTRAINT goal_hits_without_day;
    END IF;
END $$
"""
# The valid constraint spares the partition a scan while it is locked. Columns of fixed length come first, without gaps.
#
# The release before sweeps by ctid, which is unique within one partition only: the policies let it change, lock and
# delete rows of goal_hits_kept alone, from which it takes the ctids. Hits of days never change, and go with their day.
SWAP = """
DO $$
DECLARE
    own_name text;
BEGIN
    IF to_regclass('goal_hits_kept') IS NOT NULL THEN
        RETURN;
    END IF;
    LOCK TABLE goal_hits IN ACCESS EXCLUSIVE MODE;
    FOR own_name IN SELECT conname FROM pg_constraint WHERE conrelid = 'goal_hits'::regclass AND contype = 'n' LOOP
        EXECUTE format('ALTER TABLE goal_hits RENAME CONSTRAINT %I TO %I',
            own_name, replace(own_name, 'goal_hits_', 'goal_hits_kept_'));
    END LOOP;
    ALTER TABLE goal_hits RENAME TO goal_hits_kept;
    ALTER INDEX goal_hits_pkey RENAME TO goal_hits_kept_pkey;
    ALTER INDEX goal_hits_by_recorded_at RENAME TO goal_hits_kept_by_recorded_at;
    ALTER INDEX goal_hits_by_kept_until RENAME TO goal_hits_kept_by_kept_until;
    CREATE TABLE goal_hits (
        event_time timestamptz NOT NULL,
        contact_hash bigint,
        goal_version integer NOT NULL,
        recorded_on date NOT NULL DEFAULT '-infinity',
        goal_id uuid NOT NULL,
        tenant_id text COLLATE "C" NOT NULL,
        workflow_id text COLLATE "C" NOT NULL,
        contact_id text COLLATE "C" NOT NULL,
        event_source text COLLATE "C" NOT NULL,
        event_id text COLLATE "C" NOT NULL,
        data json NOT NULL,
        traceparent text,
        tracestate text,
        recorded_at timestamptz DEFAULT clock_timestamp(),
        kept_until timestamptz
    ) PARTITION BY RANGE (recorded_on);
    ALTER TABLE goal_hits ATTACH PARTITION goal_hits_kept FOR VALUES FROM (MINVALUE) TO ('1970-01-01');
    ALTER TABLE goal_hits_kept DROP CONSTRAINT goal_hits_without_day;
    ALTER TABLE goal_hits ENABLE ROW LEVEL SECURITY;
    ALTER TABLE goal_hits FORCE ROW LEVEL SECURITY;
    CREATE POLICY worker_reads ON goal_hits FOR SELECT TO goalworker_worker USING (true);
    CREATE POLICY worker_adds ON goal_hits FOR INSERT TO goalworker_worker WITH CHECK (true);
    CREATE POLICY worker_changes ON goal_hits FOR UPDATE TO goalworker_worker USING (recorded_on < '1970-01-01');
    CREATE POLICY worker_deletes ON goal_hits FOR DELETE TO goalworker_worker USING (recorded_on < '1970-01-01');
    CREATE POLICY tenant ON goal_hits TO goalworker_api
        USING (tenant_id = current_setting('goalworker.tenant_id', true))
        WITH CHECK (tenant_id = current_setting('goalworker.tenant_id', true));
    GRANT SELECT, INSERT, UPDATE, DELETE ON goal_hits TO goalworker_worker;
    GRANT SELECT ON goal_hits TO goalworker_api;
END $$
"""

# One pair of functions for every table that has a partition for each day. A day is attached, which does not wait for
# readers, where CREATE TABLE ... PARTITION OF would. A day of hits has one index, by contact, and gets no rights: its
# rows go through the parent. They never change, so that vacuum has nothing to do there.
#
# A drop locks the whole table. It waits for 50 ms, since everybody waits behind it, and gives up then.
DAYS = (
    """
    CREATE OR REPLACE FUNCTION goalworker_make_days(parents text[], first date, last date)
        RETURNS SETOF date LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
        DECLARE
            made date;
            parent text;
            name text;
            is_new boolean;
        BEGIN
            IF NOT parents <@ ARRAY['history_events', 'history_exits', 'goal_hits'] THEN
                RAISE 'tables without days: %', parents;
            END IF;
            PERFORM pg_advisory_xact_lock(1751741811);
            FOR made IN SELECT first + n FROM generate_series(0, least(last - first, 31)) AS n LOOP
                is_new := false;
                FOREACH parent IN ARRAY parents LOOP
                    name := parent || to_char(made, '_YYYYMMDD');
                    CONTINUE WHEN to_regclass(format('%I.%I', {schema}, name)) IS NOT NULL;
                    EXECUTE format(
                        'CREATE TABLE %1$I.%2$I (LIKE %1$I.%3$I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                        {schema}, name, parent
                    );
                    IF parent = 'goal_hits' THEN
                        EXECUTE format(
                            'ALTER TABLE %I.%I SET (autovacuum_vacuum_insert_threshold = -1)', {schema}, name
                        );
                        -- Nobody reads a day but through the parent, whose policies hold then.
                        EXECUTE format(
                            'ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', {schema}, name
                        );
                        EXECUTE format(
                            'CREATE UNIQUE INDEX %2$I ON %1$I.%3$I (contact_hash, hashtextextended(event_id, '
                            'hashtextextended(event_source, uuid_hash_extended(goal_id, 0))))',
                            {schema}, name || '_by_contact', name
                        );
                    ELSE
                        EXECUTE format('GRANT SELECT, INSERT ON %I.%I TO goalworker_worker', {schema}, name);
                    END IF;
                    EXECUTE format(
                        'ALTER TABLE %1$I.%2$I ATTACH PARTITION %1$I.%3$I FOR VALUES FROM (%4$L) TO (%5$L)',
                        {schema}, parent, name, made, made + 1
                    );
                    is_new := true;
                END LOOP;
                IF is_new THEN
                    RETURN NEXT made;
                END IF;
            END LOOP;
        END $$
    """,
    """
    CREATE OR REPLACE FUNCTION goalworker_drop_day(parents text[], before date)
        RETURNS date LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms'
        AS $$
        DECLARE
            due date;
            parent text;
        BEGIN
            IF NOT parents <@ ARRAY['history_events', 'history_exits', 'goal_hits'] THEN
                RAISE 'tables without days: %', parents;
            END IF;
            PERFORM pg_advisory_xact_lock(1751741811);
            SELECT min(to_date(right(c.relname, 8), 'YYYYMMDD')) INTO due
            FROM unnest(parents) AS wanted (parent)
            JOIN pg_inherits AS i ON i.inhparent = to_regclass(format('%I.%I', {schema}, wanted.parent))
            JOIN pg_class AS c ON c.oid = i.inhrelid
            WHERE c.relname ~ '_[0-9]{8}$' AND to_date(right(c.relname, 8), 'YYYYMMDD') < before;
            IF due IS NOT NULL THEN
                FOREACH parent IN ARRAY parents LOOP
                    EXECUTE format('DROP TABLE IF EXISTS %I.%I', {schema}, parent || to_char(due, '_YYYYMMDD'));
                END LOOP;
            END IF;
            RETURN due;
        EXCEPTION WHEN lock_not_available THEN
            RETURN NULL;
        END $$
    """,
    # The release before asks for days of history by these names.
    """
    CREATE OR REPLACE FUNCTION goalworker_make_history_days(first date, last date)
        RETURNS SETOF date LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
        BEGIN
            RETURN QUERY EXECUTE format(
                'SELECT * FROM %I.goalworker_make_days($1, $2, $3)', {schema}
            ) USING ARRAY['history_events', 'history_exits'], first, last;
        END $$
    """,
    """
    CREATE OR REPLACE FUNCTION goalworker_drop_history_days(before date)
        RETURNS SETOF date LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
        DECLARE
            dropped date;
        BEGIN
            LOOP
                EXECUTE format('SELECT %I.goalworker_drop_day($1, $2)', {schema})
                    INTO dropped USING ARRAY['history_events', 'history_exits'], before;
                EXIT WHEN dropped IS NULL;
                RETURN NEXT dropped;
            END LOOP;
        END $$
    """,
    "REVOKE ALL ON FUNCTION goalworker_make_days, goalworker_drop_day FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION goalworker_make_days, goalworker_drop_day TO goalworker_worker",
)

# The release before looks for hits by these columns. It may run beside this one, or again after a roll-back, so the
# days of the next week get indexes for it, which go with their days. A database that no worker ever used needs none.
FOR_THE_RELEASE_BEFORE = """
CREATE OR REPLACE FUNCTION goalworker_index_days_of_hits()
    RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        day text;
    BEGIN
        FOR day IN SELECT right(c.relname, 8) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
            WHERE i.inhparent = to_regclass(format('%I.goal_hits', {schema})) AND c.relname ~ '_[0-9]{8}$'
        LOOP
            EXECUTE format('CREATE INDEX IF NOT EXISTS goal_hits_%2$s_before ON %1$I.goal_hits_%2$s '
                '(tenant_id, workflow_id, contact_id)', {schema}, day);
            EXECUTE format('CREATE INDEX IF NOT EXISTS goal_hits_%2$s_before_recorded ON %1$I.goal_hits_%2$s '
                '(recorded_at) WHERE recorded_at IS NOT NULL', {schema}, day);
            EXECUTE format('CREATE INDEX IF NOT EXISTS goal_hits_%2$s_before_kept ON %1$I.goal_hits_%2$s '
                '(kept_until) WHERE kept_until IS NOT NULL', {schema}, day);
        END LOOP;
    END $$
"""
IS_USED = "SELECT EXISTS (SELECT FROM installation)"
FIRST_DAYS = (
    "SELECT goalworker_make_days(ARRAY['goal_hits'], current_date, current_date + 7)",
    "SELECT goalworker_index_days_of_hits()",
)

OLD_COLUMNS = """tenant_id, workflow_id, contact_id, goal_id, event_source, event_id, goal_version, event_time, data,
    traceparent, tracestate"""
DAYS_OF_HITS = """
SELECT inhrelid::regclass::text, pg_relation_size(inhrelid) / current_setting('block_size')::int
FROM pg_inherits
WHERE inhparent = 'goal_hits'::regclass AND inhrelid <> 'goal_hits_kept'::regclass ORDER BY 1
"""
# Hits of a day were recorded before it ended.
COPY_BACK = f"""
INSERT INTO goal_hits_kept ({OLD_COLUMNS}, recorded_at, kept_until)
SELECT {OLD_COLUMNS}, coalesce(recorded_at, (recorded_on + 1)::timestamp AT TIME ZONE 'UTC'), kept_until
FROM {{table}} WHERE ctid >= '({{first}},0)'::tid{{end}}
ON CONFLICT DO NOTHING
"""
SWAP_BACK = """
DO $$
DECLARE
    own_name text;
BEGIN
    LOCK TABLE goal_hits IN ACCESS EXCLUSIVE MODE;
    {copy_rest}
    ALTER TABLE goal_hits DETACH PARTITION goal_hits_kept;
    DROP TABLE goal_hits;
    ALTER TABLE goal_hits_kept DROP COLUMN contact_hash, DROP COLUMN recorded_on;
    ALTER TABLE goal_hits_kept RENAME TO goal_hits;
    ALTER TABLE goal_hits FORCE ROW LEVEL SECURITY;
    FOR own_name IN SELECT conname FROM pg_constraint WHERE conrelid = 'goal_hits'::regclass AND contype = 'n' LOOP
        EXECUTE format('ALTER TABLE goal_hits RENAME CONSTRAINT %I TO %I',
            own_name, replace(own_name, 'goal_hits_kept_', 'goal_hits_'));
    END LOOP;
    ALTER INDEX goal_hits_kept_pkey RENAME TO goal_hits_pkey;
    ALTER INDEX goal_hits_kept_by_recorded_at RENAME TO goal_hits_by_recorded_at;
    ALTER INDEX goal_hits_kept_by_kept_until RENAME TO goal_hits_by_kept_until;
END $$
"""


def upgrade() -> None:
    _outside_a_transaction(_partition)


def downgrade() -> None:
    _outside_a_transaction(_join)
    op.get_bind().exec_driver_sql(
        "DROP FUNCTION goalworker_make_days, goalworker_drop_day, goalworker_index_days_of_hits"
    )
    for statement in context.script.get_revision("0008").module.DAYS:
        op.get_bind().exec_driver_sql(statement.replace("{schema}", _schema()))


def _partition() -> None:
    for statement in (NEW_COLUMNS, VALIDATE, SWAP):
        _retried(statement)
    for statement in (*DAYS, FOR_THE_RELEASE_BEFORE):
        _retried(statement.replace("{schema}", _schema()))
    if op.get_bind().exec_driver_sql(IS_USED).scalar_one():
        for statement in FIRST_DAYS:
            _retried(statement)


def _join() -> None:
    days = [table for table, _ in op.get_bind().exec_driver_sql(DAYS_OF_HITS)]
    for table in (*days, "goal_hits_kept"):  # else their owner would read nothing, and may write nothing
        _retried(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    copied = [(table, _copy_back(table, pages)) for table, pages in op.get_bind().exec_driver_sql(DAYS_OF_HITS).all()]
    rest = [COPY_BACK.format(table=table, first=first, end="") for table, first in copied]
    _retried(SWAP_BACK.replace("{copy_rest}", "".join(f"{statement};" for statement in rest)))


def _copy_back(table: str, pages: int) -> int:
    """Copy the hits of a day in slices; return the page from which on the rest is left, which workers may add to."""
    for first in range(0, pages - 1, SLICE_PAGES):
        end = min(first + SLICE_PAGES, pages - 1)
        op.get_bind().exec_driver_sql(COPY_BACK.format(table=table, first=first, end=f" AND ctid < '({end},0)'::tid"))
        log.info("hits_copied", table=table, pages=end, of=pages)
    return max(pages - 1, 0)


def _schema() -> str:
    return str(op.get_bind().exec_driver_sql("SELECT quote_literal(current_schema())").scalar_one())


def _outside_a_transaction(step: object) -> None:
    if context.config.attributes["is_one_transaction"]:  # through a pooler, which hands out a connection by transaction
        step()  # type: ignore[operator]
        return
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        connection.exec_driver_sql("SET statement_timeout = 0")
        connection.exec_driver_sql(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
        step()  # type: ignore[operator]
        connection.exec_driver_sql("RESET lock_timeout")


def _retried(statement: str) -> None:
    """Run a statement; where a lock is not free in time, let others go first and try again."""
    for attempt in range(ATTEMPTS):
        try:
            op.get_bind().exec_driver_sql(statement)
        except sa.exc.DBAPIError as error:
            is_locked = getattr(error.orig, "sqlstate", None) == "55P03"
            if not is_locked or context.config.attributes["is_one_transaction"] or attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE_SECONDS)
        else:
            return
