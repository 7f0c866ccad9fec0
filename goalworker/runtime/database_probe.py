"""Probe of the database, beside the work of a service."""

import time
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import outages
from goalworker.postgres import database_errors, migrations

# Seconds between two probes. A service learns of an outage, and of its end, this much later.
PROBE_SECONDS: Final = 2.0


class DatabaseProbe:
    """Probe that gives up when the database has refused our credentials for long."""

    def __init__(self, pool: AsyncEngine, url: str, report: outages.Report) -> None:
        self._pool = pool
        self._url = url
        self._report = report
        self._refusals = outages.Refusals()

    async def look(self) -> bool:
        """Report the state of the database and return whether it answers; GoalworkerError after long refusals."""
        error = await migrations.probe(self._pool, self._url, self._report)
        is_refused = error is not None and (database_errors.is_login_refused(error) or None)
        if self._refusals.update(is_refused, time.monotonic()) and error is not None:
            raise database_errors.explain(self._url, error) from error
        return error is None
