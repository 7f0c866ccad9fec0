"""A login without a superuser's rights moves tenants, or is told which right it lacks, before anything is changed."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final
from urllib import parse

import asyncpg
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker import embedded
from goalworker.admin import move_sides
from goalworker.postgres import connections
from goalworker.stores.tenant_moves import MoveRefusedError
from tests.integration import moving, statements, world
from tests.integration.moving import Cells
from tests.integration.scenes import ONE, TENANT, logic, started, tagged
from tests.kit import every_command, support
from tests.kit.forker import Forker, Outcome
from tests.kit.shells import Shell

pytestmark = pytest.mark.unmeasured

# A login that does everything, and the three that the deployment's documentation names; SINGLE may be no superuser.
SINGLE, OWNER, WORKER, API = "acme", "acme_owner", "acme worker", "acme_api"
DATABASES: Final = {"first": SINGLE, "second": SINGLE, "split": OWNER}


@dataclass(frozen=True, slots=True)
class Server:
    """A server with two databases of one login, and one whose work is split between three."""

    address: str

    def administrator(self, database: str) -> str:
        return support.with_database(self.address, database)

    def url(self, login: str, database: str) -> str:
        return f"postgresql://{parse.quote(login)}:pw@{self.administrator(database).rpartition('@')[2]}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> Iterator[Server]:
    """Set up on a server of its own, since roles belong to the whole server."""
    shell = Shell(tmp_path_factory.mktemp("rights"), {}, forker)
    with embedded.postgres() as running:
        there = Server(running.address)
        logins = [f"CREATE ROLE \"{login}\" LOGIN PASSWORD 'pw'" for login in (SINGLE, OWNER, WORKER, API)]
        made = [f'CREATE DATABASE {name} OWNER "{owner}"' for name, owner in DATABASES.items()]
        support.run(support.execute(there.address, *logins, *made))
        for users in ((SINGLE, SINGLE, SINGLE), (OWNER, WORKER, API)):
            words = zip(("--migrate-user", "--worker-user", "--api-user"), users, strict=True)
            roles = shell("db", "roles", *(word for pair in words for word in pair)).out
            # Of the second installation on a server, the roles are there already.
            roles = re.sub("CREATE ROLE [^;]*;", "", roles) if users[0] == OWNER else roles
            support.run(support.execute(there.administrator("split" if users[0] == OWNER else "first"), roles))
        for name, owner in DATABASES.items():
            assert shell("db", "upgrade", GOALWORKER_DATABASE__URL=there.url(owner, name)).code == 0
        yield there


@pytest.fixture
async def opened(server: Server) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def _pool(stack: AsyncExitStack, url: str) -> sa_async.AsyncEngine:
    pool = connections.engine(url, pool_size=12, statement_timeout_seconds=30, application="test")
    statements.watch(pool)
    stack.push_async_callback(pool.dispose)
    return pool


async def _administrator(stack: AsyncExitStack, server: Server, database: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(server.administrator(database))
    stack.push_async_callback(connection.close)
    return connection


async def test_a_login_that_owns_the_tables_and_has_the_roles_moves_tenants(
    server: Server, opened: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await _administrator(opened, server, name) for name in ("first", "second")]
    cells = Cells((await _pool(opened, server.url(SINGLE, "first")), await _pool(opened, server.url(SINGLE, "second"))))
    moving.install(monkeypatch, cells)
    await world.install(first, [ONE], logic("any"))
    await cells.write_cells()
    cells.produce(started(0), tagged("t1", 3))
    await cells.work()
    kept = "SELECT (SELECT count(*) FROM achievements), (SELECT count(*) FROM goals), (SELECT count(*) FROM goal_hits)"
    before = await first.fetchrow(kept)
    await cells.give_up(TENANT)
    await cells.move(TENANT)
    assert await second.fetchrow(kept) == before
    await cells.move(TENANT, source=1)
    assert (await first.fetchrow(kept))[:2] == before[:2]
    assert (await second.fetchrow(kept))[:2] == (0, 0)


async def _refusal(stack: AsyncExitStack, url: str, name: str) -> str | None:
    pool = await _pool(stack, url)
    try:
        await move_sides.read(pool, moving.Cells((pool, pool)).settings(0), TENANT, name)
    except MoveRefusedError as refused:
        return str(refused)
    return None


@pytest.mark.parametrize("name", [move_sides.THIS, move_sides.THAT])
@pytest.mark.parametrize("login", [WORKER, API])
async def test_a_login_that_does_not_own_the_tables_is_told_to_use_the_one_that_does(
    server: Server, opened: AsyncExitStack, login: str, name: str
) -> None:
    said = await _refusal(opened, server.url(login, "split"), name)
    assert said is not None
    assert f"may not read and write every table of {name}, such as " in said
    assert "use the login that owns the tables, as for `goalworker db upgrade`" in said


@pytest.mark.parametrize(
    ("login", "database", "take"),
    [
        (OWNER, "split", "SELECT"),
        (SINGLE, "first", "REVOKE goalworker_worker FROM acme"),
        (SINGLE, "first", "GRANT goalworker_worker TO acme WITH INHERIT FALSE"),
        (SINGLE, "first", "GRANT goalworker_worker TO acme WITH SET FALSE"),
        (SINGLE, "first", "ALTER DATABASE first OWNER TO postgres; REVOKE TEMPORARY ON DATABASE first FROM PUBLIC"),
    ],
)
async def test_an_owner_that_lacks_a_right_is_told_what_to_run_and_can_move_then(
    server: Server, opened: AsyncExitStack, login: str, database: str, take: str
) -> None:
    administrator = await _administrator(opened, server, database)
    await administrator.execute(take)
    said = await _refusal(opened, server.url(login, database), move_sides.THAT)
    assert said is not None
    assert move_sides.THAT in said
    found = re.search("let an administrator run `([^`]+)`", said)
    assert found is not None, said
    await administrator.execute(found[1])
    assert await _refusal(opened, server.url(login, database), move_sides.THAT) is None


COMMANDS: Final = ["cells", *every_command.needing(every_command.DATABASE)]
NOT_ENDING: Final = {"run", "api", "insight"}


@pytest.mark.parametrize("login", [SINGLE, OWNER, WORKER, API])
def test_every_command_works_or_says_in_a_sentence_what_its_login_lacks(
    server: Server, with_kafka: Shell, topics: dict[str, str], login: str
) -> None:
    shell = with_kafka.set({"GOALWORKER_DATABASE__URL": server.url(login, "second" if login == SINGLE else "split")})

    def call(name: str) -> Outcome:
        if name == "cells":
            return shell(name)
        return shell(*every_command.words(name, topics), stdin=every_command.USES[name].stdin)

    for name, outcome in every_command.outcomes((name for name in COMMANDS if name not in NOT_ENDING), call).items():
        assert outcome.err.count("\n") <= 1, (name, outcome)
        if "permission denied" in outcome.err:
            assert login != SINGLE, (name, outcome)
            assert "Use the login that has this role" in outcome.err, (name, outcome)
