"""Jobs: plans and backfills, inserted by the API and run by one insight process at a time (contract section 7)."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import sqlalchemy as sa
from msgspec import Struct, json, structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.postgres import connections, insight_tables, tables

PLAN: Final = "plan"
BACKFILL: Final = "backfill"

KINDS: Final = (PLAN, BACKFILL)

QUEUED: Final = "queued"
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
STATES: Final = (QUEUED, RUNNING, DONE, FAILED, CANCELLED)

STALE_SECONDS: Final = 30
"""Seconds without a heartbeat after which another process takes a job over."""
UNFINISHED_MAX: Final = 20
"""Jobs of a tenant and kind that may wait or run; they run one after the other."""
KEPT: Final = timedelta(days=30)
"""Age at which a finished job is deleted."""


class JobKey(Struct, frozen=True):
    """Identity of a job, of a workflow, and of a goal where one is asked for."""

    tenant_id: str
    kind: str
    workflow_id: str
    job_id: UUID
    goal_id: UUID | None = None


class JobNotFoundError(errors.GoalworkerError):
    """The job does not exist, or belongs to another tenant or workflow; callers cannot tell which."""

    def __init__(self, key: JobKey) -> None:
        super().__init__(f"{key.kind.capitalize()} {key.job_id} not found")


class TooManyJobsError(errors.GoalworkerError):
    """The tenant has as many unfinished jobs of a kind as it may have."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"{UNFINISHED_MAX} {kind}s of this tenant have not ended; wait for one, or cancel one")


class LostJobError(errors.GoalworkerError):
    """Another process took the job over, because heartbeats of this one did not arrive in time."""

    def __init__(self, job_id: UUID) -> None:
        super().__init__(f"Job {job_id} was taken over by another process")


class Progress(Struct, frozen=True):
    """Units of a job that are done; `of` is None until their number is known."""

    done: int
    of: int | None


class Status(Struct, frozen=True):
    """State of a job, with its result once it is done, or the sentence why it failed."""

    job_id: UUID
    state: str
    progress: Progress
    result: dict[str, Any] | None
    error: str | None


class Asked(Struct, frozen=True):
    """A job as people asked for it, and its state."""

    status: Status
    goal_id: UUID | None
    request: dict[str, Any]
    created_at: datetime
    created_by: str
    finished_at: datetime | None


class Job(Struct, frozen=True):
    """A job as its runner needs it; cursor is the last finished slice, None at the beginning."""

    tenant_id: str
    job_id: UUID
    kind: str
    workflow_id: str
    goal_id: UUID | None
    request: dict[str, Any]
    cursor: str | None
    created_by: str
    created_at: datetime
    progress_done: int
    cancel_requested: bool


# --- of a tenant: what the API does ---

_JOBS: Final = insight_tables.jobs.c


async def insert(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    kind: str,
    workflow_id: str,
    request: Mapping[str, Any],
    *,
    actor: str,
    goal_id: UUID | None = None,
) -> UUID:
    """Queue a job, and return its id; TooManyJobsError."""
    unfinished = sa.select(sa.func.count()).where(
        _JOBS.tenant_id == tenant_id, _JOBS.kind == kind, _JOBS.state.in_((QUEUED, RUNNING))
    )
    if ((await connection.execute(unfinished)).scalar_one()) >= UNFINISHED_MAX:
        raise TooManyJobsError(kind)
    job_id = uuid4()
    row = {"tenant_id": tenant_id, "job_id": job_id, "kind": kind, "workflow_id": workflow_id, "goal_id": goal_id}
    await connection.execute(sa.insert(insight_tables.jobs).values(**row, request=dict(request), created_by=actor))
    return job_id


async def find(connection: sa_async.AsyncConnection, key: JobKey) -> Status:
    """Return the state of a job; JobNotFoundError."""
    rows = await connection.execute(sa.select(insight_tables.jobs).where(*_is(key)))
    return _status(_found(rows.one_or_none(), key))


