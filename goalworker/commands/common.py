"""What commands share: settings, connections that explain themselves, and how an answer is printed."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import aiokafka
import asyncpg
import msgspec
import sqlalchemy as sa
import typer
from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors
from sqlalchemy.ext import asyncio as sa_async

import goalworker
from goalworker import database, errors, kafka, logs, migrate
from goalworker import settings as all_settings

T = TypeVar("T")

BROKER_TIMEOUT_SECONDS: Final = 10

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class _Overheard(logging.Handler):
    """Keeps what the broker's client said last: it says why it cannot connect in its log only."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.words = record.getMessage()


_OVERHEARD: Final = _Overheard()


def load() -> all_settings.Settings:
    """Read the settings and send logs to stderr; what the libraries say is only kept to explain an error."""
    settings = all_settings.load()
    logs.configure(settings.log.level, settings.log.format, goalworker.__version__)
    client = logging.getLogger("aiokafka")
    client.handlers, client.propagate = [_OVERHEARD], False
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for name in settings.ignored_names:
        logs.get(__name__).warning("setting_ignored", name=name)
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work to its end."""
    return asyncio.run(work)


# --- connections ---


@contextlib.asynccontextmanager
async def database_pool(
    settings: all_settings.Settings, *, migrated: bool = True
) -> AsyncIterator[sa_async.AsyncEngine]:
    """Yield a pool; where the database cannot be used, or its schema is behind, the error says what to do."""
    url = settings.database_url()
    timeout_seconds = settings.database.statement_timeout_seconds
    pool = database.engine(url, pool_size=2, statement_timeout_seconds=timeout_seconds, application="goalworker")
    try:
        with database_errors(url):
            if migrated and (problem := await migrate.problem(pool)):
                raise errors.MigrationsBehindError(problem)
            yield pool
    finally:
        await pool.dispose()


@contextlib.contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turn the database's foreseeable errors into a DependencyError that names it; any other is a bug and passes."""
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, sa.exc.SQLAlchemyError) as error:
        origin = _origin(error)
        if database.is_later(error) or _is_refused(origin):
            raise database.explained(url, RuntimeError(first_line(origin))) from error
        raise


def _is_refused(error: BaseException) -> bool:
    return database.is_refused(error) or isinstance(error, asyncpg.InsufficientPrivilegeError)


def _origin(error: BaseException) -> BaseException:
    """The driver's own error, which SQLAlchemy wraps twice."""
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


@contextlib.asynccontextmanager
async def admin(settings: all_settings.Settings) -> AsyncIterator[kafka_admin.AIOKafkaAdminClient]:
    """Yield a connected admin client; where the broker cannot be used, DependencyError says which and why."""
    client = kafka_admin.AIOKafkaAdminClient(
        **all_settings.kafka_client_options(settings), request_timeout_ms=BROKER_TIMEOUT_SECONDS * 1000
    )
    with broker_errors(settings):
        try:
            async with asyncio.timeout(BROKER_TIMEOUT_SECONDS):
                await client.start()
            yield client
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def consumer(settings: all_settings.Settings) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
    """Yield a connected consumer that is in no group, so that reading disturbs nobody; errors as with `admin`."""
    client = aiokafka.AIOKafkaConsumer(
        **all_settings.kafka_client_options(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        request_timeout_ms=BROKER_TIMEOUT_SECONDS * 1000,
    )
    with broker_errors(settings):
        try:
            async with asyncio.timeout(BROKER_TIMEOUT_SECONDS):
                await client.start()
            yield client
        finally:
            await client.stop()


@contextlib.contextmanager
def broker_errors(settings: all_settings.Settings) -> Iterator[None]:
    """Turn the broker's errors into a DependencyError that names it."""
    try:
        yield
    except (kafka_errors.KafkaError, OSError) as error:
        raise kafka.explained(settings, RuntimeError(_broker_reason(error))) from error


def _broker_reason(error: BaseException) -> str:
    if isinstance(error, kafka_errors.KafkaConnectionError) and _OVERHEARD.words:
        return _OVERHEARD.words
    if isinstance(error, TimeoutError):
        return f"no answer within {BROKER_TIMEOUT_SECONDS} s"
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Return an error's sentence; PostgreSQL names rows in the lines after the first."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")


# --- answers ---


def show(rows: Sequence[Mapping[str, object]], *, as_json: bool, empty: str) -> None:
    """Print rows to stdout, as a JSON array or as a table; `empty` is what a person reads where there is none."""
    if as_json:
        show_json(rows)
    elif not rows:
        say(empty)
    else:
        header = [name.replace("_", " ").upper() for name in rows[0]]
        lines = [header, *([_cell(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        say("\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines))


def show_json(value: object) -> None:
    """Print a value to stdout as JSON."""
    say(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def say(text: str) -> None:
    """Print to stdout, where data goes."""
    typer.echo(text)


def printable(text: str) -> str:
    """Return a text from outside without what could drive a terminal: such characters are spelt out."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        case _:
            return printable(str(value))
