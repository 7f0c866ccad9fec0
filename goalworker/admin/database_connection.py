"""Connection of a command to the database; its errors say what to do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext import asyncio as sa_async

from goalworker import config, errors
from goalworker.admin import own_tenants
from goalworker.postgres import connections, database_errors, migrations, tables

T = TypeVar("T")


@contextlib.asynccontextmanager
async def pool(settings: config.Settings, *, migrated: bool = True) -> AsyncIterator[sa_async.AsyncEngine]:
    """Yield a pool; GoalworkerError where the database cannot be used or, if `migrated`, its schema is behind."""
    url = settings.database_url()
    timeout_seconds = settings.database.statement_timeout_seconds
    opened = connections.engine(url, pool_size=2, statement_timeout_seconds=timeout_seconds, application="goalworker")
    try:
        with database_errors.explain_errors(url):
            if migrated and (problem := await migrations.problem(opened)):
                raise errors.MigrationsBehindError(problem)
            yield opened
    finally:
        await opened.dispose()


@contextlib.asynccontextmanager
async def transaction(settings: config.Settings) -> AsyncIterator[connections.Connection]:
    """Open a transaction as the worker's role; raises the same errors as pool()."""
    async with pool(settings) as engine, connections.transaction(engine, tables.WORKER_ROLE, "cli") as connection:
        yield connection


def run(
    settings: config.Settings, work: Callable[[sa_async.AsyncEngine], Awaitable[T]], *, tenant: str | None = None
) -> T:
    """Run a command's work with a pool, and return its result; errors as with `pool`.

    tenant is the one that the work is about: ForeignTenantError if it is another cell's.
    """

    async def run_work() -> T:
        async with pool(settings) as opened:
            if tenant is not None:
                await own_tenants.check(opened, settings, tenant)
            return await work(opened)

    return asyncio.run(run_work())
