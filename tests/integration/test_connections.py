"""Connections to the database without a pooler."""

from typing import Any

from sqlalchemy.ext import asyncio as sa_async


async def test_a_direct_connection_keeps_its_prepared_statements(pool: sa_async.AsyncEngine) -> None:
    async with pool.connect() as connection:
        raw: Any = await connection.get_raw_connection()
        assert raw.dbapi_connection._prepared_statement_cache is not None
