"""Runner of plans and backfills as an insight process has it, without Kafka."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from sqlalchemy.ext import asyncio as sa_async

from goalworker.insight import backfills, plans
from goalworker.insight import jobs as job_runner
from goalworker.postgres import connections, tables
from goalworker.stores import jobs


async def _history_is_whole() -> None:
    """History has everything."""


async def _no_lag() -> int:
    return 0


def runner(
    pool: sa_async.AsyncEngine,
    *,
    tracking: bool = True,
    lag: Callable[[], Awaitable[int]] = _no_lag,
    poll_seconds: float = 0.05,
) -> job_runner.Jobs:
    """Return the runner of a process of its own."""
    kafka = backfills.Kafka(_history_is_whole, lag)
    of_backfills = backfills.Backfills(pool, kafka, tracking=tracking, lateness=timedelta(days=7))
    runners = {jobs.PLAN: plans.Plans(pool, tracking=tracking).run, jobs.BACKFILL: of_backfills.run}
    return job_runner.Jobs(pool, runners, poll_seconds=poll_seconds)


async def leave_behind(pool: sa_async.AsyncEngine) -> None:
    """Let the running jobs look as if their process had died."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        await connection.execute("UPDATE jobs SET heartbeat_at = heartbeat_at - interval '1 minute'")
