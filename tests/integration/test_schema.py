"""The migrated database equals tables.py, can be downgraded and upgraded, and shows each role only its own rows."""

import asyncio
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from alembic import autogenerate, migration
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections, migrations, pooler, tables

# Every column, constraint and index of a schema's tables, as the database describes them.
_TABLES = """
SELECT c.relname, a.attname AS name,
    concat_ws(' ', format_type(a.atttypid, a.atttypmod), co.collname, CASE WHEN a.attnotnull THEN 'not null' END,
        a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid)) AS meaning
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_collation co ON co.oid = a.attcollation
WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r'
UNION ALL
SELECT c.relname, k.conname, replace(pg_get_constraintdef(k.oid), $1::text || '.', '')
FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid WHERE c.relnamespace = $1::text::regnamespace
UNION ALL
SELECT tablename, indexname, replace(indexdef, $1::text || '.', '') FROM pg_indexes WHERE schemaname = $1::text
"""

# Everything else of a schema: rights, policies, triggers and functions.
_RULES = """
SELECT c.relname, 'rights' AS name, concat(c.relkind, c.relacl, c.relrowsecurity, c.relforcerowsecurity) AS meaning
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT tablename, policyname, concat_ws(' ', cmd, roles, qual, with_check) FROM pg_policies
UNION ALL
SELECT '', p.oid::regprocedure::text, concat(pg_get_functiondef(p.oid), p.proacl)
FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
UNION ALL
SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT viewname, 'view', definition FROM pg_views WHERE schemaname = 'public'
"""

_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]

Schema = dict[tuple[str, str], str]


async def _tables(administrator: connections.Connection, schema: str) -> Schema:
    rows = await administrator.fetch(_TABLES, schema)
    return {(row[0], row[1]): row[2] for row in rows if row[0] != "alembic_version"}


async def _everything(administrator: connections.Connection) -> Schema:
    return await _tables(administrator, "public") | {
        (row[0], row[1]): row[2] for row in await administrator.fetch(_RULES)
    }


# --- tables ---


async def test_the_migrations_create_the_schema_of_tables_py(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    def create(connection: sa.Connection) -> None:
        connection.execute(sa.text("CREATE SCHEMA described"))
        connection.execute(sa.text("SET LOCAL search_path = described"))
        tables.metadata.create_all(connection)

    async with pool.begin() as connection:
        await connection.run_sync(create)
    assert await _tables(administrator, "public") == await _tables(administrator, "described")


async def test_alembic_finds_nothing_to_migrate(pool: sa_async.AsyncEngine) -> None:
    def differences(connection: sa.Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        context = migration.MigrationContext.configure(connection, opts=options)
        return list(autogenerate.compare_metadata(context, tables.metadata))

    async with pool.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_every_id_sorts_by_code_point(administrator: connections.Connection) -> None:
    columns = await administrator.fetch(
        "SELECT table_name, column_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text'"
        " AND (column_name LIKE '%\\_id' OR column_name LIKE '%\\_source')"
    )
    assert len(columns) > 20
    assert {row["collation_name"] for row in columns} == {"C"}


async def test_a_third_of_concurrent_judgements_updates_rows_in_place(
    administrator: connections.Connection,
) -> None:
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at)"
        " SELECT 'north', gen_random_uuid(), 'workflow-1', 'contact-' || n, 'epoch' FROM generate_series(1, 1000) AS n"
    )
    async with administrator.transaction():  # type: ignore[attr-defined]
        await administrator.execute(
            "UPDATE enrollments SET satisfied_at = now(), converted_at = now(), exited_at = now()"
        )
        in_place = await administrator.fetchval(
            "SELECT n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'enrollments'"
        )
    assert in_place > 1000 / 3