async def read(connection: sa_async.AsyncConnection, key: JobKey) -> Asked:
    """Return a job with its request; JobNotFoundError."""
    rows = await connection.execute(sa.select(insight_tables.jobs).where(*_is(key)))
    return _asked(_found(rows.one_or_none(), key))


async def latest_backfills(
    connection: sa_async.AsyncConnection, tenant_id: str, workflow_id: str, goal_id: UUID, *, limit: int
) -> list[Asked]:
    """Return the backfills of a goal that are not deleted yet, the latest first."""
    of_goal = sa.select(insight_tables.jobs).where(
        _JOBS.tenant_id == tenant_id,
        _JOBS.kind == BACKFILL,
        _JOBS.workflow_id == workflow_id,
        _JOBS.goal_id == goal_id,
    )
    rows = await connection.execute(of_goal.order_by(_JOBS.created_at.desc()).limit(limit))
    return [_asked(row) for row in rows]


async def cancel(connection: sa_async.AsyncConnection, key: JobKey) -> Status:
    """Ask for the end of a job, which its runner heeds after its present slice; JobNotFoundError."""
    update = sa.update(insight_tables.jobs).where(*_is(key))
    rows = await connection.execute(update.values(cancel_requested=True).returning(*_JOBS))
    return _status(_found(rows.one_or_none(), key))


def _is(key: JobKey) -> list[sa.ColumnElement[bool]]:
    given = structs.asdict(key)
    return [_JOBS[name] == value for name, value in given.items() if value is not None]


def _found(row: sa.Row[*tuple[Any, ...]] | None, key: JobKey) -> sa.Row[*tuple[Any, ...]]:
    if row is None:
        raise JobNotFoundError(key)
    return row


def _status(row: sa.Row[*tuple[Any, ...]]) -> Status:
    state = CANCELLED if row.state == QUEUED and row.cancel_requested else row.state
    return Status(row.job_id, state, Progress(row.progress_done, row.progress_of), row.result, row.error)


def _asked(row: sa.Row[*tuple[Any, ...]]) -> Asked:
    return Asked(_status(row), *(getattr(row, name) for name in Asked.__struct_fields__[1:]))


class Unfinished(Struct, frozen=True):
    """A job that waits or runs; heartbeat_at is None while no process has taken it."""

    job_id: UUID
    kind: str
    workflow_id: str
    goal_id: UUID | None
    state: str
    progress: Progress
    created_at: datetime
    heartbeat_at: datetime | None


_UNFINISHED_OF_TENANT: Final = f"""
SELECT job_id, kind, workflow_id, goal_id, state, progress_done, progress_of, created_at, heartbeat_at FROM jobs
WHERE state IN ('{QUEUED}', '{RUNNING}') AND NOT (state = '{QUEUED}' AND cancel_requested) ORDER BY created_at, job_id
"""


async def unfinished_of_tenant(connection: connections.Connection) -> list[Unfinished]:
    """Return the jobs of the transaction's tenant that wait or run, the oldest first."""
    return [
        Unfinished(job_id, kind, workflow_id, goal_id, state, Progress(done, of), created_at, heartbeat_at)
        for job_id, kind, workflow_id, goal_id, state, done, of, created_at, heartbeat_at in await connection.fetch(
            _UNFINISHED_OF_TENANT
        )
    ]


# --- of the insight process ---

