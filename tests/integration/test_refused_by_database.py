"""Every command reports what the database refuses with a sentence and an exit code, without a traceback."""

import contextlib
import functools
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
import structlog

from goalworker.errors import RefusedError
from goalworker.postgres import connections, migrations, tables
from goalworker.runtime import ops_port
from tests.integration.refusing import assert_refused
from tests.kit import every_command, shells, support
from tests.kit.forker import Forker, Outcome

LOGIN, PASSWORD = f"refused_{secrets.token_hex(4)}", "pw-7f3a"
WORKER, API = tables.WORKER_ROLE, tables.API_ROLE


@dataclass(frozen=True, slots=True)
class Refusal:
    """SQL of an administrator, with {login} and {database}; SQL that undoes it; exit code, and part of the sentence."""

    refuse: str
    allow: str
    code: int
    says: str


EVERYONE = f"PUBLIC, {WORKER}, {API}, {{login}}"
REFUSALS: Mapping[str, Refusal] = {
    "no CONNECT": Refusal(
        "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC", "GRANT CONNECT ON DATABASE {database} TO PUBLIC",
        1, "GRANT CONNECT",
    ),
    "no LOGIN": Refusal("ALTER ROLE {login} NOLOGIN", "ALTER ROLE {login} LOGIN", 4, "not permitted to log in"),
    "no connection left": Refusal(
        "ALTER ROLE {login} CONNECTION LIMIT 0", "ALTER ROLE {login} CONNECTION LIMIT -1", 4, "or the user's limit"
    ),
    "no USAGE of the schema": Refusal(
        f"REVOKE USAGE ON SCHEMA public FROM {EVERYONE}", f"GRANT USAGE ON SCHEMA public TO {EVERYONE}",
        1, "GRANT USAGE ON SCHEMA",
    ),
    "empty search_path": Refusal(
        "ALTER ROLE {login} SET search_path = ''", "ALTER ROLE {login} RESET search_path", 1, "search_path"
    ),
    "read-only": Refusal(
        "ALTER ROLE {login} SET default_transaction_read_only = on",
        "ALTER ROLE {login} RESET default_transaction_read_only", 4, "it is read-only",
    ),
    "no roles": Refusal(
        f"REVOKE {WORKER}, {API} FROM {{login}}", f"GRANT {WORKER}, {API} TO {{login}}", 1, "permission denied"
    ),
}  # fmt: skip
# Refused when connecting: these commands stand for all others.
AT_THE_DOOR = ("no LOGIN", "no connection left")
FEW = ("db current", "doctor", "run", "api")
# Commands that use none of our roles.
WITHOUT_ROLE = {"db current", "db check", "db upgrade"}

# By a table that the roles may not read: commands that read it.
READING = {
    "alembic_version": [name for name in every_command.needing(every_command.DATABASE) if name != "doctor"],
    "goals": [name for name in every_command.USES if name.startswith("goals ")],
    "goal_revision": ["goals create", "check-event", "run"],
    "api_keys": ["keys create", "keys list", "keys revoke"],
    "outbox": ["run"],
    "paused_topics": ["topics list", "topics resume", "run"],
    "installation": ["run", "api", "insight"],
    "history_coverage": ["insight"],
    "cell": ["cells check", "run"],
    "moved_tenants": ["goals list", "keys create", "cells check", "run", "insight"],
}
EXEMPT = {("goals", "goals set-logic")}  # needs no goal


@dataclass(frozen=True, slots=True)
class Installation:
    """Database, topics, and the settings of a login that may do everything unless a test refuses it."""

    administrator: str
    topics: Mapping[str, str]
    settings: Mapping[str, str]
    forker: Forker

    def __call__(self, name: str, **settings: str) -> Outcome:
        given = {**self.settings, **settings}
        return self.forker(every_command.words(name, self.topics), given, every_command.USES[name].stdin)

    @contextlib.contextmanager
    def refusing(self, refuse: str, allow: str) -> Iterator[None]:
        place = {"login": LOGIN, "database": self.administrator.rpartition("/")[2]}
        support.run(support.execute(self.administrator, refuse.format_map(place)))
        try:
            yield
        finally:
            support.run(support.execute(self.administrator, allow.format_map(place)))


@pytest.fixture(scope="module")
def installation(
    postgres_url: str, template_database: str, bootstrap_servers: str, forker: Forker
) -> Iterator[Installation]:
    topics = support.fresh_topics()
    support.run(support.create_topics(bootstrap_servers, topics))
    with support.fresh_database(postgres_url, f"TEMPLATE {template_database}") as name:
        administrator = support.with_database(postgres_url, name)
        login = f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{PASSWORD}' IN ROLE {WORKER}, {API}"
        support.run(support.execute(administrator, login, f"GRANT CREATE ON SCHEMA public TO {LOGIN}"))
        url = f"postgresql://{LOGIN}:{PASSWORD}@{administrator.rpartition('@')[2]}"
        settings = {**shells.variables_of(bootstrap_servers, topics), "GOALWORKER_DATABASE__URL": url}
        ports = {"GOALWORKER_OPS__PORT": "0", "GOALWORKER_LOG__LEVEL": "error"}
        yield Installation(administrator, topics, settings | ports, forker)
        support.run(support.execute(administrator, f"DROP OWNED BY {LOGIN}", f"DROP ROLE {LOGIN}"))
    support.run(support.delete_topics(bootstrap_servers, topics))


