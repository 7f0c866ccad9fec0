"""Jobs: each is run by one process at a time, survives it, and is seen by its tenant only."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.insight import jobs as job_runner
from goalworker.postgres import connections
from goalworker.stores import jobs

ASKED = {"goals": [], "sample": 5}
ME, OTHER = uuid4(), uuid4()


async def queue(pool: sa_async.AsyncEngine, tenant_id: str = "acme", kind: str = jobs.PLAN, **more: Any) -> UUID:
    async with connections.tenant_transaction(pool, tenant_id, "jobs") as connection:
        return await jobs.insert(connection, tenant_id, kind, "w1", ASKED, actor="ann", **more)


async def status(pool: sa_async.AsyncEngine, job_id: UUID, tenant_id: str = "acme") -> jobs.Status:
    async with connections.tenant_transaction(pool, tenant_id, "jobs") as connection:
        return await jobs.find(connection, jobs.JobKey(tenant_id, jobs.PLAN, "w1", job_id))


async def cancel(pool: sa_async.AsyncEngine, job_id: UUID, tenant_id: str = "acme") -> jobs.Status:
    async with connections.tenant_transaction(pool, tenant_id, "jobs") as connection:
        return await jobs.cancel(connection, jobs.JobKey(tenant_id, jobs.PLAN, "w1", job_id))


async def grow_stale(administrator: connections.Connection) -> None:
    await administrator.execute("UPDATE jobs SET heartbeat_at = heartbeat_at - interval '31 s'")


async def taken(pool: sa_async.AsyncEngine, owner: UUID = ME) -> jobs.Job:
    job = await jobs.take(pool, owner, jobs.PLAN)
    assert job is not None
    return job


def runners(runner: job_runner.Runner) -> dict[str, job_runner.Runner]:
    return {jobs.PLAN: runner}


# --- the rows ---


async def test_two_processes_never_take_the_same_job(pool: sa_async.AsyncEngine) -> None:
    queued = {await queue(pool) for _ in range(3)}
    found = await asyncio.gather(*[jobs.take(pool, uuid4(), jobs.PLAN) for _ in range(4)])
    assert sorted(str(job.job_id) for job in found if job is not None) == sorted(map(str, queued))


async def test_a_taken_job_carries_what_was_asked(pool: sa_async.AsyncEngine) -> None:
    job_id = await queue(pool)
    job = await taken(pool)
    assert (job.job_id, job.workflow_id, job.request, job.created_by, job.cursor) == (job_id, "w1", ASKED, "ann", None)
    assert await jobs.take(pool, OTHER, jobs.BACKFILL) is None


async def test_a_tenant_with_a_running_job_lets_another_one_go_first(pool: sa_async.AsyncEngine) -> None:
    for tenant_id in ("acme", "acme", "zeta"):
        await queue(pool, tenant_id)
    assert [(await taken(pool)).tenant_id for _ in range(3)] == ["acme", "zeta", "acme"]


async def test_a_stale_job_is_continued_after_its_last_slice(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await queue(pool)
    job = await taken(pool)
    assert await jobs.advance(pool, job, ME, 5, 9, "c-5") is False
    assert await jobs.take(pool, OTHER, jobs.PLAN) is None
    await grow_stale(administrator)
    again = await taken(pool, OTHER)
    assert (again.job_id, again.cursor, again.progress_done) == (job.job_id, "c-5", 5)
    with pytest.raises(jobs.LostJobError):
        await jobs.advance(pool, job, ME, 6, 9, "c-6")
    with pytest.raises(jobs.LostJobError):
        await jobs.finish(pool, job, ME, jobs.DONE, result=b"{}", error=None)


async def test_the_number_and_the_oldest_of_unfinished_jobs_are_known(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    assert await jobs.unfinished(pool) == {}
    first = await queue(pool)
    await queue(pool)
    await queue(pool, kind=jobs.BACKFILL)
    await administrator.execute("UPDATE jobs SET created_at = created_at - interval '1 hour' WHERE job_id = $1", first)
    asked_at = await administrator.fetchval("SELECT created_at FROM jobs WHERE job_id = $1", first)
    unfinished = await jobs.unfinished(pool)
    assert unfinished.keys() == {(kind, jobs.QUEUED) for kind in jobs.KINDS}
    assert unfinished[jobs.PLAN, jobs.QUEUED] == (2, asked_at)
    job = await taken(pool)
    assert (await jobs.unfinished(pool))[jobs.PLAN, jobs.RUNNING] == (1, asked_at)
    await jobs.finish(pool, job, ME, jobs.DONE, error=None)
    assert (jobs.PLAN, jobs.RUNNING) not in await jobs.unfinished(pool)


async def test_another_tenant_sees_no_job_and_cancels_none(pool: sa_async.AsyncEngine) -> None:
    job_id = await queue(pool)
    with pytest.raises(jobs.JobNotFoundError):
        await status(pool, job_id, "zeta")
    with pytest.raises(jobs.JobNotFoundError):
        await cancel(pool, job_id, "zeta")
    assert (await status(pool, job_id)).state == jobs.QUEUED


async def test_old_jobs_are_deleted_once_they_are_finished(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    old, unfinished = await queue(pool), await queue(pool)
    job = await taken(pool)
    await jobs.finish(pool, job, ME, jobs.DONE, result=b"{}", error=None)
    await administrator.execute("UPDATE jobs SET finished_at = finished_at - interval '31 days'")
    await jobs.delete_old(pool)
    assert (await status(pool, unfinished)).state == jobs.QUEUED
    with pytest.raises(jobs.JobNotFoundError):
        await status(pool, old)


async def test_a_tenant_has_so_many_unfinished_jobs_at_most(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    for _ in range(jobs.UNFINISHED_MAX):
        await queue(pool)
    with pytest.raises(jobs.TooManyJobsError, match="20 plans of this tenant have not ended"):
        await queue(pool)
    await queue(pool, "zeta")
    await administrator.execute("UPDATE jobs SET state = 'done' WHERE tenant_id = 'acme'")
    await queue(pool)


# --- the runner ---


async def test_a_job_ends_with_its_result(pool: sa_async.AsyncEngine) -> None:
    async def runner(_job: jobs.Job, advance: job_runner.Advance) -> bytes:
        await advance(2, 2)
        return b'{"enrollments": 2}'

    job_id = await queue(pool)
    assert await job_runner.Jobs(pool, runners(runner)).run_next(jobs.PLAN)
    assert await status(pool, job_id) == jobs.Status(job_id, jobs.DONE, jobs.Progress(2, 2), {"enrollments": 2}, None)
    assert not await job_runner.Jobs(pool, runners(runner)).run_next(jobs.PLAN)


async def test_a_queued_job_that_is_cancelled_is_never_run(pool: sa_async.AsyncEngine) -> None:
    async def runner(_job: jobs.Job, _advance: job_runner.Advance) -> bytes:
        raise AssertionError("a cancelled job was run")

    job_id = await queue(pool)
    assert (await cancel(pool, job_id)).state == jobs.CANCELLED
    await job_runner.Jobs(pool, runners(runner)).run_next(jobs.PLAN)
    assert (await status(pool, job_id)).state == jobs.CANCELLED


async def test_a_running_job_ends_after_the_slice_in_which_it_is_cancelled(pool: sa_async.AsyncEngine) -> None:
    slices = []

    async def runner(job: jobs.Job, advance: job_runner.Advance) -> bytes:
        for number in range(5):
            slices.append(number)
            if number == 2:
                await cancel(pool, job.job_id)
            await advance(number, 5)
        return b"{}"

    job_id = await queue(pool)
    await job_runner.Jobs(pool, runners(runner)).run_next(jobs.PLAN)
    assert slices == [0, 1, 2]
    assert (await status(pool, job_id)).state == jobs.CANCELLED


async def test_a_refused_job_says_why_and_a_bug_says_nothing(pool: sa_async.AsyncEngine) -> None:
    async def refuse(_job: jobs.Job, _advance: job_runner.Advance) -> bytes:
        raise job_runner.RefusedJobError("the goal was deleted")

    async def fail(_job: jobs.Job, _advance: job_runner.Advance) -> bytes:
        raise KeyError("secret")

    refused = await queue(pool)
    await job_runner.Jobs(pool, runners(refuse)).run_next(jobs.PLAN)
    failed = await queue(pool)
    await job_runner.Jobs(pool, runners(fail)).run_next(jobs.PLAN)
    assert ((await status(pool, refused)).state, (await status(pool, refused)).error) == (
        jobs.FAILED,
        "the goal was deleted",
    )
    error = (await status(pool, failed)).error
    assert error is not None
    assert "secret" not in error


async def test_a_transient_error_continues_after_the_last_slice(pool: sa_async.AsyncEngine) -> None:
    cursors = []

    async def runner(job: jobs.Job, advance: job_runner.Advance) -> bytes:
        cursors.append(job.cursor)
        if job.cursor is None:
            await advance(1, 2, "c-1")
            raise ConnectionResetError
        return b"{}"

    job_id = await queue(pool)
    await job_runner.Jobs(pool, runners(runner)).run_next(jobs.PLAN)
    assert cursors == [None, "c-1"]
    assert (await status(pool, job_id)).state == jobs.DONE


async def test_a_process_that_stops_gives_its_job_back(pool: sa_async.AsyncEngine) -> None:
    began = asyncio.Event()

    async def runner(_job: jobs.Job, advance: job_runner.Advance) -> bytes:
        await advance(1, 2, "c-1")
        began.set()
        await asyncio.Event().wait()
        return b"{}"

    await queue(pool)
    running = asyncio.create_task(job_runner.Jobs(pool, runners(runner), poll_seconds=0.01).run())
    await began.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await taken(pool, OTHER)).cursor == "c-1"