async def test_a_downgrade_and_upgrade_gives_the_same_schema(
    administrator: connections.Connection, database_url: str
) -> None:
    before = await _everything(administrator)
    await asyncio.to_thread(migrations.downgrade, database_url)
    assert {name[0] for name in await _everything(administrator)} <= {"alembic_version", "alembic_version_pkc"}
    await asyncio.to_thread(migrations.upgrade, database_url)
    assert await _everything(administrator) == before


async def test_upgrading_a_current_schema_changes_nothing(
    administrator: connections.Connection, database_url: str
) -> None:
    before = await _everything(administrator)
    await asyncio.gather(*(asyncio.to_thread(migrations.upgrade, database_url) for _ in range(3)))
    assert await _everything(administrator) == before


# --- a release before, and upgrades that were interrupted ---

_BEFORE = Path(__file__).with_name("release_0004.sql").read_text()
_STATEMENTS = dict(re.findall(r"^-- ([a-z ]+)\n(.+?)(?=\n\n--|\Z)", _BEFORE, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("name", _STATEMENTS)
async def test_a_worker_of_the_release_before_can_run_its_statements(
    administrator: connections.Connection, name: str
) -> None:
    sql = _STATEMENTS[name]
    parameters = max(int(number) for number in re.findall(r"\$(\d+)", sql))
    async with administrator.transaction():  # type: ignore[attr-defined]
        await administrator.execute(f"SET LOCAL ROLE {tables.WORKER_ROLE}; PREPARE before AS {sql}")
        await administrator.execute(f"EXECUTE before ({', '.join(['NULL'] * parameters)})")
        await administrator.execute("DEALLOCATE before")
    assert len(_STATEMENTS) == 14


async def _at_0004(administrator: connections.Connection, database_url: str) -> Schema:
    newest = await _everything(administrator)
    await asyncio.to_thread(migrations.downgrade, database_url, "0004")
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id) VALUES ('north', 'e', 'w', 'c')"
    )
    return newest


async def test_an_interrupted_upgrade_is_completed_by_the_next_one(
    administrator: connections.Connection, database_url: str
) -> None:
    newest = await _at_0004(administrator, database_url)
    await administrator.execute(
        "ALTER TABLE enrollments ADD COLUMN exit_waits boolean NOT NULL DEFAULT false;"
        "CREATE INDEX enrollments_by_waiting_exit ON enrollments (tenant_id) WHERE exit_waits;"
        "CREATE INDEX enrollments_by_contact_next ON enrollments (tenant_id);"
    )
    await asyncio.to_thread(migrations.upgrade, database_url)
    assert await _everything(administrator) == newest
    assert await administrator.fetchval("SELECT count(*) FROM enrollments WHERE NOT exit_waits") == 1


async def test_upgrades_side_by_side_wait_for_each_other(
    administrator: connections.Connection, database_url: str
) -> None:
    newest = await _at_0004(administrator, database_url)
    await asyncio.gather(*(asyncio.to_thread(migrations.upgrade, database_url) for _ in range(3)))
    assert await _everything(administrator) == newest


async def test_an_upgrade_through_a_pooler_is_one_transaction(
    administrator: connections.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = await _at_0004(administrator, database_url)
    monkeypatch.setattr(pooler, "is_pooled", lambda connection: True)
    await asyncio.to_thread(migrations.upgrade, database_url)
    assert await _everything(administrator) == newest


# --- row-level security ---


@pytest.fixture
async def two_tenants(administrator: connections.Connection) -> set[str]:
    """Insert a row of each of two tenants into every table with tenants, and return the tables' names."""
    await administrator.execute("SELECT goalworker_make_history_days('epoch', 'epoch')")
    await administrator.execute("SET session_replication_role = replica")
    names = {table.name for table in tables.metadata.sorted_tables if "tenant_id" in table.c}
    for table in (table for table in tables.metadata.sorted_tables if table.name in names):
        for tenant_id in ("north", "south"):
            await administrator.execute(_a_row_of(table, tenant_id))
    return names


def _a_row_of(table: sa.Table, tenant_id: str) -> str:
    """Return an insertion of a row with the required columns only."""
    needed = [column for column in table.c if not (column.nullable or column.server_default or column.identity)]
    given = {"tenant_id": f"'{tenant_id}'", "kind": "'plan'", "state": "'here'"}
    values = [given.get(column.name) or _SOMETHING[_kind(column)] for column in needed]
    for name in {"key_hash", "code_hash"} & set(table.c.keys()):
        values[[column.name for column in needed].index(name)] = f"'{tenant_id}'"
    columns = ", ".join(f'"{column.name}"' for column in needed)
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join(values)})"


