"""Jobs that a command waits for."""

import asyncio
from collections.abc import Callable
from typing import Final

from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections
from goalworker.stores import jobs

# Seconds between looks at a job.
_POLL_SECONDS: Final = 0.2

Watch = Callable[[str, jobs.Status], None]
"""Shows a workflow and the state of its job; called at every look."""


async def wait(pool: sa_async.AsyncEngine, key: jobs.JobKey, watch: Watch) -> jobs.Status:
    """Wait for the end of a job; whoever cancels this cancels the job."""
    try:
        while True:
            async with connections.tenant_transaction(pool, key.tenant_id, "jobs") as connection:
                status = await jobs.find(connection, key)
            watch(key.workflow_id, status)
            if status.state not in (jobs.QUEUED, jobs.RUNNING):
                return status
            await asyncio.sleep(_POLL_SECONDS)
    except asyncio.CancelledError:
        async with connections.tenant_transaction(pool, key.tenant_id, "jobs") as connection:
            await jobs.cancel(connection, key)
        raise