_COLUMNS: Final = ", ".join(name if name != "request" else "request::text" for name in Job.__struct_fields__)
# Each tenant in turn: the one whose last job began longest ago comes first.
_TAKE: Final = f"""
UPDATE jobs SET state = '{RUNNING}', owner = $1, heartbeat_at = clock_timestamp()
WHERE (tenant_id, job_id) = (
    SELECT j.tenant_id, j.job_id FROM jobs j
    WHERE j.kind = $2 AND (j.state = '{QUEUED}'
        OR (j.state = '{RUNNING}' AND j.heartbeat_at < clock_timestamp() - make_interval(secs => $3)))
    ORDER BY (SELECT count(*) FROM jobs r WHERE r.tenant_id = j.tenant_id AND r.state = '{RUNNING}'), j.created_at
    LIMIT 1 FOR UPDATE OF j SKIP LOCKED
)
RETURNING {_COLUMNS}
"""
_OWNED: Final = f"tenant_id = $1 AND job_id = $2 AND owner = $3 AND state = '{RUNNING}'"
_BEAT: Final = f"UPDATE jobs SET heartbeat_at = clock_timestamp() WHERE {_OWNED} RETURNING cancel_requested"
_ADVANCE: Final = f"""
UPDATE jobs SET heartbeat_at = clock_timestamp(), progress_done = $4, progress_of = $5, cursor = $6
WHERE {_OWNED} RETURNING cancel_requested
"""
_FINISH: Final = f"""
UPDATE jobs SET state = $4, result = $5::text::jsonb, error = $6, owner = NULL, finished_at = clock_timestamp()
WHERE {_OWNED} RETURNING job_id
"""
_RELEASE: Final = f"UPDATE jobs SET state = '{QUEUED}', owner = NULL WHERE {_OWNED}"
_DELETE_OLD: Final = """
DELETE FROM jobs WHERE (tenant_id, job_id) IN (
    SELECT tenant_id, job_id FROM jobs WHERE finished_at < clock_timestamp() - $1::interval
    ORDER BY finished_at LIMIT 1000)
"""


async def take(pool: sa_async.AsyncEngine, owner: UUID, kind: str) -> Job | None:
    """Take the next job of a kind, queued or left behind by a process that died."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "jobs") as connection:
        row = await connection.fetchrow(_TAKE, owner, kind, STALE_SECONDS)
    if row is None:
        return None
    return Job(**{**row, "request": json.decode(row["request"])})


async def beat(pool: sa_async.AsyncEngine, job: Job, owner: UUID) -> bool:
    """Say that a job is alive, and return whether its end is asked for; LostJobError."""
    return bool(await _owned(pool, _BEAT, job, owner))


async def advance(
    pool: sa_async.AsyncEngine, job: Job, owner: UUID, done: int, of: int | None, cursor: str | None
) -> bool:
    """Write the progress of a job, as beat() does."""
    return bool(await _owned(pool, _ADVANCE, job, owner, done, of, cursor))


async def finish(
    pool: sa_async.AsyncEngine, job: Job, owner: UUID, state: str, *, result: bytes | None = None, error: str | None
) -> None:
    """End a job with its result, as JSON, or with the sentence why it failed; LostJobError."""
    await _owned(pool, _FINISH, job, owner, state, None if result is None else result.decode(), error)


async def release(pool: sa_async.AsyncEngine, job: Job, owner: UUID) -> None:
    """Give a job back, so that another process continues it at once."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "jobs") as connection:
        await connection.execute(_RELEASE, job.tenant_id, job.job_id, owner)


async def delete_old(pool: sa_async.AsyncEngine) -> None:
    """Delete jobs that were finished long ago."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "jobs") as connection:
        await connection.execute(_DELETE_OLD, KEPT)


_UNFINISHED: Final = f"""
SELECT kind, state, count(*), min(created_at) FROM jobs WHERE state IN ('{QUEUED}', '{RUNNING}') GROUP BY 1, 2
"""


async def unfinished(pool: sa_async.AsyncEngine) -> dict[tuple[str, str], tuple[int, datetime]]:
    """Return the number of unfinished jobs by kind and state, and when the oldest of them was asked for."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "jobs") as connection:
        return {(row[0], row[1]): (row[2], row[3]) for row in await connection.fetch(_UNFINISHED)}


async def _owned(pool: sa_async.AsyncEngine, sql: str, job: Job, owner: UUID, *values: object) -> Any:
    async with connections.transaction(pool, tables.WORKER_ROLE, "jobs") as connection:
        answer = await connection.fetchval(sql, job.tenant_id, job.job_id, owner, *values)
    if answer is None:
        raise LostJobError(job.job_id)
    return answer
