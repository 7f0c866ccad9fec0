"""Separate logins for migrations, worker and API can do their work, and nothing else."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib import parse

import asyncpg
import pytest

from goalworker import embedded
from goalworker.pipeline import outbox, paused_topics, refused_messages
from goalworker.postgres import connections
from goalworker.stores import api_keys, goal_store, table_statistics
from tests.kit import shells, support
from tests.kit.forker import Forker, Outcome
from tests.kit.shells import Shell

OWNER, WORKER, API, STRANGER = "acme_owner", "acme worker", "acme_api", "acme_stranger"
DATABASE = "events"

# Statements that the API's login may not run.
NOT_THE_APIS = {
    "facts can't be made up": "INSERT INTO workflow_states VALUES ('acme', 'w', now(), true)",
    "enrollments can't be made up": (
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id) VALUES ('acme', 'e', 'w', 'c')"
    ),
    "enrollments can't be changed": "UPDATE enrollments SET ended_at = now()",
    "enrollments can't be deleted": "DELETE FROM enrollments",
    "achievements can't be changed": "UPDATE achievements SET revoked_at = now()",
    "achievements can't be deleted": "DELETE FROM achievements",
    "exits can't be deleted": "DELETE FROM exits",
    "hits can't be deleted": "DELETE FROM goal_hits",
    "reversals can't be deleted": "DELETE FROM reversals",
    "kept events can't be made up": "INSERT INTO history_events (tenant_id) VALUES ('acme')",
    "kept events can't be deleted": "DELETE FROM history_events",
    "tables can't be analyzed": "SELECT goalworker_analyze('goals')",
    "days can't be dropped": "SELECT goalworker_drop_history_days('2100-01-01')",
    "days of hits can't be dropped": "SELECT goalworker_drop_day(ARRAY['goal_hits'], '2100-01-01')",
    "days of hits can't be made": "SELECT goalworker_make_days(ARRAY['goal_hits'], '2100-01-01', '2100-01-01')",
    "seen values can't be made up": "UPDATE seen_values SET count = 1",
    "jobs can't be ended": "UPDATE jobs SET state = 'done'",
    "jobs can't be deleted": "DELETE FROM jobs",
    "the outbox can't be read": "SELECT FROM outbox",
    "the outbox can't be emptied": "DELETE FROM outbox",
    "refused messages can't be read": "SELECT FROM refused_messages",
    "goals can't be deleted for good": "DELETE FROM goals",
    "the audit can't be changed": "UPDATE audit_log SET actor = 'somebody'",
    "the audit can't be deleted": "DELETE FROM audit_log",
    "keys can't be deleted": "DELETE FROM api_keys",
    "login codes can't be deleted": "DELETE FROM login_codes",
    "the console's secret can't be changed": "UPDATE console_secret SET secret = sha256('')",
    "progress can't be made up": "UPDATE progress SET judged_until = now()",
    "pauses can't be ended": "UPDATE paused_topics SET is_paused = false",
    "the mode can't be changed": "UPDATE installation SET enrollment_tracking = false",
    "the worker can't be played": 'SET ROLE "goalworker_worker"',
}
NOT_THE_WORKERS = {
    "goals can't be changed": "UPDATE goals SET name = 'other'",
    "versions can't be changed": "UPDATE goal_versions SET is_active = false",
    "versions can't be deleted": "DELETE FROM goal_versions",
    "logics can't be changed": "UPDATE workflow_settings SET logic = 'never'",
    "the revision can't be changed": "UPDATE goal_revision SET revision = 0",
    "keys can't be read": "SELECT FROM api_keys",
    "keys can't be looked up": "SELECT goalworker_api_key('x')",
    "keys can't be made": (
        "INSERT INTO api_keys VALUES ('acme', gen_random_uuid(), 'n', 'h', ARRAY['goals:write'], now())"
    ),
    "login codes can't be read": "SELECT FROM login_codes",
    "login codes can't be used": "SELECT goalworker_take_login_code('x')",
    "the console's secret can't be read": "SELECT FROM console_secret",
    "the audit can't be read": "SELECT FROM audit_log",
    "kept events can't be deleted": "DELETE FROM history_events",
    "jobs can't be made": "INSERT INTO jobs (tenant_id) VALUES ('acme')",
    "the audit can't be written": "INSERT INTO audit_log (tenant_id) VALUES ('acme')",
    "the mode can't be changed": "UPDATE installation SET enrollment_tracking = false",
    "the API can't be played": 'SET ROLE "goalworker_api"',
}
NOBODYS = {
    "no table can be altered": "ALTER TABLE goals ADD COLUMN other text",
    "no table can be dropped": "DROP TABLE exits",
    "no table can be emptied": "TRUNCATE outbox",
    "no table can be made": "CREATE TABLE public.mine (id int)",
    "no index can be dropped": "DROP INDEX goals_by_workflow",
    "row-level security can't be switched off": "ALTER TABLE goals DISABLE ROW LEVEL SECURITY",
    "row-level security can't be relaxed": "ALTER TABLE goals NO FORCE ROW LEVEL SECURITY",
    "no policy can be dropped": "DROP POLICY tenant ON goals",
    "no policy can be made": "CREATE POLICY mine ON goals USING (true)",
    "the function can't be replaced": (
        "CREATE OR REPLACE FUNCTION public.goalworker_api_key(wanted bytea) RETURNS TABLE (tenant_id text, key_id uuid,"
        " name text, scopes text[]) LANGUAGE sql AS 'SELECT NULL::text, NULL::uuid, NULL::text, NULL::text[]'"
    ),
    "the function can't be dropped": "DROP FUNCTION goalworker_api_key",
    "no role can be given away": f"GRANT goalworker_api, goalworker_worker TO {STRANGER}",
    "the revision of the schema can't be changed": "UPDATE alembic_version SET version_num = 'x'",
}


@dataclass(frozen=True, slots=True)
class Installation:
    """Database set up by an administrator and an owner; `refused` is what an upgrade printed before that."""

    administrator: str
    refused: Outcome

    def url(self, login: str) -> str:
        host = self.administrator.rpartition("@")[2]
        return f"postgresql://{parse.quote(login)}:pw@{host}"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> Iterator[Installation]:
    """Set up on a server of its own, since roles belong to the whole server."""
    shell = Shell(tmp_path_factory.mktemp("roles"), {}, forker)
    with embedded.postgres() as server:
        logins = [f"CREATE ROLE \"{login}\" LOGIN PASSWORD 'pw'" for login in (OWNER, WORKER, API, STRANGER)]
        support.run(support.execute(server.address, *logins, f"CREATE DATABASE {DATABASE}"))
        administrator = support.with_database(server.address, DATABASE)
        there = Installation(administrator, refused=Outcome(0, "", ""))
        upgrade = shell.set({"GOALWORKER_DATABASE__URL": there.url(OWNER)})
        there = Installation(administrator, refused=upgrade("db", "upgrade"))
        roles = shell("db", "roles", "--migrate-user", OWNER, "--worker-user", WORKER, "--api-user", API)
        support.run(support.execute(administrator, roles.out))
        assert upgrade("db", "upgrade").code == 0
        yield there


@pytest.fixture
async def administrator(installation: Installation) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(installation.administrator)
    yield connection
    await connection.close()


@pytest.fixture
async def api(installation: Installation) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(installation.url(API))
    yield connection
    await connection.close()


def test_an_upgrade_without_the_right_to_create_roles_says_who_can(installation: Installation) -> None:
    shells.assert_one_sentence(installation.refused, 1, f"the user {OWNER} may not create", "`goalworker db roles`")


async def test_an_upgrade_creates_the_roles_if_it_has_the_right(shell: Shell) -> None:
    with embedded.postgres() as server:
        make = ("CREATE ROLE maker LOGIN CREATEROLE PASSWORD 'pw'", "CREATE DATABASE made OWNER maker")
        await support.execute(server.address, *make)
        host = support.with_database(server.address, "made").rpartition("@")[2]
        made = shell.set({"GOALWORKER_DATABASE__URL": f"postgresql://maker:pw@{host}"})
        assert made("db", "upgrade").code == 0
        # This login owns the schema and may take both roles.
        created = made("keys", "create", "--tenant", "acme", "--scope", "goals:read", "--name", "ci", "--json").rows
        assert [key["id"] for key in made("keys", "list", "--json").rows] == [created["id"]]
        assert made("outbox", "status").code == 0


@pytest.mark.parametrize("login", [WORKER, API])
def test_a_login_can_check_the_schema(installation: Installation, shell: Shell, login: str) -> None:
    assert shell("db", "check", GOALWORKER_DATABASE__URL=installation.url(login)).code == 0


@pytest.mark.parametrize(("login", "words"), [(STRANGER, ("db", "check")), (API, ("outbox", "status"))])
def test_a_login_that_lacks_a_role_is_told_how_to_grant_it(
    installation: Installation, shell: Shell, login: str, words: tuple[str, ...]
) -> None:
    outcome = shell(*words, GOALWORKER_DATABASE__URL=installation.url(login))
    shells.assert_one_sentence(outcome, 1, "permission denied", "`goalworker db roles`")


# --- each does its work ---


async def test_the_worker_works_as_its_login(
    installation: Installation, with_kafka: Shell, topics: dict[str, str], administrator: asyncpg.Connection
) -> None:
    settings = {"GOALWORKER_DATABASE__URL": installation.url(WORKER), "GOALWORKER_OPS__PORT": "0"}
    started = (
        b'{"specversion": "1.0", "id": "1", "source": "/engine", "type": "workflow.enrollment.started", "tenantid":'
        b' "acme", "time": "2026-01-01T00:00:00Z", "data": {"workflow_id": "w", "enrollment_id": "e1", "contact_id":'
        b' "c"}}'
    )
    bootstrap_servers = with_kafka.settings["GOALWORKER_KAFKA__BOOTSTRAP_SERVERS"]
    async with shells.producing(bootstrap_servers) as producer:
        await producer.send_and_wait(topics["workflow_lifecycle"], started)
    with with_kafka.set(settings).started("run") as worker:
        recorded = None
        async with asyncio.timeout(60):
            while recorded is None and worker.poll() is None:
                recorded = await administrator.fetchval("SELECT contact_id FROM enrollments WHERE enrollment_id = 'e1'")
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=20)
    assert (worker.returncode, recorded) == (0, "c"), err.decode()


async def test_the_worker_analyzes_tables_that_belong_to_another_login(
    installation: Installation, administrator: asyncpg.Connection
) -> None:
    await administrator.execute(
        "ALTER TABLE workflow_states SET (autovacuum_enabled = false);"
        " INSERT INTO workflow_states SELECT 'acme', 'w' || n, 'epoch', true FROM generate_series(1, 5000) AS n"
    )
    pool = connections.engine(installation.url(WORKER), pool_size=1, statement_timeout_seconds=5, application="test")
    try:
        assert "workflow_states" in await table_statistics.analyze_grown(pool)
    finally:
        await pool.dispose()
    known = "SELECT reltuples FROM pg_class WHERE oid = 'workflow_states'::regclass"
    assert await administrator.fetchval(known) == 5_000


async def test_the_api_works_as_its_login(installation: Installation) -> None:
    pool = connections.engine(installation.url(API), pool_size=1, statement_timeout_seconds=5, application="test")
    try:
        draft = goal_store.parse_draft({"goal_type": "form_submitted", "criteria": {"form_id": "f"}})
        goal = await goal_store.create(pool, "acme", "w", draft, actor="ann", maximum=3)
        assert await goal_store.get(pool, "acme", goal.id) == goal
        key, stored = await api_keys.create(pool, "acme", "ci", ["goals:read"])
        assert await api_keys.find(pool, key) == api_keys.KeyHolder(stored.id, "acme", "ci", ("goals:read",))
        await api_keys.revoke(pool, "acme", stored.id)
        assert await api_keys.find(pool, key) is None
    finally:
        await pool.dispose()


async def test_the_api_counts_messages_that_it_must_not_read(
    installation: Installation, administrator: asyncpg.Connection, api: asyncpg.Connection
) -> None:
    await administrator.execute(
        "DELETE FROM outbox; INSERT INTO outbox (topic, key, value) VALUES ('counted', 'k', 'v'), ('counted', 'k', 'v')"
    )
    found = await outbox.status(api)
    assert [(pending.topic, pending.records) for pending in found] == [("counted", 2)]
    assert await refused_messages.status(api) == []
    assert await api.fetch(paused_topics.PAUSED) == []
    await administrator.execute("DELETE FROM outbox")


# --- and nothing else ---


@pytest.mark.parametrize(
    ("login", "statement"),
    [
        *(pytest.param(API, sql, id=f"api: {claim}") for claim, sql in (NOT_THE_APIS | NOBODYS).items()),
        *(pytest.param(WORKER, sql, id=f"worker: {claim}") for claim, sql in (NOT_THE_WORKERS | NOBODYS).items()),
    ],
)
async def test_a_login_has_no_rights_beyond_its_work(installation: Installation, login: str, statement: str) -> None:
    connection = await asyncpg.connect(installation.url(login))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


TENANTS = ("acme", "globex")


@pytest.fixture
async def two_tenants(administrator: asyncpg.Connection) -> None:
    """Rows of both tenants in tables that the API reads."""
    for tenant in TENANTS:
        await administrator.execute(
            "INSERT INTO workflow_settings VALUES ($1, 'w', 'epoch', 'any', 1) ON CONFLICT DO NOTHING", tenant
        )
        await administrator.execute(
            "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id) VALUES ($1, 'e', 'w', 'c')"
            " ON CONFLICT DO NOTHING",
            tenant,
        )


SEEN = (
    "SELECT DISTINCT tenant_id FROM"
    " (SELECT tenant_id FROM workflow_settings UNION ALL SELECT tenant_id FROM enrollments) AS seen"
)


@pytest.mark.usefixtures("two_tenants")
async def test_the_api_sees_the_set_tenant_only_and_none_without_it(api: asyncpg.Connection) -> None:
    assert await api.fetch(SEEN) == []
    async with api.transaction():
        await api.execute("SET LOCAL goalworker.tenant_id = 'acme'")
        assert [row["tenant_id"] for row in await api.fetch(SEEN)] == ["acme"]
    # The setting is an empty text by now, and not unset as before.
    assert await api.fetch(SEEN) == []


@pytest.mark.usefixtures("two_tenants")
async def test_the_api_writes_for_no_other_tenant(api: asyncpg.Connection) -> None:
    await api.execute("SET goalworker.tenant_id = 'acme'")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await api.execute("INSERT INTO workflow_settings VALUES ('globex', 'w2', now(), 'never', 1)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await api.execute("UPDATE workflow_settings SET tenant_id = 'globex', workflow_id = 'w3'")
    assert await api.execute("UPDATE workflow_settings SET logic = 'all' WHERE tenant_id = 'globex'") == "UPDATE 0"


@pytest.mark.usefixtures("two_tenants")
async def test_row_level_security_cannot_be_switched_off_by_a_login(api: asyncpg.Connection) -> None:
    await api.execute("SET row_security = off")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await api.fetch(SEEN)


@pytest.mark.usefixtures("two_tenants")
async def test_row_level_security_applies_to_the_owner_who_reads_keys_only(installation: Installation) -> None:
    owner = await asyncpg.connect(installation.url(OWNER))
    try:
        assert await owner.fetch(SEEN) == []
    finally:
        await owner.close()


async def test_a_feed_reads_only_the_tenants_that_it_names(
    installation: Installation, administrator: asyncpg.Connection
) -> None:
    await administrator.execute(
        "INSERT INTO exits SELECT tenant_id, 'e', 'w', 'c', gen_random_uuid(), 'tag_added', 'any', '{}', now()"
        " FROM unnest(ARRAY['north', 'south', 'east']) AS tenant_id"
    )
    owner = await asyncpg.connect(installation.url(OWNER))
    try:
        assert await owner.fetch("SELECT tenant_id FROM exits") == []
        async with owner.transaction():
            found = await owner.fetch("SELECT * FROM goalworker_recent_effects('{north,south}', '-infinity', 9)")
            assert {row["tenant_id"] for row in found} == {"north", "south"}
        assert await owner.fetch("SELECT tenant_id FROM exits") == []
    finally:
        await owner.close()


async def test_every_table_of_tenants_has_row_level_security(administrator: asyncpg.Connection) -> None:
    open_tables = await administrator.fetch(
        "SELECT relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
        " WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"
        " AND NOT (relrowsecurity AND relforcerowsecurity)"
    )
    # A view reads as its owner unless it is declared otherwise.
    open_views = await administrator.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace = 'public'::regnamespace"
        " AND NOT coalesce(reloptions, '{}') && ARRAY['security_invoker=true', 'security_invoker=on']"
    )
    assert [*open_tables, *open_views] == []


async def test_functions_with_rights_of_the_owner_set_their_search_path(administrator: asyncpg.Connection) -> None:
    functions = await administrator.fetch(
        "SELECT proname::text, proconfig FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
    )
    assert {row[0] for row in functions} == {
        *("goalworker_api_key", "goalworker_take_login_code"),
        *("goalworker_make_history_days", "goalworker_drop_history_days"),
        *("goalworker_make_days", "goalworker_drop_day"),
        *("goalworker_unpublished_exits", "goalworker_analyze", "goalworker_recent_effects"),
        *("goalworker_outbox_status", "goalworker_refused_status"),
    }
    assert all("search_path=pg_catalog, pg_temp" in row[1] for row in functions)


async def test_a_key_forged_by_the_caller_is_refused(api: asyncpg.Connection) -> None:
    """The caller puts a table, a function and an operator in front of the real ones."""
    forged = b"\x00" * 32
    await api.execute(
        """
        CREATE TEMP TABLE api_keys (tenant_id text, key_id uuid, name text, scopes text[], key_hash bytea,
            revoked_at timestamptz);
        INSERT INTO api_keys VALUES ('globex', gen_random_uuid(), 'forged', ARRAY['goals:write'], '\\x00'::bytea);
        CREATE FUNCTION pg_temp.equal(bytea, bytea) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE OPERATOR pg_temp.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = pg_temp.equal);
        SET search_path = pg_temp, public;
        """
    )
    assert await api.fetch("SELECT * FROM public.goalworker_api_key($1)", forged) == []
