"""Reading of an installation's health from its database, shared by all visitors for some seconds."""

from datetime import datetime, timedelta
from typing import Final, TypeVar

from fastapi import Request
from msgspec import Struct, structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.pipeline import clock_skew, outbox, paused_topics, progress, refused_messages
from goalworker.postgres import connections, migrations, tables
from goalworker.stores import answer_cache, enrollments, history, jobs

CACHE_SECONDS: Final = 5.0
OPERATION: Final = "health"

_OfTopic = TypeVar("_OfTopic", outbox.Pending, refused_messages.HeldByTopic)


class PausedTopic(Struct, frozen=True):
    """A topic that workers do not read until it is resumed, and the record at which it was paused."""

    topic: str
    reason: str
    partition: int
    offset: int
    paused_at: datetime


class Schema(Struct, frozen=True):
    """Revision of the database's schema, the one that this build needs, and a sentence if it is behind."""

    revision: str | None
    needed: str
    problem: str | None

    @property
    def is_newer(self) -> bool:
        """Say whether the schema is newer than this build, as while a release is rolled out."""
        return self.problem is None and self.revision != self.needed


class Installation(Struct, frozen=True):
    """State of the installation as a whole, at a moment of the database's clock; topics have their names.

    skew is the time by which the database's clock is ahead of this process.
    """

    at: datetime
    partitions: list[progress.PartitionProgress]
    paused: list[PausedTopic]
    pending: list[outbox.Pending]
    refused: list[refused_messages.HeldByTopic]
    schema: Schema
    skew: timedelta

    @property
    def liveness(self) -> progress.Liveness:
        """The signs of life of workers that the progress shows."""
        seen = max((row.written_at for row in self.partitions), default=None)
        judged = max((row.judged_until for row in self.partitions if row.judged_until is not None), default=None)
        return progress.Liveness(self.at, seen, judged)


class OfTenant(Struct, frozen=True):
    """State of one tenant: freshness, history, exits that wait, and unfinished jobs."""

    fresh_as_of: datetime | None
    coverage: history.Coverage
    waiting_exits: list[enrollments.WaitingExits]
    jobs: list[jobs.Unfinished]


class HealthReading:
    """Health as the database tells it; the state of the installation is read once for all visitors."""

    def __init__(self, settings: config.Settings, pool: sa_async.AsyncEngine) -> None:
        self._names = dict(settings.topics)
        self._pool = pool
        self._cache = answer_cache.BriefCache(CACHE_SECONDS)

    async def installation(self) -> Installation:
        """Return the state of the installation, at most CACHE_SECONDS old."""
        return await self._cache.answer("installation", self._installation)

    async def liveness(self) -> progress.Liveness:
        """Return the signs of life of workers, at most CACHE_SECONDS old."""
        return await self._cache.answer("liveness", self._liveness)

    async def of_tenant(self, tenant_id: str) -> OfTenant:
        """Return the state of a tenant as it is now."""
        async with connections.tenant_transaction(self._pool, tenant_id, OPERATION) as connection:
            fresh_as_of = await enrollments.fresh_as_of(connection)
            driver = await connections.driver_of(connection)
            return OfTenant(
                fresh_as_of,
                await history.coverage(driver, tenant_id),
                await enrollments.waiting_exits(driver),
                await jobs.unfinished_of_tenant(driver),
            )

    async def _liveness(self) -> progress.Liveness:
        async with connections.transaction(self._pool, tables.API_ROLE, OPERATION) as connection:
            return await progress.liveness(connection)

    async def _installation(self) -> Installation:
        skew_seconds = await clock_skew.skew_seconds(self._pool)
        schema = Schema(await migrations.current(self._pool), migrations.head(), await migrations.problem(self._pool))
        async with connections.transaction(self._pool, tables.API_ROLE, OPERATION) as connection:
            return Installation(
                at=(await progress.liveness(connection)).now,
                partitions=await progress.read(connection),
                paused=[PausedTopic(**row) for row in await connection.fetch(paused_topics.PAUSED)],
                pending=[self._named(pending) for pending in await outbox.status(connection)],
                refused=[self._named(held) for held in await refused_messages.status(connection)],
                schema=schema,
                skew=timedelta(seconds=skew_seconds),
            )

    def _named(self, of_topic: _OfTopic) -> _OfTopic:
        """Return numbers of a topic, which the outbox knows by its setting, under its name."""
        return structs.replace(of_topic, topic=self._names.get(of_topic.topic, of_topic.topic))


def of(request: Request) -> HealthReading:
    """Return the reading that the process of a request shares."""
    reading: HealthReading = request.app.state.health_reading
    return reading
