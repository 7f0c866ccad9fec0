"""Workers and commands through a real PgBouncer, which drops session settings."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import embedded
from goalworker.postgres import connections, migrations, pooler, tables
from tests.kit import clients, flood, pgbouncer, support, worker_process
from tests.kit.forker import Forker

pytestmark = pytest.mark.unmeasured

RUNS = 100
TIMEOUT_SECONDS = 7


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    if pgbouncer.PROGRAM is None:
        pytest.skip("no pgbouncer is here (Debian's package `pgbouncer` brings it)")


@pytest.fixture(scope="module")
def postgres() -> Iterator[embedded.Server]:
    """Server of this module's own."""
    with embedded.postgres() as server:
        yield server


@pytest.fixture(scope="module")
def shared(
    bootstrap_servers: str, postgres: embedded.Server, forker: Forker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[worker_process.Installation]:
    folder = tmp_path_factory.mktemp("pgbouncer")
    with support.fresh_database(postgres.address) as template:
        migrations.upgrade(support.with_database(postgres.address, template))
        with worker_process.installation(
            bootstrap_servers, postgres.address, template, folder, forker=forker
        ) as installation:
            yield installation


@pytest.fixture(scope="module", params=["transaction", "session"])
def bouncer(request: pytest.FixtureRequest, shared: worker_process.Installation) -> Iterator[embedded.Server]:
    """PgBouncer that refuses unknown startup parameters, which is its default."""
    with pgbouncer.running(shared.database_url, request.param) as server:
        yield server


@pytest.fixture(params=["", pgbouncer.REMEDY], ids=["refused", "dropped"])
def address(
    request: pytest.FixtureRequest, bouncer: embedded.Server, shared: worker_process.Installation
) -> Iterator[str]:
    """URL of a PgBouncer that refuses startup parameters, or of one that ignores them silently."""
    if not request.param:
        yield bouncer.address
        return
    mode = "session" if "pool_mode = session" in (bouncer.folder / "pgbouncer.ini").read_text() else "transaction"
    with pgbouncer.running(shared.database_url, mode, ignored=request.param) as server:
        yield server.address


@pytest.fixture
async def pool(address: str) -> AsyncIterator[AsyncEngine]:
    opened = _engine(address)
    yield opened
    await opened.dispose()


def _engine(url: str) -> AsyncEngine:
    return connections.engine(url, pool_size=3, statement_timeout_seconds=TIMEOUT_SECONDS, application="test")


async def _limits(connection: connections.Connection) -> dict[str, str]:
    names = [name.removeprefix("default_") for name in connections.session_settings(TIMEOUT_SECONDS)]
    return {name: await connection.fetchval(f"SHOW {name}") for name in names}


HOLDING = {
    "statement_timeout": "7s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "5s",
    "timezone": "UTC",
    "transaction_isolation": "read committed",
}


@pytest.mark.real_world("logto#8065", "PgBouncer refuses statement_timeout as a startup parameter, or drops it")
async def test_limits_hold_in_each_transaction(pool: AsyncEngine, shared: worker_process.Installation) -> None:
    name = shared.database_url.rpartition("/")[2]
    await support.execute(
        shared.database_url, f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable'
    )
    try:
        for _ in range(3):
            async with connections.transaction(pool, tables.WORKER_ROLE, "cli") as connection:
                assert await _limits(connection) == HOLDING
            async with connections.tenant_transaction(pool, "acme", "keys") as session:
                rows = await session.execute(sa.text("SELECT current_setting('statement_timeout')"))
                assert rows.scalar_one() == "7s"
    finally:
        await support.execute(shared.database_url, f'ALTER DATABASE "{name}" RESET default_transaction_isolation')


async def test_a_pooler_is_detected_even_if_its_server_has_all_limits(
    pool: AsyncEngine, shared: worker_process.Installation
) -> None:
    name = shared.database_url.rpartition("/")[2]
    limits = connections.session_settings(TIMEOUT_SECONDS)
    await support.execute(
        shared.database_url, *(f"ALTER DATABASE \"{name}\" SET {each} = '{value}'" for each, value in limits.items())
    )
    try:
        async with connections.transaction(pool, tables.WORKER_ROLE, "cli") as connection:
            assert pooler.is_pooled(connection)
    finally:
        await support.execute(shared.database_url, f'ALTER DATABASE "{name}" RESET ALL')


async def test_a_direct_connection_sends_no_extra_statements(shared: worker_process.Installation) -> None:
    pool = _engine(shared.database_url)
    async with connections.transaction(pool, tables.WORKER_ROLE, "cli") as connection:
        assert type(connection) is asyncpg.Connection
        assert await _limits(connection) == HOLDING
    await pool.dispose()


@pytest.mark.real_world("logto#8065", "a statement through PgBouncer is ended by its timeout")
async def test_a_statement_is_cancelled_after_its_timeout(address: str) -> None:
    pool = connections.engine(address, pool_size=1, statement_timeout_seconds=0.2, application="test")
    with pytest.raises(asyncpg.QueryCanceledError):
        await connections.execute_in_one_trip(pool, tables.WORKER_ROLE, "cli", "SELECT pg_sleep(5)")
    await pool.dispose()


@pytest.mark.real_world("asyncpg#1013", "prepared statements of many clients in PgBouncer's transaction mode")
async def test_concurrent_transactions_do_not_share_prepared_statements(address: str) -> None:
    pools = [_engine(address) for _ in range(3)]

    async def ask(number: int) -> tuple[int, list[int]]:
        async with connections.transaction(pools[number % 3], tables.WORKER_ROLE, "cli") as connection:
            cursor = await connection.cursor(f"SELECT generate_series({number}, {number} + 9)")
            first = [row[0] for row in await cursor.fetch(5)]
            return await connection.fetchval(f"SELECT $1::int + {number}", number), first

    answers = await asyncio.gather(*(ask(number) for number in range(60)))
    assert answers == [(2 * number, list(range(number, number + 5))) for number in range(60)]
    await asyncio.gather(*(pool.dispose() for pool in pools))


def test_migrations_run_through_pgbouncer_and_leave_no_lock(
    address: str, shared: worker_process.Installation, tmp_path: Path
) -> None:
    with support.fresh_database(shared.database_url) as name:
        url = support.with_database(address, name)
        assert migrations.upgrade(url) == migrations.head()
        migrations.downgrade(url)
        assert migrations.upgrade(url) == migrations.head()
        pool = _engine(support.with_database(shared.database_url, name))
        assert support.run(_locks(pool)) == 0


async def _locks(pool: AsyncEngine) -> int:
    async with pool.connect() as connection:
        rows = await connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        found = int(rows.scalar_one())
    await pool.dispose()
    return found


def test_doctor_says_that_limits_hold_through_a_pooler(address: str, shared: worker_process.Installation) -> None:
    asked = shared.call("doctor", DATABASE__URL=address)
    assert "set in each transaction, because of a pooler" in asked.out
    assert asked.err == ""


async def _is(worker: worker_process.Worker, path: str, status: int) -> bool:
    return worker.answers(path) == status


@pytest.mark.real_world("logto#8065", "a worker through PgBouncer, PostgreSQL and PgBouncer restarted meanwhile")
async def test_a_worker_loses_nothing_while_postgresql_and_pgbouncer_restart(
    bouncer: embedded.Server, postgres: embedded.Server, shared: worker_process.Installation
) -> None:
    async with shared.worker(DATABASE__URL=bouncer.address) as worker, clients.connect(shared) as client:
        stream = await flood.flood(client, f"through {bouncer.port}", RUNS)
        third = len(stream.records) // 3
        await client.send(*stream.records[:third])
        for server, records in (
            (postgres, stream.records[third : 2 * third]),
            (bouncer, stream.records[2 * third :]),
        ):
            server.kill()
            try:
                await clients.until(lambda: _is(worker, "/healthz/ready", 503))
                await client.send(*records)
            finally:
                server.start()
            await clients.until(lambda: _is(worker, "/healthz/ready", 200))
        await stream.check(client)
        assert worker.is_running
        assert "Traceback" not in worker.log.read_text()
