"""What the tests on PostgreSQL share: two ways into the test's own database."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker import database


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[sa_async.AsyncEngine]:
    pool = database.engine(database_url, pool_size=12, statement_timeout_seconds=30, application="test")
    yield pool
    await pool.dispose()


@pytest.fixture
async def administrator(database_url: str) -> AsyncIterator[database.Connection]:
    """Who row-level security does not hold for."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()
