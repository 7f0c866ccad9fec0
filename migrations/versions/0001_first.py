"""The first schema: goals, facts, verdicts, the outbox; two roles and row-level security.

Revision ID: 0001
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

GOALS = """
CREATE TABLE goals (
    tenant_id text COLLATE "C" NOT NULL,
    goal_id uuid NOT NULL,
    workflow_id text COLLATE "C" NOT NULL,
    goal_type text NOT NULL,
    name text,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL,
    deleted_at timestamptz,
    revision bigint NOT NULL,
    PRIMARY KEY (tenant_id, goal_id)
);
CREATE INDEX goals_by_workflow ON goals (tenant_id, workflow_id, created_at, goal_id);
CREATE INDEX goals_by_revision ON goals (revision);

CREATE TABLE goal_versions (
    tenant_id text COLLATE "C" NOT NULL,
    goal_id uuid NOT NULL,
    version integer NOT NULL,
    criteria jsonb NOT NULL,
    is_active boolean NOT NULL,
    active_from timestamptz NOT NULL,
    active_to timestamptz,
    PRIMARY KEY (tenant_id, goal_id, version),
    FOREIGN KEY (tenant_id, goal_id) REFERENCES goals (tenant_id, goal_id)
);

CREATE TABLE workflow_settings (
    tenant_id text COLLATE "C" NOT NULL,
    workflow_id text COLLATE "C" NOT NULL,
    active_from timestamptz NOT NULL,
    logic text NOT NULL CONSTRAINT workflow_settings_logic_check CHECK (logic IN ('any', 'all', 'never')),
    revision bigint NOT NULL,
    PRIMARY KEY (tenant_id, workflow_id, active_from)
);
CREATE INDEX workflow_settings_by_revision ON workflow_settings (revision);

CREATE TABLE goal_revision (
    id smallint PRIMARY KEY CONSTRAINT goal_revision_one_row_check CHECK (id = 1),
    revision bigint NOT NULL,
    moment timestamptz NOT NULL
);
INSERT INTO goal_revision VALUES (1, 0, 'epoch');

CREATE TABLE installation (
    id smallint PRIMARY KEY CONSTRAINT installation_one_row_check CHECK (id = 1),
    enrollment_tracking boolean NOT NULL
);

CREATE TABLE audit_log (
    tenant_id text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    workflow_id text COLLATE "C" NOT NULL,
    goal_id uuid,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    version integer,
    before jsonb,
    after jsonb,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX audit_log_by_goal ON audit_log (tenant_id, goal_id, id);

CREATE TABLE api_keys (
    tenant_id text COLLATE "C" NOT NULL,
    key_id uuid NOT NULL,
    name text NOT NULL,
    key_hash bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, key_id)
);
"""

FACTS = """
CREATE TABLE workflow_states (
    tenant_id text COLLATE "C" NOT NULL,
    workflow_id text COLLATE "C" NOT NULL,
    since timestamptz NOT NULL,
    active boolean NOT NULL,
    PRIMARY KEY (tenant_id, workflow_id, since)
);

-- Room on each page, so that an end or a verdict changes a row in place (HOT).
CREATE TABLE enrollments (
    tenant_id text COLLATE "C" NOT NULL,
    enrollment_id text COLLATE "C" NOT NULL,
    workflow_id text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    enrolled_at timestamptz,
    ended_at timestamptz,
    satisfied_at timestamptz,
    converted_at timestamptz,
    exited_at timestamptz,
    PRIMARY KEY (tenant_id, enrollment_id)
) WITH (fillfactor = 90);
CREATE INDEX enrollments_by_contact ON enrollments (tenant_id, workflow_id, contact_id);
CREATE INDEX enrollments_by_start ON enrollments (tenant_id, workflow_id, enrolled_at);
CREATE INDEX enrollments_by_end ON enrollments (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE goal_hits (
    tenant_id text COLLATE "C" NOT NULL,
    workflow_id text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    goal_id uuid NOT NULL,
    event_source text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    goal_version integer NOT NULL,
    event_time timestamptz NOT NULL,
    data json NOT NULL,
    traceparent text,
    tracestate text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, workflow_id, contact_id, goal_id, event_source, event_id)
);
CREATE INDEX goal_hits_by_recorded_at ON goal_hits (recorded_at);
"""

VERDICTS = """
CREATE TABLE achievements (
    tenant_id text COLLATE "C" NOT NULL,
    enrollment_id text COLLATE "C" NOT NULL,
    goal_id uuid NOT NULL,
    workflow_id text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    goal_version integer NOT NULL,
    goal_type text NOT NULL,
    enrolled_at timestamptz,
    achieved_at timestamptz NOT NULL,
    event_source text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    data json NOT NULL,
    traceparent text,
    tracestate text,
    revision integer NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, enrollment_id, goal_id)
);
CREATE INDEX achievements_by_workflow
    ON achievements (tenant_id, workflow_id, achieved_at, enrollment_id, goal_id);

