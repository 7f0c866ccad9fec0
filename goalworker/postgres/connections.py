"""Connections to PostgreSQL: the pool, and transactions under a role."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, cast
from urllib import parse

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async
from sqlalchemy.util import await_only

from goalworker import metrics
from goalworker.errors import GoalworkerError, SettingsError
from goalworker.postgres import database_errors, pooler, tables
from goalworker.postgres.database_errors import driver_error, is_transient

# Seconds to connect, and to wait for a connection of the pool; then TimeoutError, which is transient.
CONNECT_TIMEOUT_SECONDS: Final = 5
# Seconds that a statement waits for a lock; then LockNotAvailableError, which is transient.
LOCK_TIMEOUT_SECONDS: Final = 2
# Seconds after which the server ends a transaction that its client left open, and frees its locks.
IDLE_IN_TRANSACTION_SECONDS: Final = 5

# Keys of advisory locks: the first letters of their names. One writer of goals at a time (design, Goal freshness), one
# sweep of the outbox, one deletion of old rows, one process that makes and drops days of history, one that analyzes.
GOAL_LOCK: Final = 0x676F616C
SWEEP_LOCK: Final = 0x73776565
RETENTION_LOCK: Final = 0x72657465
HISTORY_LOCK: Final = 0x68697374
STATISTICS_LOCK: Final = 0x73746174


# The time by the database's clock, in seconds since 1970.
SELECT_NOW_SECONDS: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"


class Connection(Protocol):
    """Part of the driver's connection that the hot statements use."""

    async def execute(self, query: str, *args: object) -> str: ...
    async def fetch(self, query: str, *args: object) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: object) -> Any: ...
    async def fetchval(self, query: str, *args: object) -> Any: ...
    async def copy_records_to_table(
        self, table_name: str, *, records: Iterable[tuple[object, ...]], columns: Sequence[str]
    ) -> str: ...
    async def copy_to_table(self, table_name: str, *, source: io.BytesIO, columns: Sequence[str]) -> str: ...
    async def copy_from_query(self, query: str, *args: object, output: Callable[[bytes], Awaitable[None]]) -> str: ...
    def cursor(self, query: str, *args: object, prefetch: int = ...) -> Any: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...


def engine(url: str, *, pool_size: int, statement_timeout_seconds: float, application: str) -> sa_async.AsyncEngine:
    """Return an engine whose connections never wait without a limit (hazards 14 and 15).

    SettingsError if the URL names a file that cannot be read.
    """
    _check_files(url)
    settings = session_settings(statement_timeout_seconds)
    opener = pooler.ConnectionOpener(
        # The driver itself parses the URL, whose parameters it takes as psql does: sslmode, sslrootcert, ...
        url,
        settings,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=statement_timeout_seconds + 5,
        server_settings={"application_name": application},
        target_session_attrs="read-write",
    )

    def connect() -> Any:
        attempt = await_only(_try_to_open(opener))

        async def opened() -> asyncpg.Connection:
            if isinstance(attempt, Exception):
                raise attempt  # here, where SQLAlchemy wraps it as it wraps every error of the driver
            return attempt

        # A pooled connection has one unnamed statement, which the next one replaces: none may be cached.
        cache = {"prepared_statement_cache_size": 0} if pooler.is_pooled(attempt) else {}
        return made.sync_engine.dialect.loaded_dbapi.connect(async_creator_fn=opened, **cache)

    made = sa_async.create_async_engine(
        "postgresql+asyncpg://",
        creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        pool_recycle=1800,
        hide_parameters=True,
    )
    return made


async def _try_to_open(opener: pooler.ConnectionOpener) -> asyncpg.Connection | Exception:
    try:
        return await opener.open()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        return error


def session_settings(statement_timeout_seconds: float) -> dict[str, str]:
    """Return the settings that every transaction relies on, as `pg_settings` writes them."""
    return {
        "statement_timeout": f"{int(statement_timeout_seconds * 1000)}",
        "lock_timeout": f"{LOCK_TIMEOUT_SECONDS * 1000}",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS * 1000}",
        "timezone": "UTC",
        "default_transaction_isolation": "read committed",  # locks need it: a statement sees what was committed before
    }


@asynccontextmanager
async def transaction(
    pool: sa_async.AsyncEngine, role: str, operation: str, *, first: str = ""
) -> AsyncIterator[Connection]:
    """Run one transaction under a role, on the driver's connection; errors as with `begin`."""
    async with begin(pool, role, operation, first) as (connection, _):
        yield connection


@asynccontextmanager
async def begin(
    pool: sa_async.AsyncEngine, role: str, operation: str, first: str
) -> AsyncIterator[tuple[Connection, str]]:
    """Run one transaction as `transaction` does; `first` is SQL sent along with BEGIN, and its tag is yielded too.

    Each statement of `first` sees rows committed before it began, as if it were sent alone. Any error rolls back, and a
    transient one also drops the connection, which may be the cause.
    """
    async with _driver_connection(pool, operation) as driver:
        tag = await driver.execute(f"BEGIN; SET LOCAL ROLE {role}; {first}")
        yield driver, tag
        await driver.execute("COMMIT")


