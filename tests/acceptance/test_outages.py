"""PostgreSQL or Kafka goes away under load and comes back: nothing is lost or doubled (design, the three laws)."""

import asyncio
from collections.abc import Iterator

import pytest

from goalworker import embedded
from goalworker.postgres import migrations
from tests.kit import clients, flood, messages_in, support, worker_process
from tests.kit.forker import Forker

RUNS = 400


@pytest.fixture(scope="module")
def pair() -> Iterator[embedded.Pair]:
    """Servers of this module's own."""
    with embedded.pair() as servers:
        yield servers


@pytest.fixture(scope="module")
def shared(
    pair: embedded.Pair, forker: Forker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[worker_process.Installation]:
    folder = tmp_path_factory.mktemp("outages")
    with support.fresh_database(pair.database_url) as template:
        migrations.upgrade(support.with_database(pair.database_url, template))
        with worker_process.installation(
            pair.bootstrap_servers, pair.database_url, template, folder, forker=forker
        ) as installation:
            yield installation


async def _is(worker: worker_process.Worker, path: str, status: int) -> bool:
    return worker.answers(path) == status


async def test_postgresql_killed_and_started_again_costs_nothing_but_time(
    pair: embedded.Pair, shared: worker_process.Installation, worker: worker_process.Worker
) -> None:
    async with clients.connect(shared) as client:
        stream = await flood.flood(client, "no database", RUNS)
        half = len(stream.records) // 2
        await client.send(*stream.records[:half])
        pair.postgres.kill()
        try:
            await clients.until(lambda: _is(worker, "/healthz/ready", 503))
            await client.send(*stream.records[half:])
            assert worker.answers("/healthz/live") == 200
            assert (worker.metric("ready", check="database"), worker.metric("ready", check="broker")) == (0, 1)
        finally:
            pair.postgres.start()
        await clients.until(lambda: _is(worker, "/healthz/ready", 200))
        await stream.check(client)
        assert worker.is_running


async def test_kafka_killed_and_started_again_costs_nothing_but_time(
    pair: embedded.Pair, shared: worker_process.Installation, worker: worker_process.Worker
) -> None:
    async with clients.connect(shared) as client:
        stream = await flood.flood(client, "no broker", RUNS)
        await client.send(*stream.records)
        await clients.until(lambda: stream.is_judged(client, 0.01))
        pair.kafka.kill()
        try:
            await clients.until(lambda: _is(worker, "/healthz/ready", 503))
            assert worker.answers("/healthz/live") == 200
            assert (worker.metric("ready", check="database"), worker.metric("ready", check="broker")) == (1, 0)
        finally:
            pair.kafka.start()
        await clients.until(lambda: _is(worker, "/healthz/ready", 200))
    async with clients.connect(shared) as client:
        await stream.check(client)
        assert worker.is_running


async def test_sigterm_ends_a_worker_whose_broker_is_away(
    pair: embedded.Pair, shared: worker_process.Installation
) -> None:
    # Its own group: this worker cannot leave it, and the worker of another test would have to wait.
    async with shared.worker(KAFKA__GROUP_ID="left behind") as worker:
        pair.kafka.kill()
        try:
            await clients.until(lambda: _is(worker, "/healthz/ready", 503))
            worker.stop()
        finally:
            pair.kafka.start()


async def test_sigterm_ends_a_worker_that_waits_for_its_database(
    pair: embedded.Pair, shared: worker_process.Installation, worker: worker_process.Worker
) -> None:
    await asyncio.to_thread(worker.stop)  # the module's worker, so that the group has one member
    async with clients.connect(shared) as client:
        await client.remove_member(worker)  # left from before the broker was killed: the group would wait 45 s for it
    # Retries are logged at debug level while the database is known to be away.
    async with clients.connect(shared) as client, shared.worker(LOG__LEVEL="debug") as waiting:
        goal = await client.create_goal("no time", "form_submitted", form_id="f")
        enrollment, at = messages_in.new_enrollment("no time"), messages_in.later(goal.created_at, 1)
        await client.settle()
        pair.postgres.stop()
        try:
            await client.send(enrollment.started(at), enrollment.submits("f", at))
            await waiting.said("retry")
            await asyncio.to_thread(waiting.stop)
            assert await client.members() == {}
        finally:
            pair.postgres.start()
        async with shared.worker():
            await client.settle()
            assert clients.kinds(await client.messages_about(enrollment)) == [("goal.achieved", 1), ("exit.goal", None)]
