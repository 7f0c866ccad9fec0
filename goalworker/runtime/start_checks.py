"""What must be there before a service starts, and the sentences where it is not."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config, logs, metrics
from goalworker.errors import DependencyError, MigrationsBehindError
from goalworker.goal_index import index
from goalworker.kafka import broker_errors, clients
from goalworker.kafka.topics import max_message_bytes, missing_topics
from goalworker.pipeline import topic_limits
from goalworker.postgres import connections, database_errors, migrations, tables
from goalworker.stores import goal_store

log = logs.get("app")


@asynccontextmanager
async def open_pool(settings: config.Settings) -> AsyncIterator[AsyncEngine]:
    pool = connections.engine(
        settings.database_url(),
        pool_size=settings.database.pool_size,
        statement_timeout_seconds=settings.database.statement_timeout_seconds,
        application=settings.kafka.client_id,
    )
    try:
        yield pool
    finally:
        await pool.dispose()


async def check_database(
    settings: config.Settings,
    pool: AsyncEngine,
    role: str,
    check_tracking: Callable[[connections.Connection, bool], Awaitable[None]],
) -> None:
    with database_errors.explain_errors(settings.database_url()):
        behind = await migrations.problem(pool)
        if behind is not None:
            raise MigrationsBehindError(behind)
        found = await migrations.current(pool)
        if found != migrations.head():
            log.warning("database_is_newer", found=found, known=migrations.head())
        async with connections.transaction(pool, role, "goals") as connection:
            await check_tracking(connection, settings.enrollments.tracking)


@contextmanager
def explain_refusals(settings: config.Settings) -> Iterator[None]:
    """Explain what is refused while a service runs: a right was taken away, or is missed only when it is needed."""
    with (
        database_errors.explain_errors(settings.database_url(), permanent_only=True),
        broker_errors.explain_errors(settings, permanent_only=True),
    ):
        yield


async def check_broker(settings: config.Settings) -> None:
    admin = clients.admin(settings)
    try:
        await admin.start()
        await _check_topics(settings, admin)
    finally:
        await admin.close()


async def _check_topics(settings: config.Settings, admin: Any) -> None:
    topics = settings.topics
    missing = missing_topics(settings, await admin.list_topics())
    if missing is not None:
        raise DependencyError(f"Kafka at {settings.bootstrap_servers()}: {missing}.")
    served = {*topics.inputs, topics.redrive}
    checked = {*served, topics.dead_letters, *topics.outputs}
    sizes = await max_message_bytes(admin, checked)
    if untold := checked - set(sizes):
        log.warning("topic_config_hidden", topics=sorted(untold), remedy="allow DESCRIBE_CONFIGS on them")
    # Not an error: what a topic out refuses waits by itself, and a worker that does not start stops everything else.
    for small in topic_limits.too_small(settings, sizes):
        log.warning("topic_too_small", topic=small.topic, limit_bytes=small.limit, problem=str(small))
    room = sizes.get(topics.dead_letters)
    larger = [topic for topic, size in sizes.items() if topic in served and room is not None and size > room]
    if larger:
        raise DependencyError(
            f"the topic {topics.dead_letters} takes messages of {room} bytes at most, less than "
            f"{', '.join(larger)}: a dead letter might not fit. Set its max.message.bytes to at least "
            f"{max(sizes[topic] for topic in larger)}."
        )


async def load_goals(settings: config.Settings, pool: AsyncEngine) -> index.Index:
    known = index.Index()
    async with connections.transaction(pool, tables.WORKER_ROLE, "goals") as connection:
        await goal_store.refresh_index(connection, known)
    metrics.goals_loaded.set(len(known))
    metrics.goals_loaded_timestamp_seconds.set_to_current_time()
    log.info("goals_loaded", goals=len(known), revision=known.revision)
    return known