def _kind(column: sa.Column[Any]) -> str:
    return str(column.type.compile(_POSTGRESQL)).split(" ")[0]


_SOMETHING = {
    "TEXT": "'any'",
    "UUID": "gen_random_uuid()",
    "INTEGER": "1",
    "BIGINT": "1",
    "NUMERIC": "1",
    "BOOLEAN": "true",
    "TIMESTAMP": "'epoch'",
    "DATE": "'epoch'",
    "JSON": "'{}'",
    "JSONB": "'{}'",
    "BYTEA": "'b'",
    "TEXT[]": "'{}'",
    "UUID[]": "'{}'",
}


async def test_every_table_with_tenants_has_row_level_security_enabled_and_forced(
    administrator: connections.Connection,
) -> None:
    rows = await administrator.fetch(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity FROM pg_class c JOIN pg_attribute a"
        " ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
    )
    assert {row[0] for row in rows} == {table.name for table in tables.TENANT_TABLES}
    assert all(row[1] for row in rows)


async def _seen_as_api(administrator: connections.Connection, names: set[str], tenant_id: str | None) -> dict[str, Any]:
    seen = {}
    async with administrator.transaction():  # type: ignore[attr-defined]
        if tenant_id is not None:
            await administrator.execute(f"SET LOCAL {tables.TENANT_SETTING} = '{tenant_id}'")
        await administrator.execute(f"SET LOCAL ROLE {tables.API_ROLE}")
        for name in sorted(names):
            if await administrator.fetchval("SELECT has_table_privilege($1, 'SELECT')", name):
                seen[name] = [row[0] for row in await administrator.fetch(f"SELECT DISTINCT tenant_id FROM {name}")]
    return seen


async def test_the_api_sees_no_rows_without_a_tenant(
    administrator: connections.Connection, two_tenants: set[str]
) -> None:
    seen = await _seen_as_api(administrator, two_tenants, None)
    assert list(seen.values()) == [[]] * len(seen)
    assert {"goals", "enrollments", "achievements", "exits", "api_keys", "audit_log"} <= seen.keys()
    assert {"goal_hits", "reversals", "workflow_states", "seen_values", "jobs"} <= seen.keys()
    assert seen.keys() >= OF_DAYS
    assert await _seen_as_api(administrator, two_tenants, "") == seen


async def test_the_api_sees_one_tenant_and_no_other(
    administrator: connections.Connection, two_tenants: set[str]
) -> None:
    seen = await _seen_as_api(administrator, two_tenants, "south")
    assert list(seen.values()) == [["south"]] * len(seen)


async def test_the_tenant_is_reset_after_the_transaction(pool: sa_async.AsyncEngine, two_tenants: set[str]) -> None:
    for _ in range(2):
        async with connections.tenant_transaction(pool, "north", "test") as connection:
            assert (await connection.execute(sa.select(tables.goals.c.tenant_id))).scalars().all() == ["north"]
        async with pool.connect() as connection:
            assert await connection.scalar(sa.text(f"SELECT current_setting('{tables.TENANT_SETTING}', true)")) in (
                None,
                "",
            )


