"""Credentials that are revoked while a worker runs end it with the error of a start."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib import parse

import pytest

from tests.faults import faulty_servers, rigged, workers
from tests.kit import secure_broker, support, worker_process
from tests.kit.forker import Forker

USER = "operator"  # superuser of the broker
LATER_SECONDS = 20.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[secure_broker.Broker]:
    with secure_broker.running(tmp_path, USER) as running_broker:
        yield running_broker


@pytest.fixture
def logged_in(
    broker: secure_broker.Broker,
    servers: faulty_servers.FaultyServers,
    template_database: str,
    forker: Forker,
    tmp_path: Path,
) -> Iterator[worker_process.Installation]:
    """Installation whose workers log in to Kafka by SCRAM."""
    given = broker.settings(USER, "SCRAM-SHA-512")
    settings = {name.removeprefix("GOALWORKER_"): value for name, value in given.items()}
    with worker_process.installation(
        broker.open, servers.postgres.address, template_database, tmp_path, forker=forker, settings=settings
    ) as installation:
        yield installation


@pytest.mark.fault
@pytest.mark.real_world(
    "confluent-kafka-dotnet#2102", "the password of its SCRAM user is changed while a consumer runs"
)
async def test_a_kafka_password_changed_while_a_worker_runs_ends_it_with_code_4(
    logged_in: worker_process.Installation, broker: secure_broker.Broker
) -> None:
    async with _refused(logged_in, "broker") as worker:
        await broker.change_password(USER, "another")
        broker.server.kill()  # drops the connections, so that workers log in again
        broker.server.start()
    assert "GOALWORKER_KAFKA__SASL_PASSWORD" in worker.last_words()
    assert broker.login in worker.last_words()


@pytest.mark.fault
async def test_a_database_password_changed_while_a_worker_runs_ends_it_with_code_4(
    installation: worker_process.Installation,
) -> None:
    user = f"u{secrets.token_hex(4)}"
    parts = parse.urlsplit(installation.database_url)
    url = parts._replace(netloc=f"{user}:one@{parts.netloc.rpartition('@')[2]}").geturl()
    await support.execute(installation.database_url, f"CREATE ROLE {user} SUPERUSER LOGIN PASSWORD 'one'")
    async with _refused(replace(installation, database_url=url), "database") as worker:
        await support.execute(
            installation.database_url,
            f"ALTER ROLE {user} PASSWORD 'another'",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'",
        )
    assert user in worker.last_words()
    assert "GOALWORKER_DATABASE__URL" in worker.last_words()


@contextlib.asynccontextmanager
async def _refused(installation: worker_process.Installation, dependency: str) -> AsyncIterator[worker_process.Worker]:
    """Assert that a worker whose credentials become wrong retries for a while and ends as a new one does at once."""
    worker = workers.start(installation, "impatient")
    try:
        await worker.ready()
        yield worker
        await worker.said(f"{dependency}_refused")
        assert worker.answers("/healthz/ready") == 503
        await support.until(lambda: not worker.is_running, rigged.REFUSED_SECONDS + LATER_SECONDS)
    finally:
        worker.kill()
    assert worker.wait() == 4, worker.log.read_text()
    refused, ended = (worker.lines(event)[0] for event in (f"{dependency}_refused", "ended"))
    waited = datetime.fromisoformat(ended["timestamp"]) - datetime.fromisoformat(refused["timestamp"])
    assert rigged.REFUSED_SECONDS <= waited.total_seconds() <= rigged.REFUSED_SECONDS + LATER_SECONDS
    assert "Traceback" not in worker.log.read_text()
    assert not worker.lines(f"{dependency}_back")
    another = workers.start(installation)
    try:
        assert await asyncio.to_thread(another.wait) == 4
    finally:
        another.kill()
    assert another.last_words() == worker.last_words()
