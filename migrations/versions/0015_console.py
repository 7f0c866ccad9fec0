"""Keep the secret behind sessions of the console, and one-time codes that log in.

A release before reads neither. A database that is upgraded again after a downgrade has another secret: sessions end,
and links to contacts change.

Revision ID: 0015
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SECRET = (
    """
    CREATE TABLE console_secret (
        id smallint PRIMARY KEY CONSTRAINT console_secret_one_row_check CHECK (id = 1),
        secret bytea NOT NULL CONSTRAINT console_secret_size_check CHECK (octet_length(secret) = 32)
    )
    """,
    # Each UUID has 122 random bits of the operating system's.
    """
    INSERT INTO console_secret
    SELECT 1, sha256(convert_to(string_agg(gen_random_uuid()::text, ''), 'UTF8')) FROM generate_series(1, 8)
    """,
    "GRANT SELECT ON console_secret TO goalworker_api",
)

CODES = (
    """
    CREATE TABLE login_codes (
        tenant_id text COLLATE "C" NOT NULL,
        code_hash bytea NOT NULL,
        key_id uuid NOT NULL,
        expires_at timestamptz NOT NULL,
        CONSTRAINT login_codes_pkey PRIMARY KEY (code_hash)
    )
    """,
    "ALTER TABLE login_codes ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE login_codes FORCE ROW LEVEL SECURITY",
    "CREATE POLICY worker ON login_codes TO goalworker_worker USING (true) WITH CHECK (true)",
    """
    CREATE POLICY tenant ON login_codes TO goalworker_api
        USING (tenant_id = current_setting('goalworker.tenant_id', true))
        WITH CHECK (tenant_id = current_setting('goalworker.tenant_id', true))
    """,
    "GRANT SELECT, INSERT ON login_codes TO goalworker_api",
    # As a key, a code is found before its tenant is known, by the hash of the whole. It is gone with its first use, and
    # those that nobody used in time go along.
    "CREATE POLICY owner_takes ON login_codes TO CURRENT_USER USING (true)",
    """
    CREATE FUNCTION goalworker_take_login_code(wanted bytea)
        RETURNS TABLE (tenant_id text, key_id uuid)
        LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            WITH gone AS (
                DELETE FROM {schema}.login_codes AS c
                WHERE c.code_hash = wanted OR c.expires_at <= clock_timestamp()
                RETURNING c.tenant_id, c.code_hash, c.key_id, c.expires_at
            )
            SELECT g.tenant_id, g.key_id FROM gone AS g
            WHERE g.code_hash = wanted AND g.expires_at > clock_timestamp()
        $$
    """,
    "REVOKE ALL ON FUNCTION goalworker_take_login_code FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION goalworker_take_login_code TO goalworker_api",
)

DOWNGRADE = (
    "DROP FUNCTION goalworker_take_login_code",
    "DROP TABLE login_codes",
    "DROP TABLE console_secret",
)


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    _run(tuple(statement.replace("{schema}", schema) for statement in (*SECRET, *CODES)))


def downgrade() -> None:
    _run(DOWNGRADE)


def _run(statements: tuple[str, ...]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)
