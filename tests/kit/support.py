"""SQL and topics outside of a test's own event loop, and waiting for a condition."""

import asyncio
import contextlib
import inspect
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent import futures
from typing import Any, TypeVar
from urllib import parse

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from goalworker.postgres import migrations

T = TypeVar("T")

# The contract's TOPICS__ settings, in lower case.
TOPICS = (
    "tag_added",
    "payment_completed",
    "appointment_booked",
    "form_submitted",
    "stage_changed",
    "workflow_lifecycle",
    "goal_achieved",
    "workflow_exit",
    "goal_configured",
    "dead_letters",
    "redrive",
)
PARTITIONS = 4
# Without certificates, since loading those takes 25 ms of CPU, which is much for a client of one request.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
DEAD_LETTER_BYTES = 16 * 1024 * 1024


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a thread and event loop of its own, for fixtures."""
    with futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def set_clock_ahead(database_url: str, seconds: int) -> None:
    """Set the clock of a database, as new connections read it by clock_timestamp(), ahead of the machine's."""
    name = parse.urlsplit(database_url).path[1:]
    await execute(
        database_url,
        "CREATE SCHEMA skewed",
        "CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
        f"$$SELECT pg_catalog.clock_timestamp() + interval '{seconds} s'$$",
        f'ALTER DATABASE "{name}" SET search_path = skewed, pg_catalog, public',
    )


async def disable_advisory_locks(database_url: str) -> None:
    """Let every attempt to take an advisory lock succeed, as on engines that are not PostgreSQL."""
    name = parse.urlsplit(database_url).path[1:]
    fakes = [
        f"CREATE FUNCTION unlocked.{function}(bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true'"
        for function in ("pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared")
    ]
    change = f'ALTER DATABASE "{name}" SET search_path = unlocked, pg_catalog, public'
    await execute(database_url, "CREATE SCHEMA unlocked", *fakes, change)


def with_database(url: str, name: str) -> str:
    return parse.urlsplit(url)._replace(path=f"/{name}").geturl()


@contextlib.contextmanager
def fresh_database(server_url: str, options: str = "") -> Iterator[str]:
    """Create a database, yield its name, and drop it afterwards; options such as `TEMPLATE name`."""
    name = f"test_{secrets.token_hex(6)}"
    run(execute(server_url, f"CREATE DATABASE {name} {options}"))
    yield name
    run(execute(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


@contextlib.contextmanager
def migrated_database(server_url: str) -> Iterator[str]:
    """Yield the name of a database at the newest revision, to be cloned."""
    with fresh_database(server_url) as name:
        migrations.upgrade(with_database(server_url, name))
        yield name


def fresh_topics() -> dict[str, str]:
    prefix = f"t{secrets.token_hex(4)}"
    return {logical: f"{prefix}-{logical.replace('_', '-')}" for logical in TOPICS}


async def create_topics(bootstrap_servers: str, names: Mapping[str, str]) -> None:
    # Tests send records with old timestamps, which the broker's retention would delete.
    no_retention = {"retention.ms": "-1"}
    configs = {"dead_letters": no_retention | {"max.message.bytes": str(DEAD_LETTER_BYTES)}}
    wanted = [
        NewTopic(name, PARTITIONS, 1, topic_configs=configs.get(logical, no_retention))
        for logical, name in names.items()
    ]
    await make_topics(bootstrap_servers, wanted)


async def make_topics(bootstrap_servers: str, wanted: list[NewTopic]) -> None:
    """Create topics, and return once the broker knows them, shortly after the controller has created them."""

    async def are_created() -> bool:
        described = await admin.describe_topics([topic.name for topic in wanted])
        return not any(found["error_code"] for topic in described for found in (topic, *topic["partitions"]))

    async with admin_client(bootstrap_servers) as admin:
        response = await admin.create_topics(wanted)
        assert not any(code for _, code, *_ in response.topic_errors), response
        await until(are_created)


async def delete_topics(bootstrap_servers: str, names: Mapping[str, str]) -> None:
    async with admin_client(bootstrap_servers) as admin:
        await admin.delete_topics(list(names.values()))


@contextlib.asynccontextmanager
async def admin_client(bootstrap_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def until_transactions_ended(bootstrap_servers: str, topic: str) -> None:
    """Return once no record of a test's topic is in an open transaction.

    The coordinator answers a commit or abort before it writes the markers that end the transaction.
    """
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]

    async def has_ended() -> bool:
        stable, high = [await each.end_offsets(partitions) for each in consumers]
        return bool(stable == high)

    async with contextlib.AsyncExitStack() as stack:
        consumers = [
            await stack.enter_async_context(
                AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level=level, enable_auto_commit=False)
            )
            for level in ("read_committed", "read_uncommitted")
        ]
        await until(has_ended)


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_seconds: float = 60.0) -> None:
    """Return as soon as a condition holds; fail if it does not within the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while not await _holds(condition):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        await asyncio.sleep(0.02)


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    found = condition()
    return await found if inspect.isawaitable(found) else found