async def test_the_api_writes_for_its_own_tenant_alone(
    administrator: connections.Connection, two_tenants: set[str]
) -> None:
    for table in (table for table in tables.TENANT_TABLES):
        if not await administrator.fetchval(
            "SELECT has_table_privilege($1, $2, 'INSERT')", tables.API_ROLE, table.name
        ):
            continue
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await _as_api(administrator, "north", _a_row_of(table, "south"))
    for name in ("goals", "goal_versions", "workflow_settings", "api_keys"):
        column = next(column.name for column in tables.metadata.tables[name].c if _kind(column) == "TIMESTAMP")
        assert await _as_api(administrator, "north", f"UPDATE {name} SET {column} = now()") == "UPDATE 1"


async def _as_api(administrator: connections.Connection, tenant_id: str, sql: str) -> str:
    async with administrator.transaction():  # type: ignore[attr-defined]
        await administrator.execute(f"SET LOCAL {tables.TENANT_SETTING} = '{tenant_id}'")
        await administrator.execute(f"SET LOCAL ROLE {tables.API_ROLE}")
        return await administrator.execute(sql)


async def test_the_worker_sees_every_tenants_facts_and_verdicts(
    pool: sa_async.AsyncEngine, two_tenants: set[str]
) -> None:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        for name in ("goals", "enrollments", "goal_hits", "reversals", "achievements", "exits", "workflow_states"):
            rows = await connection.fetch(f"SELECT DISTINCT tenant_id FROM {name} ORDER BY tenant_id")
            assert [row[0] for row in rows] == ["north", "south"], name


# --- rights ---

OF_PEOPLE = {"goals", "goal_versions", "workflow_settings", "audit_log", "api_keys", "goal_revision"}
OF_THE_FLOW = {"enrollments", "goal_hits", "goal_hits_kept", "reversals", "workflow_states", "achievements", "exits"}
OF_DAYS = {"history_events", "history_exits"}
OF_INSIGHT = {"history_positions", "history_coverage", "seen_values"}


async def _granted(administrator: connections.Connection, role: str, right: str) -> set[str]:
    names = [table.name for table in tables.metadata.sorted_tables]
    rows = await administrator.fetch(
        "SELECT name FROM unnest($2::text[]) AS name WHERE has_table_privilege($1, name, $3)", role, names, right
    )
    return {row[0] for row in rows}


async def test_each_role_writes_its_own_tables_only(administrator: connections.Connection) -> None:
    for right in ("INSERT", "UPDATE", "DELETE"):
        of_worker = OF_THE_FLOW | OF_INSIGHT | {"outbox", "paused_topics"}
        assert of_worker <= await _granted(administrator, tables.WORKER_ROLE, right)
        assert not await _granted(administrator, tables.WORKER_ROLE, right) & (OF_PEOPLE | OF_DAYS)
        assert not await _granted(administrator, tables.API_ROLE, right) & (OF_THE_FLOW | OF_INSIGHT)
    assert await _granted(administrator, tables.API_ROLE, "DELETE") == set()
    for role in (tables.WORKER_ROLE, tables.API_ROLE):
        assert await _granted(administrator, role, "TRUNCATE, TRIGGER, REFERENCES") == set()


async def test_the_api_can_only_insert_into_audit_and_outbox(administrator: connections.Connection) -> None:
    may = {right: await _granted(administrator, tables.API_ROLE, right) for right in ("SELECT", "INSERT", "UPDATE")}
    assert {right for right, names in may.items() if "audit_log" in names} == {"SELECT", "INSERT"}
    assert {right for right, names in may.items() if "outbox" in names} == {"INSERT"}


async def test_neither_role_can_log_in_or_bypass_row_level_security(administrator: connections.Connection) -> None:
    rows = await administrator.fetch(
        "SELECT rolcanlogin OR rolbypassrls OR rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles"
        " WHERE rolname = ANY($1::text[])",
        [tables.WORKER_ROLE, tables.API_ROLE],
    )
    assert [row[0] for row in rows] == [False, False]
