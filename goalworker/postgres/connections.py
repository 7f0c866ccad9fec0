"""Connections to PostgreSQL: the pool, transactions under a role, and which errors mean "later"."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, cast
from urllib import parse

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async
from sqlalchemy.util import await_only

from goalworker import metrics, outages
from goalworker.errors import GoalworkerError, SettingsError
from goalworker.postgres import database_errors, pooler, tables
from goalworker.postgres.database_errors import driver_error, is_login_refused, is_permanent, is_transient

CONNECT_TIMEOUT_SECONDS: Final = 5


LOCK_TIMEOUT_SECONDS: Final = 2


IDLE_IN_TRANSACTION_SECONDS: Final = 5


GOAL_LOCK: Final = 0x676F616C  # "goal": the one advisory lock of an installation (design, Goal freshness)


SWEEP_LOCK: Final = 0x73776565


RETENTION_LOCK: Final = 0x72657465


class Connection(Protocol):
    """What of the driver's connection the hot statements use."""

    async def execute(self, query: str, *args: object) -> str: ...
    async def fetch(self, query: str, *args: object) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: object) -> Any: ...
    async def fetchval(self, query: str, *args: object) -> Any: ...
    async def copy_records_to_table(
        self, table_name: str, *, records: Iterable[tuple[object, ...]], columns: Sequence[str]
    ) -> str: ...
    def cursor(self, query: str, *args: object, prefetch: int = ...) -> Any: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...


def engine(url: str, *, pool_size: int, statement_timeout_seconds: float, application: str) -> sa_async.AsyncEngine:
    """Return an engine whose connections never wait without a limit (hazards 14 and 15).

    SettingsError where the URL names a file that cannot be read.
    """
    _check_files(url)
    limits = session_limits(statement_timeout_seconds)
    opener = pooler.ConnectionOpener(
        # By the driver itself, which takes the parameters of a URL as psql does: sslmode, sslrootcert, ...
        url,
        limits,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=statement_timeout_seconds + 5,
        server_settings={"application_name": application},
        target_session_attrs="read-write",
    )

    def connect() -> Any:
        attempt = await_only(_attempted(opener.open()))

        async def opened() -> asyncpg.Connection:
            if isinstance(attempt, Exception):
                raise attempt  # from here, so that it is wrapped as every error of the driver is
            return attempt

        # Without a name, a statement is replaced by the next one: none may be kept for later.
        kept = {"prepared_statement_cache_size": 0} if isinstance(attempt, pooler.PooledConnection) else {}
        return made.sync_engine.dialect.loaded_dbapi.connect(async_creator_fn=opened, **kept)

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


async def _attempted(opening: Awaitable[asyncpg.Connection]) -> asyncpg.Connection | Exception:
    try:
        return await opening
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        return error


def session_limits(statement_timeout_seconds: float) -> dict[str, str]:
    """Return what every transaction relies on, as `pg_settings` writes it."""
    return {
        "statement_timeout": f"{int(statement_timeout_seconds * 1000)}",
        "lock_timeout": f"{LOCK_TIMEOUT_SECONDS * 1000}",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS * 1000}",
        "timezone": "UTC",
        "default_transaction_isolation": "read committed",  # the locks rely on it: each statement sees what is new
    }


@asynccontextmanager
async def transaction(
    pool: sa_async.AsyncEngine, role: str, operation: str, *, first: str = ""
) -> AsyncIterator[Connection]:
    """Run one transaction under a role, on the driver's connection; errors as with `begun`."""
    async with begin(pool, role, operation, first) as (connection, _):
        yield connection


@asynccontextmanager
async def begin(
    pool: sa_async.AsyncEngine, role: str, operation: str, first: str
) -> AsyncIterator[tuple[Connection, str]]:
    """Run one transaction as `transaction` does; first is SQL sent along with BEGIN, and the second result its tag.

    Each statement of first sees what was committed before it began, as if it were sent alone. Any error rolls back, and
    one that is for later also drops the connection, which may be the cause.
    """
    async with _driver(pool, operation) as driver:
        tag = await driver.execute(f"BEGIN; SET LOCAL ROLE {role}; {first}")
        yield driver, tag
        await driver.execute("COMMIT")


