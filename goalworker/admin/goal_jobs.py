"""Jobs that a command waits for."""

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import UUID

from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections
from goalworker.stores import jobs

# Seconds between looks at a job.
_POLL_SECONDS: Final = 0.2

Watch = Callable[[str, jobs.Status], None]
"""Shows a workflow and the state of its job; called at every look."""


async def wait(
    pool: sa_async.AsyncEngine, tenant_id: str, kind: str, workflow_id: str, job_id: UUID, watch: Watch
) -> jobs.Status:
    """Wait for the end of a job; whoever cancels this cancels the job."""
    try:
        while True:
            async with connections.tenant_transaction(pool, tenant_id, "jobs") as connection:
                status = await jobs.find(connection, tenant_id, kind, workflow_id, job_id)
            watch(workflow_id, status)
            if status.state not in (jobs.QUEUED, jobs.RUNNING):
                return status
            await asyncio.sleep(_POLL_SECONDS)
    except asyncio.CancelledError:
        async with connections.tenant_transaction(pool, tenant_id, "jobs") as connection:
            await jobs.cancel(connection, tenant_id, kind, workflow_id, job_id)
        raise
