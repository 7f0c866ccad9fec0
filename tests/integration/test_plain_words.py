"""Log lines and `/healthz/ready` describe outages in sentences for people, without private names."""

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

import pytest
import structlog

from goalworker import config, metrics
from goalworker.kafka import broker_errors, consumer, sender
from goalworker.pipeline import outbox, paused_topics
from goalworker.postgres import connections
from goalworker.runtime import health_watch, housekeeping, ops_port
from goalworker.stores import enrollments, retention, table_statistics
from tests.kit import shells, support

PRIVATE: Final = re.compile(r"(?<!\w)_[A-Za-z]\w*")
LOOPS: Final = 9

Lines = list[MutableMapping[str, Any]]


@pytest.fixture
def nowhere() -> config.Settings:
    return config.load(shells.NOWHERE, env_file=None, secrets_dir=None)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    caplog.set_level(logging.DEBUG)  # so that no repeated line is held back
    with structlog.testing.capture_logs() as lines:
        yield lines


def private(words: Mapping[str, object]) -> list[str]:
    return [found for value in words.values() for found in PRIVATE.findall(str(value))]


def test_private_names_are_found_and_settings_are_allowed() -> None:
    assert private({"error": "in _sweep_outbox", "remedy": "set GOALWORKER_DATABASE__URL"}) == ["_sweep_outbox"]


@pytest.mark.parametrize(
    "away", [ConnectionRefusedError(111, "refused"), broker_errors.NotAcknowledgedError()], ids=repr
)
async def test_every_loop_of_the_housekeeping_fails_in_plain_words(
    away: Exception, nowhere: config.Settings, said: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> int:
        raise away

    for place, name in [
        (outbox, "sweep"),
        (outbox, "retry_refused"),
        (outbox, "status"),
        (retention, "sweep_hits"),
        (retention, "sweep_reversals"),
        (enrollments, "count_waiting_exits"),
        (table_statistics, "analyze_grown"),
    ]:
        monkeypatch.setattr(place, name, fail)
    url = nowhere.database_url()
    pool = connections.engine(url, pool_size=1, statement_timeout_seconds=1, application="test")
    pauses = paused_topics.PausedTopics(pool, 0.5, 100, lambda *_: None)

    async def read() -> None:
        await fail() if broker_errors.is_broker_error(away) else await pauses.read()

    async def claim() -> None:
        await fail()

    keeping = housekeeping.Housekeeping(nowhere, pool, sender.Sender(nowhere), read, claim)
    running = asyncio.create_task(keeping.run())
    try:
        await support.until(lambda: len({line["step"] for line in said if "step" in line}) == LOOPS, 20)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await pool.dispose()
    assert {line["event"] for line in said} == {"housekeeping_retry"}
    assert [found for line in said for found in private(line)] == []


async def test_readiness_describes_problems_in_sentences(nowhere: config.Settings, said: Lines) -> None:
    health = ops_port.Health(metrics.CHECKS)
    pool = connections.engine(nowhere.database_url(), pool_size=1, statement_timeout_seconds=1, application="test")
    looking = health_watch.HealthWatch(nowhere, pool, health.set, consumer.Consumer(nowhere), lambda: ())
    running = asyncio.create_task(looking.run())
    try:
        await support.until(lambda: health.checks["broker"] not in (None, ops_port.NOT_CHECKED), 20)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await pool.dispose()
    assert health.problems["database"].endswith("cannot be reached: the connection was refused")
    assert health.problems["broker"].endswith("cannot be reached: the connection was refused")
    assert private(health.problems) == []
    assert {line["event"] for line in said} == {"database_away", "broker_away"}
    assert [found for line in said for found in private(line)] == []
