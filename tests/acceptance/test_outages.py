"""PostgreSQL or Kafka goes away in mid-stream and comes back: nothing is lost or doubled (design, the three laws)."""

import asyncio
from collections.abc import Iterator

import pytest

from goalworker import embedded
from goalworker.postgres import migrations
from tests.kit import conversation, flood, messages_in, support, worker_process

RUNS = 400


@pytest.fixture(scope="module")
def pair() -> Iterator[embedded.Pair]:
    """Servers that nobody else needs."""
    with embedded.pair() as servers:
        yield servers


@pytest.fixture(scope="module")
def shared(pair: embedded.Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[worker_process.Installation]:
    folder = tmp_path_factory.mktemp("outages")
    with support.fresh_database(pair.database_url) as template:
        migrations.upgrade(support.with_database(pair.database_url, template))
        with worker_process.installation(pair.bootstrap_servers, pair.database_url, template, folder) as installation:
            yield installation


async def _is(worker: worker_process.Worker, path: str, status: int) -> bool:
    return worker.answers(path) == status


async def test_postgresql_killed_and_started_again_costs_nothing_but_time(
    pair: embedded.Pair, shared: worker_process.Installation, worker: worker_process.Worker
) -> None:
    async with conversation.talk(shared) as talk:
        stream = await flood.flood(talk, "no database", RUNS)
        half = len(stream.records) // 2
        await talk.send(*stream.records[:half])
        pair.postgres.kill()
        try:
            await conversation.until(lambda: _is(worker, "/healthz/ready", 503))
            await talk.send(*stream.records[half:])
            assert worker.answers("/healthz/live") == 200
            assert (worker.metric("ready", check="database"), worker.metric("ready", check="broker")) == (0, 1)
        finally:
            pair.postgres.start()
        await conversation.until(lambda: _is(worker, "/healthz/ready", 200))
        await stream.check(talk)
        assert worker.is_running


async def test_kafka_killed_and_started_again_costs_nothing_but_time(
    pair: embedded.Pair, shared: worker_process.Installation, worker: worker_process.Worker
) -> None:
    async with conversation.talk(shared) as talk:
        stream = await flood.flood(talk, "no broker", RUNS)
        await talk.send(*stream.records)
        await conversation.until(lambda: stream.is_judged(talk, 0.01))
        pair.kafka.kill()
        try:
            await conversation.until(lambda: _is(worker, "/healthz/ready", 503))
            assert worker.answers("/healthz/live") == 200
            assert (worker.metric("ready", check="database"), worker.metric("ready", check="broker")) == (1, 0)
        finally:
            pair.kafka.start()
        await conversation.until(lambda: _is(worker, "/healthz/ready", 200))
    async with conversation.talk(shared) as talk:
        await stream.check(talk)
        assert worker.is_running


async def test_sigterm_ends_a_worker_whose_broker_is_away(
    pair: embedded.Pair, shared: worker_process.Installation
) -> None:
    # In a group of its own: this one can't say goodbye, and another test's worker would wait for it.
    async with shared.worker(KAFKA__GROUP_ID="left behind") as worker:
        pair.kafka.kill()
        try:
            await conversation.until(lambda: _is(worker, "/healthz/ready", 503))
            worker.stop()
        finally:
            pair.kafka.start()


async def test_sigterm_ends_a_worker_that_waits_for_its_database(
    pair: embedded.Pair, shared: worker_process.Installation
) -> None:
    # At debug, for otherwise a retry is no line once the database is known to be away.
    async with conversation.talk(shared) as talk, shared.worker(LOG__LEVEL="debug") as worker:
        goal = await talk.goal("no time", "form_submitted", form_id="f")
        run, at = messages_in.a_run("no time"), messages_in.later(goal.created_at, 1)
        await talk.settled()
        pair.postgres.stop()
        try:
            await talk.send(run.started(at), run.submits("f", at))
            await worker.said("retry")
            await asyncio.to_thread(worker.stop)
            assert await talk.members() == {}
        finally:
            pair.postgres.start()
        async with shared.worker():
            await talk.settled()
            assert conversation.kinds(await talk.heard(run)) == [("goal.achieved", 1), ("exit.goal", None)]