async def execute_in_one_trip(pool: sa_async.AsyncEngine, role: str, operation: str, sql: str) -> None:
    """Run one transaction under a role that is known beforehand, in one round trip; errors as with `begun`."""
    async with _driver(pool, operation) as driver:
        await driver.execute(f"BEGIN; SET LOCAL ROLE {role}; {sql}; COMMIT")


@asynccontextmanager
async def _driver(pool: sa_async.AsyncEngine, operation: str) -> AsyncIterator[Connection]:
    with metrics.db_transaction_duration_seconds.labels(operation=operation).time():
        async with pool.connect() as connection:
            raw = await connection.get_raw_connection()
            driver = cast("Connection", raw.driver_connection)
            try:
                yield driver
            except BaseException as error:
                await _abandon(connection, driver, error)
                _raise_missing_role(error)
                raise


def _raise_missing_role(error: BaseException) -> None:
    # PostgreSQL files it under the errors of a record's content, for which records are dead-lettered.
    if refused := database_errors.missing_role(driver_error(error)):
        raise refused from error


@asynccontextmanager
async def tenant_transaction(
    pool: sa_async.AsyncEngine, tenant_id: str, operation: str
) -> AsyncIterator[sa_async.AsyncConnection]:
    """Run one transaction as the API's role, which sees this tenant and no other; errors as with `transaction`."""
    with metrics.db_transaction_duration_seconds.labels(operation=operation).time():
        async with pool.connect() as connection:
            # Kept now: SQLAlchemy lets go of it as soon as an execution is cancelled.
            driver = cast("Connection", (await connection.get_raw_connection()).driver_connection)
            try:
                await connection.execute(_AS_TENANT, {"role": tables.API_ROLE, "tenant_id": tenant_id})
                yield connection
                await connection.commit()
            except BaseException as error:
                await _abandon(connection, driver, error)
                _raise_missing_role(error)
                raise


# What SET LOCAL does, in one round trip and with the tenant bound.
_AS_TENANT: Final = sa.text(
    f"SELECT set_config('role', :role, true), set_config('{tables.TENANT_SETTING}', :tenant_id, true)"
)


_REFUSALS: Final = (asyncpg.PostgresError, sa.exc.DBAPIError, GoalworkerError)


async def _abandon(connection: sa_async.AsyncConnection, driver: Connection, error: BaseException) -> None:
    # A cancelled or failed connection may be in the midst of anything: only a clean refusal keeps it.
    if isinstance(error, _REFUSALS) and not is_transient(error) and not driver.is_closed():
        await (connection.rollback() if connection.in_transaction() else driver.execute("ROLLBACK"))
        return
    driver.terminate()
    await connection.invalidate()


async def ping(pool: sa_async.AsyncEngine) -> None:
    """Ask the database for a sign of life; raises what is_later knows."""
    async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS), pool.connect() as connection:
        await connection.execute(sa.text("SELECT 1"))


async def now(pool: sa_async.AsyncEngine) -> datetime:
    """Return the time by the database's clock."""
    async with pool.connect() as connection:
        time: datetime = (await connection.execute(sa.text("SELECT clock_timestamp()"))).scalar_one()
    return time


def pool_usage(pool: sa_async.AsyncEngine) -> tuple[int, int]:
    """Return how many connections of the pool are idle and in use."""
    queue = cast("sa.QueuePool", pool.pool)
    return queue.checkedin(), queue.checkedout()


def condition(error: BaseException) -> str:
    """Return how the database is, in a clause that tells nothing of it: for whoever sends requests."""
    return database_errors.condition(driver_error(error))


def reason(error: BaseException) -> str:
    """Return why the database cannot be used, in a clause that names no row."""
    return database_errors.reason_of(driver_error(error))


def kind_of_outage(error: BaseException) -> outages.Kind:
    """Return whether the server refuses what we need, or is away for whatever reason."""
    return "refused" if is_permanent(error) or is_login_refused(error) else "away"


def _check_files(url: str) -> None:
    # The driver would say that there is no such file, but not which, and each time that it connects.
    query = dict(parse.parse_qsl(parse.urlsplit(url).query))
    for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        try:
            if path := query.get(name):
                Path(path).read_bytes()
        except OSError as error:
            raise SettingsError(
                f"{name}={path} in GOALWORKER_DATABASE__URL cannot be read: {error.strerror}; name a PEM file"
            ) from None