@pytest.mark.parametrize("refusal", REFUSALS)
def test_every_command_says_what_the_database_refuses(installation: Installation, refusal: str) -> None:
    there = REFUSALS[refusal]
    with installation.refusing(there.refuse, there.allow):
        names = FEW if refusal in AT_THE_DOOR else every_command.needing(every_command.DATABASE)
        refused = [name for name in names if refusal != "no roles" or name not in WITHOUT_ROLE]
        for name, outcome in every_command.outcomes(refused, installation).items():
            assert_refused(name, outcome, there.code, there.says)


@pytest.mark.parametrize("table", READING)
def test_every_command_says_which_table_it_may_not_read(installation: Installation, table: str) -> None:
    everyone = f"PUBLIC, {WORKER}, {API}, {LOGIN}"
    revoke, grant = f"REVOKE SELECT ON {table} FROM {everyone}", f"GRANT SELECT ON {table} TO {everyone}"
    with installation.refusing(revoke, grant):
        reading = [name for name in READING[table] if (table, name) not in EXEMPT]
        for name, outcome in every_command.outcomes(reading, installation).items():
            assert_refused(name, outcome, 1, f"permission denied for table {table}")


@pytest.mark.parametrize("function", ["goalworker_outbox_status", "goalworker_refused_status"])
def test_outbox_status_says_which_function_it_may_not_call(installation: Installation, function: str) -> None:
    of = f"EXECUTE ON FUNCTION {function}()"
    everyone = f"PUBLIC, {WORKER}, {API}, {LOGIN}"
    with installation.refusing(f"REVOKE {of} FROM {everyone}", f"GRANT {of} TO {WORKER}, {API}"):
        outcome = installation("outbox status")
        assert_refused("outbox status", outcome, 1, f"permission denied for function {function}")


PLACES = {
    "wrong password": "{login}:wrong@{host}/{name}",
    "no password": "{login}@{host}/{name}",
    "unknown login": "nobody:wrong@{host}/{name}",
    "unknown database": "{login}:{password}@{host}/nothing_here",
    "absent server": "{login}:{password}@127.0.0.1:1/{name}",
}


def _url(installation: Installation, place: str) -> str:
    host, _, name = installation.administrator.rpartition("@")[2].partition("/")
    return "postgresql://" + PLACES[place].format(login=LOGIN, password=PASSWORD, host=host, name=name)


@pytest.mark.parametrize(
    ("place", "code", "says"),
    [
        ("wrong password", 4, "Are user and password"),
        ("no password", 4, "Are user and password"),
        ("unknown login", 4, "Are user and password"),
        ("unknown database", 4, "Create it, or correct its name"),
        ("absent server", 4, "Is it running"),
    ],
)
def test_a_refused_connection_is_explained(installation: Installation, place: str, code: int, says: str) -> None:
    elsewhere = functools.partial(installation, GOALWORKER_DATABASE__URL=_url(installation, place))
    for command, outcome in every_command.outcomes(FEW, elsewhere).items():
        assert_refused(command, outcome, code, says)
        assert says == "Is it running" or "Is it running" not in outcome.err + outcome.out


async def _readiness(url: str) -> tuple[str, str]:
    """Return a service's sentence about this database, and the event that it logs."""
    pool = connections.engine(url, pool_size=1, statement_timeout_seconds=5, application="test")
    health = ops_port.Health(["database", "migrations"])
    try:
        with structlog.testing.capture_logs() as said:
            await migrations.probe(pool, url, health.set)
    finally:
        await pool.dispose()
    return health.problems["database"], "".join(line["event"] for line in said)


@pytest.mark.parametrize("place", PLACES)
async def test_a_refused_login_is_distinguished_from_an_outage(installation: Installation, place: str) -> None:
    sentence, event = await _readiness(_url(installation, place))
    is_absent = place == "absent server"
    assert ("cannot be reached: the connection was refused" in sentence) is is_absent
    assert ("answers, but cannot be used: " in sentence) is not is_absent
    assert event == ("database_away" if is_absent else "database_refused")


@pytest.mark.parametrize("refusal", [name for name in REFUSALS if name != "no roles"])
def test_a_missing_right_is_distinguished_from_an_outage(installation: Installation, refusal: str) -> None:
    there = REFUSALS[refusal]
    with installation.refusing(there.refuse, there.allow):
        sentence, event = support.run(_readiness(installation.settings["GOALWORKER_DATABASE__URL"]))
    assert "cannot be used: " in sentence
    assert "cannot be reached" not in sentence
    assert event == ("database_away" if refusal in PASSES else "database_refused")


# Cases that say nothing about rights.
PASSES = ("read-only", "no connection left")


def test_an_upgrade_with_an_empty_search_path_says_what_to_set(installation: Installation, postgres_url: str) -> None:
    with support.fresh_database(postgres_url) as name:
        url = support.with_database(postgres_url, name)
        support.run(support.execute(url, f"ALTER ROLE postgres IN DATABASE {name} SET search_path = ''"))
        outcome = installation("db upgrade", GOALWORKER_DATABASE__URL=url)
    shells.assert_one_sentence(outcome, 1, "search_path", "SET search_path = public")


async def test_a_missing_role_is_not_blamed_on_a_record(database_url: str) -> None:
    pool = connections.engine(database_url, pool_size=1, statement_timeout_seconds=5, application="test")
    try:
        with pytest.raises(
            RefusedError, match=r'role "goalworker_nobody" does not exist\. Run `goalworker db upgrade`'
        ):
            async with connections.transaction(pool, "goalworker_nobody", "facts"):
                raise AssertionError
    finally:
        await pool.dispose()
