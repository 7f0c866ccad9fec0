"""Runner of jobs: one of each kind at a time, with a heartbeat, until a result or a reason is written."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol
from uuid import uuid4

from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import errors, logs, metrics
from goalworker.pipeline import waiting
from goalworker.stores import jobs

log = logs.get("jobs")

# Seconds between looks for a job while no job waits. A new one waits this much longer.
POLL_SECONDS: Final = 0.5
# Seconds between heartbeats, several within jobs.STALE_SECONDS.
HEARTBEAT_SECONDS: Final = 5.0
# Seconds between deletions of old jobs.
DELETE_SECONDS: Final = 3_600.0
_BUG: Final = "This is a bug; the log of the insight process has details under the job's id"


class CancelledJobError(Exception):
    """The job was cancelled."""


class RefusedJobError(errors.GoalworkerError):
    """The job cannot be done; the message says why."""


class Advance(Protocol):
    """Write a job's progress after each slice; CancelledJobError once its end is asked for."""

    async def __call__(self, done: int, of: int | None, cursor: str | None = None) -> None: ...


Runner = Callable[[jobs.Job, Advance], Awaitable[bytes | None]]
"""Do a job from its cursor on, and return its result as JSON; it may be called again after a transient error."""


class Jobs:
    """Loops that run jobs, one for each kind; a job that is interrupted is given back."""

    def __init__(self, pool: AsyncEngine, runners: Mapping[str, Runner], *, poll_seconds: float = POLL_SECONDS) -> None:
        self._pool, self._runners = pool, runners
        self._poll_seconds = poll_seconds
        self._owner = uuid4()

    async def run(self) -> None:
        """Run jobs until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._delete_old())
            for kind in self._runners:
                loops.create_task(self._run_kind(kind))

    async def run_next(self, kind: str) -> bool:
        """Run the next job of a kind to its end; return False without one."""
        job = await waiting.retry_transient(lambda: jobs.take(self._pool, self._owner, kind))
        if job is None:
            return False
        try:
            await self._run(job, self._runners[kind])
        except jobs.LostJobError as error:
            log.warning("job_lost", job_id=str(job.job_id), error=str(error))
        except asyncio.CancelledError:
            await asyncio.shield(jobs.release(self._pool, job, self._owner))
            raise
        return True

    async def _run_kind(self, kind: str) -> None:
        while True:
            if not await self.run_next(kind):
                await asyncio.sleep(self._poll_seconds)

    async def _delete_old(self) -> None:
        while True:
            await waiting.retry_transient(lambda: jobs.delete_old(self._pool))
            await asyncio.sleep(DELETE_SECONDS)

    async def _run(self, job: jobs.Job, runner: Runner) -> None:
        log.info("job_started", job_id=str(job.job_id), kind=job.kind, tenant_id=job.tenant_id, cursor=job.cursor)
        began = time.monotonic()
        state, result, reason = jobs.DONE, None, None
        try:
            result = await self._outcome(job, runner)
        except CancelledJobError:
            state = jobs.CANCELLED
        except jobs.LostJobError:
            raise
        except errors.GoalworkerError as error:
            state, reason = jobs.FAILED, str(error)
        except Exception:  # a job that fails must not end the history that the same process keeps
            log.exception("job_failed", job_id=str(job.job_id), kind=job.kind)
            state, reason = jobs.FAILED, _BUG
        await waiting.retry_transient(
            lambda: jobs.finish(self._pool, job, self._owner, state, result=result, error=reason)
        )
        metrics.job_duration_seconds.labels(job.kind, state).observe(time.monotonic() - began)
        log.info("job_finished", job_id=str(job.job_id), kind=job.kind, state=state)

    async def _outcome(self, job: jobs.Job, runner: Runner) -> bytes | None:
        """Return the result of a job, whose heartbeat is kept meanwhile."""
        if job.cancel_requested:
            raise CancelledJobError
        reached = job

        async def advance(done: int, of: int | None, cursor: str | None = None) -> None:
            nonlocal reached
            if await jobs.advance(self._pool, job, self._owner, done, of, cursor):
                raise CancelledJobError
            reached = structs.replace(reached, cursor=cursor, progress_done=done)

        work = asyncio.create_task(waiting.retry_transient(lambda: runner(reached, advance)))
        heart = asyncio.create_task(self._beat(job))
        try:
            await asyncio.wait({work, heart}, return_when=asyncio.FIRST_COMPLETED)
            return await (work if work.done() else heart)
        finally:
            for task in (work, heart):
                task.cancel()
            await asyncio.gather(work, heart, return_exceptions=True)

    async def _beat(self, job: jobs.Job) -> None:
        """Keep the heartbeat until the end of the job is asked for; CancelledJobError, LostJobError."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if await waiting.retry_transient(lambda: jobs.beat(self._pool, job, self._owner)):
                raise CancelledJobError