async def execute_in_one_trip(pool: sa_async.AsyncEngine, role: str, operation: str, sql: str) -> None:
    """Run one transaction, whose SQL is known beforehand, in one round trip; errors as with `begin`."""
    async with _driver_connection(pool, operation) as driver:
        await driver.execute(f"BEGIN; SET LOCAL ROLE {role}; {sql}; COMMIT")


@asynccontextmanager
async def _driver_connection(pool: sa_async.AsyncEngine, operation: str) -> AsyncIterator[Connection]:
    with metrics.db_transaction_duration_seconds.labels(operation=operation).time():
        async with pool.connect() as connection:
            driver = await driver_of(connection)
            try:
                yield driver
            except BaseException as error:
                await _roll_back_or_drop(connection, driver, error)
                _raise_missing_role(error)
                raise


async def driver_of(connection: sa_async.AsyncConnection) -> Connection:
    """Return the driver's connection, for statements in the transaction that is open on it."""
    return cast("Connection", (await connection.get_raw_connection()).driver_connection)


def _raise_missing_role(error: BaseException) -> None:
    # PostgreSQL classifies it with errors of content, for which records are dead-lettered.
    if refused := database_errors.missing_role(driver_error(error)):
        raise refused from error


@asynccontextmanager
async def tenant_transaction(
    pool: sa_async.AsyncEngine, tenant_id: str, operation: str
) -> AsyncIterator[sa_async.AsyncConnection]:
    """Run one transaction as the API's role, which sees only this tenant; errors as with `transaction`."""
    with metrics.db_transaction_duration_seconds.labels(operation=operation).time():
        async with pool.connect() as connection:
            # Taken now: SQLAlchemy forgets the driver's connection as soon as an execution is cancelled.
            driver = await driver_of(connection)
            try:
                await connection.execute(_AS_TENANT, {"role": tables.API_ROLE, "tenant_id": tenant_id})
                yield connection
                await connection.commit()
            except BaseException as error:
                await _roll_back_or_drop(connection, driver, error)
                _raise_missing_role(error)
                raise


Database = sa_async.AsyncEngine | sa_async.AsyncConnection
"""A pool, or the connection of a tenant's transaction, of which the work becomes a part."""


@asynccontextmanager
async def part_of_tenant_transaction(
    database: Database, tenant_id: str, operation: str
) -> AsyncIterator[sa_async.AsyncConnection]:
    """Yield the connection of a transaction that is under way, or run one as tenant_transaction() does."""
    if isinstance(database, sa_async.AsyncConnection):
        yield database
        return
    async with tenant_transaction(database, tenant_id, operation) as connection:
        yield connection


# As SET LOCAL, but in one round trip and with the tenant as a parameter.
_AS_TENANT: Final = sa.text(
    f"SELECT set_config('role', :role, true), set_config('{tables.TENANT_SETTING}', :tenant_id, true)"
)


# Errors after which the connection still works, if they are not transient.
_CLEAN_ERRORS: Final = (asyncpg.PostgresError, sa.exc.DBAPIError, GoalworkerError)


async def _roll_back_or_drop(connection: sa_async.AsyncConnection, driver: Connection, error: BaseException) -> None:
    # A connection that was cancelled or failed may be in any state: it is kept only after a clean error.
    if isinstance(error, _CLEAN_ERRORS) and not is_transient(error) and not driver.is_closed():
        await (connection.rollback() if connection.in_transaction() else driver.execute("ROLLBACK"))
        return
    driver.terminate()
    await connection.invalidate()


async def ping(pool: sa_async.AsyncEngine) -> None:
    """Raise an error if the database does not answer a query."""
    async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS), pool.connect() as connection:
        await connection.execute(sa.text("SELECT 1"))


async def now(pool: sa_async.AsyncEngine) -> datetime:
    """Return the time by the database's clock."""
    async with pool.connect() as connection:
        time: datetime = (await connection.execute(sa.text("SELECT clock_timestamp()"))).scalar_one()
    return time


def pool_usage(pool: sa_async.AsyncEngine) -> tuple[int, int]:
    """Return how many connections of the pool are idle, and how many are in use."""
    queue = cast("sa.QueuePool", pool.pool)
    return queue.checkedin(), queue.checkedout()


def measure_pool(pool: sa_async.AsyncEngine) -> None:
    """Set the metric of the pool's connections."""
    idle, in_use = pool_usage(pool)
    metrics.db_pool_connections.labels(state="idle").set(idle)
    metrics.db_pool_connections.labels(state="in_use").set(in_use)


def _check_files(url: str) -> None:
    # The driver would not name the file, and would fail only when it connects.
    query = dict(parse.parse_qsl(parse.urlsplit(url).query))
    for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        try:
            if path := query.get(name):
                Path(path).read_bytes()
        except OSError as error:
            raise SettingsError(
                f"{name}={path} in GOALWORKER_DATABASE__URL cannot be read: {error.strerror}; name a PEM file"
            ) from None
