"""Data of plans and backfills in the form in which pages show how far they are."""

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from goalworker.stores import jobs

# A job that waits for longer is probably not going to be run: an insight process looks for jobs every second or so.
_UNATTENDED_AFTER: Final = timedelta(seconds=5)
_STATES: Final = {
    jobs.QUEUED: "waiting",
    jobs.RUNNING: "running",
    jobs.DONE: "done",
    jobs.FAILED: "failed",
    jobs.CANCELLED: "cancelled",
}


class JobView(Struct, frozen=True):
    """State of a job in words; `of` is None until the number of its units is known."""

    state: str
    is_over: bool
    is_unattended: bool
    done: int
    of: int | None
    error: str | None
    created_at: datetime
    created_by: str


def of_job(asked: jobs.Asked, now: datetime) -> JobView:
    """Return how far a job is."""
    status = asked.status
    return JobView(
        _STATES[status.state],
        status.state not in (jobs.QUEUED, jobs.RUNNING),
        status.state == jobs.QUEUED and now - asked.created_at > _UNATTENDED_AFTER,
        status.progress.done,
        status.progress.of,
        status.error,
        asked.created_at,
        asked.created_by,
    )
