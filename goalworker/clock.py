"""How far the worker's clock is from the database's, by which events dated in the future are judged."""

import asyncio
import time
from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import database, decode, logs, metrics

log = logs.get("clock")

MEASURE_SECONDS: Final = 60.0
SKEW_MAX_SECONDS: Final = 5.0


async def skew_seconds(pool: AsyncEngine) -> float:
    """Return how far the database's clock is ahead of ours, by half of a round trip; negative: behind."""
    async with pool.connect() as connection:
        asked = time.time()
        answer = await connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8")
        return float(answer.scalar_one()) - (asked + time.time()) / 2


class Skew:
    """Measures the difference of the clocks, corrects the decoder by it, and warns once while it is large."""

    def __init__(self, pool: AsyncEngine, decoder: decode.Decoder) -> None:
        self._pool = pool
        self._decoder = decoder
        self._is_large = False

    async def run(self) -> None:
        """Measure once a minute until cancelled; the last difference stands while the database is away."""
        while True:
            await asyncio.sleep(MEASURE_SECONDS)
            try:
                await self.measure()
            except Exception as error:
                if not database.is_later(error):
                    raise

    async def measure(self) -> None:
        """Measure once; raises what the database does."""
        ahead_seconds = await skew_seconds(self._pool)
        self._decoder.ahead = timedelta(seconds=ahead_seconds)
        metrics.clock_skew_seconds.labels(of="database").set(ahead_seconds)
        is_large = abs(ahead_seconds) > SKEW_MAX_SECONDS
        if is_large and not self._is_large:
            log.warning(
                "clock_skew",
                database_ahead_seconds=round(ahead_seconds, 3),
                remedy="let both follow the same time servers; future_time is judged by the database's clock",
            )
        self._is_large = is_large
