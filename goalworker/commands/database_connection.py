"""A way into the database that says, where it is closed, what to do."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker import database, errors, migrate
from goalworker import settings as all_settings
from goalworker.commands import common


@contextlib.asynccontextmanager
async def pool(settings: all_settings.Settings, *, migrated: bool = True) -> AsyncIterator[sa_async.AsyncEngine]:
    """Yield a pool; where the database cannot be used, or its schema is behind, the error says what to do."""
    url = settings.database_url()
    timeout_seconds = settings.database.statement_timeout_seconds
    opened = database.engine(url, pool_size=2, statement_timeout_seconds=timeout_seconds, application="goalworker")
    try:
        with explained(url):
            if migrated and (problem := await migrate.problem(opened)):
                raise errors.MigrationsBehindError(problem)
            yield opened
    finally:
        await opened.dispose()


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn the database's foreseeable errors into a DependencyError that names it; any other is a bug and passes."""
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, sa.exc.SQLAlchemyError) as error:
        origin = _origin(error)
        if database.is_later(error) or _is_refused(origin):
            raise database.explained(url, RuntimeError(common.first_line(origin))) from error
        raise


def _is_refused(error: BaseException) -> bool:
    return database.is_refused(error) or isinstance(error, asyncpg.InsufficientPrivilegeError)


def _origin(error: BaseException) -> BaseException:
    """The driver's own error, which SQLAlchemy wraps twice."""
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error
