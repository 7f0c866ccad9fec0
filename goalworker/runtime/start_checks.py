"""Start of a service: check database, schema, broker and topics, analyze tables that need it, and load the goals."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config, logs, metrics
from goalworker.domain.cells import Cell, format_buckets
from goalworker.errors import DependencyError, MigrationsBehindError
from goalworker.goal_index import index
from goalworker.kafka import broker_errors, clients
from goalworker.kafka.topics import max_message_bytes, missing_topics
from goalworker.pipeline import topic_limits
from goalworker.postgres import connections, database_errors, migrations, tables
from goalworker.stores import cell_store, goal_store, table_statistics

log = logs.get("app")


@asynccontextmanager
async def open_pool(settings: config.Settings) -> AsyncIterator[AsyncEngine]:
    """Yield the pool of a service, which is disposed of when the block ends."""
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
    """Raise GoalworkerError where the database cannot be used, its schema is behind, or it tracks otherwise."""
    with database_errors.explain_errors(settings.database_url()):
        behind = await migrations.problem(pool)
        if behind is not None:
            raise MigrationsBehindError(behind)
        revision = await migrations.current(pool)
        if revision != migrations.head():
            log.warning("database_is_newer", found=revision, known=migrations.head())
        async with connections.transaction(pool, role, "goals") as connection:
            await check_tracking(connection, settings.enrollments.tracking)


async def write_cell(settings: config.Settings, pool: AsyncEngine) -> UUID:
    """Write which buckets this cell owns, for whoever compares the cells, and return the cell's id."""
    with database_errors.explain_errors(settings.database_url()):
        async with connections.transaction(pool, tables.WORKER_ROLE, "goals") as connection:
            before = await cell_store.read(connection)
            cell = await cell_store.write(connection, settings)
    if before is not None and before.buckets != cell.buckets:
        buckets, former = format_buckets(cell.buckets), format_buckets(before.buckets)
        log.warning("cell_changed", buckets=buckets, former=former, remedy="goalworker cells check --database URL ...")
    return cell.cell_id


async def judged_cell(settings: config.Settings, pool: AsyncEngine) -> Cell:
    """Return the tenants whose records this cell judges."""
    with database_errors.explain_errors(settings.database_url()):
        async with connections.transaction(pool, tables.WORKER_ROLE, "goals") as connection:
            return await cell_store.judged(connection, settings.cell.buckets)


@contextmanager
def explain_refusals(settings: config.Settings) -> Iterator[None]:
    """Explain permanent errors of a running service, such as a right that was revoked or is first needed now."""
    with (
        database_errors.explain_errors(settings.database_url(), permanent_only=True),
        broker_errors.explain_errors(settings, permanent_only=True),
    ):
        yield


async def check_broker(settings: config.Settings) -> None:
    """Raise DependencyError where a topic is missing, or dead letters might not fit into theirs."""
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
    inputs = {*topics.inputs, topics.redrive}
    checked = {*inputs, topics.dead_letters, *topics.outputs}
    sizes = await max_message_bytes(admin, checked)
    if hidden := checked - set(sizes):
        log.warning("topic_config_hidden", topics=sorted(hidden), remedy="allow DESCRIBE_CONFIGS on them")
    # A warning only: refused messages wait apart, whereas a worker that does not start would stop everything.
    for small in topic_limits.too_small(settings, sizes):
        log.warning("topic_too_small", topic=small.topic, limit_bytes=small.limit, problem=str(small))
    limit = sizes.get(topics.dead_letters)
    larger = [topic for topic, size in sizes.items() if topic in inputs and limit is not None and size > limit]
    if larger:
        raise DependencyError(
            f"the topic {topics.dead_letters} takes messages of {limit} bytes at most, less than "
            f"{', '.join(larger)}: a dead letter might not fit. Set its max.message.bytes to at least "
            f"{max(sizes[topic] for topic in larger)}."
        )


async def analyze_tables(pool: AsyncEngine) -> None:
    """Analyze the tables that need it, so that the first batch is fast; where it fails, housekeeping tries again."""
    try:
        analyzed = await table_statistics.analyze_grown(pool)
    except Exception as error:
        if not database_errors.is_transient(error):
            raise
        log.warning("not_analyzed", error=logs.summarize_error(error))
    else:
        if analyzed:
            log.info("analyzed", tables=analyzed)


async def load_goals(pool: AsyncEngine) -> index.Index:
    """Load every goal into a new index."""
    goal_index = index.Index()
    async with connections.transaction(pool, tables.WORKER_ROLE, "goals") as connection:
        await goal_store.refresh_index(connection, goal_index)
    metrics.goals_loaded.set(len(goal_index))
    metrics.goals_loaded_timestamp_seconds.set_to_current_time()
    log.info("goals_loaded", goals=len(goal_index), revision=goal_index.revision)
    return goal_index
