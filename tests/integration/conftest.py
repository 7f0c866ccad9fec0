"""Connections to a test's own database, and shells with or without database and broker."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections
from tests.integration import statements
from tests.kit import shells, support
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
