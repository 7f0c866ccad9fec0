"""A way into the database that says, where it is closed, what to do."""

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.ext import asyncio as sa_async

from goalworker import config, errors
from goalworker.postgres import connections, database_errors, migrations


@contextlib.asynccontextmanager
async def pool(settings: config.Settings, *, migrated: bool = True) -> AsyncIterator[sa_async.AsyncEngine]:
    """Yield a pool; where the database cannot be used, or its schema is behind, the error says what to do."""
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
