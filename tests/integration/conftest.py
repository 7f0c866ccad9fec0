"""Connections to a test's own database, and shells with or without database and broker."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections
from tests.integration import statements
from tests.kit import shells, support
from tests.kit.cells import two_databases
from tests.kit.forker import Forker
from tests.kit.shells import Shell


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[sa_async.AsyncEngine]:
    pool = connections.engine(database_url, pool_size=12, statement_timeout_seconds=30, application="test")
    statements.watch(pool)
    await connections.ping(pool)
    yield pool
    await pool.dispose()


@pytest.fixture
async def administrator(database_url: str) -> AsyncIterator[connections.Connection]:
    """Superuser's connection, to which row-level security does not apply."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def cell_databases(postgres_url: str, template_database: str) -> Iterator[tuple[str, str]]:
    with two_databases(postgres_url, template_database) as urls:
        yield urls


@pytest.fixture
async def pools(cell_databases: tuple[str, str]) -> AsyncIterator[tuple[sa_async.AsyncEngine, sa_async.AsyncEngine]]:
    opened = []
    for url in cell_databases:
        pool = connections.engine(url, pool_size=12, statement_timeout_seconds=30, application="test")
        statements.watch(pool)
        opened.append(pool)
    yield opened[0], opened[1]
    for pool in opened:
        await pool.dispose()


@pytest.fixture
async def administrators(
    cell_databases: tuple[str, str],
) -> AsyncIterator[tuple[connections.Connection, connections.Connection]]:
    """Superusers' connections to both databases."""
    async with AsyncExitStack() as stack:
        opened = []
        for url in cell_databases:
            connection = await asyncpg.connect(url)
            stack.push_async_callback(connection.close)
            opened.append(connection)
        yield opened[0], opened[1]


@pytest.fixture
def shell(tmp_path: Path, forker: Forker) -> Shell:
    """Shell without any settings."""
    return Shell(tmp_path, {}, forker)


@pytest.fixture
def with_database(shell: Shell, database_url: str) -> Shell:
    return shell.set({"GOALWORKER_DATABASE__URL": database_url})


@pytest.fixture
def with_kafka(shell: Shell, bootstrap_servers: str, topics: dict[str, str]) -> Shell:
    return shell.set(shells.variables_of(bootstrap_servers, topics))


@pytest.fixture
def with_both(with_kafka: Shell, database_url: str) -> Shell:
    return with_kafka.set({"GOALWORKER_DATABASE__URL": database_url})


@pytest.fixture
def absent_topics(bootstrap_servers: str) -> Iterator[dict[str, str]]:
    """Names of topics that do not exist unless the test creates them."""
    names = support.fresh_topics()
    yield names
    support.run(support.delete_topics(bootstrap_servers, names))
