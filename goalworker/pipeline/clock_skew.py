"""Clock skew between worker and database: the database's clock decides which events are in the future."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Literal, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import logs, metrics
from goalworker.decoding.decoder import Decoder
from goalworker.postgres import connections, database_errors

log = logs.get("clock")

MEASURE_SECONDS: Final = 60.0
SKEW_MAX_SECONDS: Final = 5.0
# Readings of one measurement. The one with the shortest round trip counts: a delay may lie in either direction.
READINGS: Final = 3


class Reading(NamedTuple):
    """One reading of another clock: asked at a moment of ours, answered after the round trip."""

    asked_at: float
    answer: float
    round_trip_seconds: float

    @property
    def ahead_seconds(self) -> float:
        """Seconds by which the other clock is ahead of ours, with an error of at most half the round trip."""
        return self.answer - (self.asked_at + self.round_trip_seconds / 2)


async def skew_seconds(pool: AsyncEngine) -> float:
    """Return the seconds by which the database's clock is ahead of ours, negative if it is behind."""
    async with pool.connect() as connection:

        async def read() -> Reading:
            asked_at, began = time.time(), time.monotonic()
            answer = await connection.exec_driver_sql(connections.SELECT_NOW_SECONDS)
            return Reading(asked_at, float(answer.scalar_one()), time.monotonic() - began)

        readings = [await read() for _ in range(READINGS)]
    return closest(readings).ahead_seconds


def closest(readings: list[Reading]) -> Reading:
    """Return the reading with the smallest possible error."""
    return min(readings, key=lambda reading: reading.round_trip_seconds)


def is_large(ahead_seconds: float) -> bool:
    """Say whether a skew is large."""
    return abs(ahead_seconds) > SKEW_MAX_SECONDS


def slow_clock(database_ahead_seconds: float, records_ahead_seconds: float) -> Literal["database", "worker"] | None:
    """Return which of two clocks that are far apart is slow, by the newest records; None if they don't show it.

    A record is written before it is read: a clock that says otherwise is slow. Records can't show that a clock is fast,
    since they may have waited. Both arguments are seconds ahead of the worker's clock.
    """
    if database_ahead_seconds > SKEW_MAX_SECONDS and records_ahead_seconds > SKEW_MAX_SECONDS:
        return "worker"
    records_ahead_of_database = records_ahead_seconds - database_ahead_seconds
    if database_ahead_seconds < -SKEW_MAX_SECONDS and records_ahead_of_database > SKEW_MAX_SECONDS:
        return "database"
    return None


class ClockSkew:
    """The measured skew: the decoder is corrected by it, and a warning is logged once while it is large.

    records_ahead_seconds returns by how much the newest record since the last call was ahead of the worker's clock.
    """

    def __init__(self, pool: AsyncEngine, decoder: Decoder, records_ahead_seconds: Callable[[], float]) -> None:
        self._pool = pool
        self._decoder = decoder
        self._records_ahead_seconds = records_ahead_seconds
        self._is_large = False
        self._slow: Literal["database", "worker"] | None = None

    async def run(self) -> None:
        """Measure once a minute until cancelled; the last skew stands while the database is unavailable."""
        while True:
            await asyncio.sleep(MEASURE_SECONDS)
            try:
                await self.measure()
            except Exception as error:
                if not database_errors.is_unavailable(error):
                    raise

    async def measure(self) -> None:
        """Measure once; errors of the database are raised."""
        ahead_seconds = await skew_seconds(self._pool)
        self._decoder.ahead = timedelta(seconds=ahead_seconds)
        metrics.clock_skew_seconds.labels(of="database").set(ahead_seconds)
        self._say(ahead_seconds, self._records_ahead_seconds())

    def _say(self, ahead_seconds: float, records_ahead_seconds: float) -> None:
        was_large, self._is_large = self._is_large, is_large(ahead_seconds)
        database_ahead_seconds = round(ahead_seconds, 3)
        if self._is_large and not was_large:
            log.warning(
                "clock_skew",
                database_ahead_seconds=database_ahead_seconds,
                remedy="let both follow the same time servers; future_time is judged by the database's clock",
            )
        elif was_large and not self._is_large:
            self._slow = None
            log.info("clock_skew_over", database_ahead_seconds=database_ahead_seconds)
        slow = slow_clock(ahead_seconds, records_ahead_seconds)
        if slow is not None and slow != self._slow:
            self._slow = slow
            log.warning(
                "clock_slow",
                of=slow,
                database_ahead_seconds=database_ahead_seconds,
                records_ahead_seconds=round(records_ahead_seconds, 3),
                remedy=_REMEDIES[slow],
            )


_REMEDIES: Final = {
    "database": "set the clock of the database's machine: until then good events may be dead-lettered as future_time",
    "worker": "set the clock of the worker's machine; no event is affected, since the database's clock decides",
}
