"""Clock skew: its measurement, its log lines, and which of two clocks is slow."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from goalworker import config, metrics
from goalworker.decoding.decoder import Decoder
from goalworker.pipeline import clock_skew
from goalworker.pipeline.event_decoder import event_decoder
from tests.kit import support

OFFSETS = st.floats(-100_000, 100_000)
DELAYS = st.floats(0, 100)


# --- the arithmetic ---


@given(OFFSETS, st.lists(st.tuples(DELAYS, DELAYS), min_size=1, max_size=4))
def test_a_clock_is_known_to_half_of_the_shortest_round_trip(ahead: float, delays: list[tuple[float, float]]) -> None:
    readings = [clock_skew.Reading(1_000.0, 1_000.0 + there + ahead, there + back) for there, back in delays]
    closest = clock_skew.closest(readings)
    assert closest.round_trip_seconds == min(map(sum, delays))
    assert abs(closest.ahead_seconds - ahead) <= closest.round_trip_seconds / 2 + 1e-6


@given(OFFSETS, DELAYS)
def test_a_round_trip_that_takes_as_long_both_ways_costs_no_accuracy(ahead: float, delay: float) -> None:
    reading = clock_skew.Reading(1_000.0, 1_000.0 + delay + ahead, 2 * delay)
    assert reading.ahead_seconds == pytest.approx(ahead, abs=1e-6)


@pytest.mark.parametrize(("ahead", "is_large"), [(5.0, False), (-5.0, False), (5.1, True), (-5.1, True)])
def test_more_than_five_seconds_are_large_in_both_directions(ahead: float, is_large: bool) -> None:
    assert clock_skew.is_large(ahead) is is_large


@given(worker=OFFSETS, database=OFFSETS, age=st.floats(0, 100_000))
def test_only_a_slow_clock_is_called_slow(worker: float, database: float, age: float) -> None:
    # Each clock is so far ahead of the right time; the newest record was written so long ago.
    slow = clock_skew.slow_clock(database - worker, -age - worker)
    assert slow is None or {"worker": worker, "database": database}[slow] < -clock_skew.SKEW_MAX_SECONDS + 1e-6


@given(st.floats(-100_000, -5.1), st.sampled_from(["worker", "database"]))
def test_a_fresh_record_shows_which_clock_is_slow(behind: float, slow: str) -> None:
    worker, database = (behind, 0.0) if slow == "worker" else (0.0, behind)
    assert clock_skew.slow_clock(database - worker, 0.0 - worker) == slow


@given(OFFSETS)
def test_without_a_record_nobody_knows(ahead: float) -> None:
    assert clock_skew.slow_clock(ahead, -math.inf) is None


# --- measuring ---


class Database:
    """A database whose clock is off, asked over a network that takes so long for each way."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead
        self.delays: list[tuple[float, float]] = []
        self.error: Exception | None = None
        self.asked = 0
        self._now = 1_000_000.0

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator["Database"]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        self._now += 30.0  # waiting for a connection does not count as a round trip
        yield self

    async def exec_driver_sql(self, _sql: str) -> "Database":
        there, back = self.delays.pop() if self.delays else (0.1, 0.1)
        self._answer = self._now + there + self.ahead
        self._now += there + back
        return self

    def scalar_one(self) -> float:
        return self._answer


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    made = Database(0.0)
    monkeypatch.setattr(clock_skew, "time", made)
    return made


@pytest.fixture
def decoder() -> Decoder:
    return event_decoder(config.load({}))


@pytest.fixture
def written() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


Measure = Callable[..., None]


@pytest.fixture
def measure(database: Database, decoder: Decoder) -> Measure:
    """Measure a database whose clock is so far ahead, with newest records that are so far ahead of the worker's."""
    newest = [-math.inf]
    skew = clock_skew.ClockSkew(database, decoder, lambda: newest[0])  # type: ignore[arg-type]

    def measured(ahead: float, records_ahead: float = -math.inf) -> None:
        database.ahead, newest[0] = ahead, records_ahead
        asyncio.run(skew.measure())

    return measured


def test_the_shortest_of_a_few_round_trips_counts(database: Database) -> None:
    database.ahead, database.delays = 7.0, [(0.0, 9.0), (0.2, 0.2), (8.0, 0.0)]
    assert asyncio.run(clock_skew.skew_seconds(database)) == pytest.approx(7.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("ahead", [600.0, -600.0])
def test_the_decoder_judges_by_the_clock_that_was_measured(measure: Measure, decoder: Decoder, ahead: float) -> None:
    measure(ahead)
    assert decoder.ahead == timedelta(seconds=ahead)
    assert metrics.clock_skew_seconds.labels(of="database")._value.get() == pytest.approx(ahead)


@pytest.mark.parametrize("ahead", [600.0, -600.0])
def test_a_skew_is_said_once_and_that_it_is_over_once(
    measure: Measure, written: list[MutableMapping[str, Any]], ahead: float
) -> None:
    for each in (0.0, ahead, ahead, 1.0, 0.0, ahead):
        measure(each)
    said = [(line["event"], line["log_level"], line["database_ahead_seconds"]) for line in written]
    assert said == [
        ("clock_skew", "warning", ahead),
        ("clock_skew_over", "info", 1.0),
        ("clock_skew", "warning", ahead),
    ]


def test_the_clock_that_records_prove_slow_is_named_once(
    measure: Measure, written: list[MutableMapping[str, Any]]
) -> None:
    measure(-600.0)
    for _ in range(2):
        measure(-600.0, records_ahead=-1.0)
    measure(0.0)
    measure(600.0, records_ahead=599.0)
    said = [(line["event"], line.get("of"), line.get("records_ahead_seconds")) for line in written]
    assert said == [
        ("clock_skew", None, None),
        ("clock_slow", "database", -1.0),
        ("clock_skew_over", None, None),
        ("clock_skew", None, None),
        ("clock_slow", "worker", 599.0),
    ]


def test_records_that_are_ahead_say_nothing_of_clocks_that_agree(
    measure: Measure, written: list[MutableMapping[str, Any]]
) -> None:
    measure(0.1, records_ahead=600.0)
    assert written == []


def test_the_last_measured_skew_stands_while_the_database_is_away(
    database: Database, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_skew, "MEASURE_SECONDS", 0.001)

    async def measure() -> None:
        task = asyncio.create_task(clock_skew.ClockSkew(database, decoder, lambda: -math.inf).run())  # type: ignore[arg-type]
        database.ahead = 60.0
        await support.until(lambda: decoder.ahead == timedelta(seconds=60))
        # A server that starts may refuse a login that is right.
        for error in (ConnectionRefusedError(), asyncpg.InvalidPasswordError(), asyncpg.InvalidCatalogNameError()):
            database.error, asked = error, database.asked
            await support.until(lambda asked=asked: database.asked > asked + 2)  # type: ignore[misc]
            assert not task.done()
        assert decoder.ahead == timedelta(seconds=60)
        database.error, database.ahead = None, -60.0
        await support.until(lambda: decoder.ahead == timedelta(seconds=-60))
        database.error = ValueError("no database says that")
        with pytest.raises(ValueError, match="no database says that"):
            await task

    asyncio.run(measure())