CREATE TABLE exits (
    tenant_id text COLLATE "C" NOT NULL,
    enrollment_id text COLLATE "C" NOT NULL,
    workflow_id text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    goal_id uuid NOT NULL,
    goal_type text NOT NULL,
    logic text NOT NULL,
    goal_ids uuid[] NOT NULL,
    achieved_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, enrollment_id)
);
CREATE INDEX exits_by_created_at ON exits (created_at);

-- A queue between our own processes, which the API may only add to. It has no tenant_id and no row-level security:
-- the hot path fills it by COPY, which PostgreSQL refuses under row-level security.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key bytea NOT NULL,
    value bytea NOT NULL,
    traceparent text,
    tracestate text,
    batch_id uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX outbox_by_batch ON outbox (batch_id);

CREATE TABLE paused_topics (
    topic text PRIMARY KEY,
    is_paused boolean NOT NULL,
    paused_at timestamptz NOT NULL,
    reason text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    accept_records bigint NOT NULL DEFAULT 0
);
"""

# current_setting(..., true) is null where no tenant was set, so that no row is visible.
ROW_LEVEL_SECURITY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY worker ON {table} TO goalworker_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON {table} TO goalworker_api
    USING (tenant_id = current_setting('goalworker.tenant_id', true))
    WITH CHECK (tenant_id = current_setting('goalworker.tenant_id', true));
"""

TENANT_TABLES = (
    "goals",
    "goal_versions",
    "workflow_settings",
    "audit_log",
    "api_keys",
    "workflow_states",
    "enrollments",
    "goal_hits",
    "achievements",
    "exits",
)
OTHER_TABLES = ("outbox", "paused_topics", "goal_revision", "installation")

GRANTS = """
-- Each login reads for itself, as a member, whether the schema fits its build.
GRANT USAGE ON SCHEMA {schema} TO goalworker_worker, goalworker_api;
GRANT SELECT ON alembic_version TO goalworker_worker, goalworker_api;

GRANT SELECT ON goals, goal_versions, workflow_settings, goal_revision TO goalworker_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON workflow_states, enrollments, goal_hits, achievements, exits,
    outbox, paused_topics TO goalworker_worker;
GRANT SELECT, INSERT ON installation TO goalworker_worker;

GRANT SELECT, INSERT, UPDATE ON goals, goal_versions, workflow_settings, api_keys TO goalworker_api;
GRANT SELECT, INSERT ON audit_log TO goalworker_api;
GRANT SELECT, UPDATE ON goal_revision TO goalworker_api;
GRANT SELECT ON workflow_states, enrollments, achievements, exits, installation TO goalworker_api;
GRANT INSERT ON outbox TO goalworker_api;
"""

# Before the tenant is known, a key is read only through this function, by the hash of the whole key.
API_KEYS = """
CREATE FUNCTION goalworker_api_key(wanted bytea)
    RETURNS TABLE (tenant_id text, key_id uuid, name text, scopes text[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT k.tenant_id, k.key_id, k.name, k.scopes FROM {schema}.api_keys k
          WHERE k.key_hash = wanted AND k.revoked_at IS NULL $$;
REVOKE ALL ON FUNCTION goalworker_api_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION goalworker_api_key TO goalworker_api;
CREATE POLICY owner_finds ON api_keys FOR SELECT TO CURRENT_USER USING (true);
"""


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    for sql in (GOALS, FACTS, VERDICTS):
        _run(sql)
    for table in TENANT_TABLES:
        _run(ROW_LEVEL_SECURITY.format(table=table))
    _run(GRANTS.format(schema=schema))
    _run(API_KEYS.format(schema=schema))


def downgrade() -> None:
    _run("DROP FUNCTION goalworker_api_key")
    for table in reversed((*OTHER_TABLES, *TENANT_TABLES)):
        _run(f"DROP TABLE {table} CASCADE")


def _run(sql: str) -> None:
    for statement in sql.split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)
