"""A worker that waits for the database stays in its group beyond the longest pause between polls."""

import asyncio
import time

import aiokafka
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.decoding import decoder
from goalworker.decoding.limits import Limits
from goalworker.goal_index import index
from goalworker.kafka import clients
from goalworker.kafka.consumer import Consumer
from goalworker.pipeline import waiting, worker
from tests.integration import statements, world
from tests.kit import shells, support

MAX_POLL_SECONDS = 2.0
AWAY_SECONDS = 8.0


@pytest.mark.usefixtures("fetching")
async def test_a_breaker_that_waits_for_the_database_keeps_its_group_membership(
    bootstrap_servers: str, topics: dict[str, str], pool: sa_async.AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(settings: config.Settings) -> aiokafka.AIOKafkaConsumer:
        consumer = connected(settings)
        consumer._max_poll_interval_ms = int(MAX_POLL_SECONDS * 1000)
        consumer._heartbeat_interval_ms = 500
        return consumer

    async def away(made: statements.Statement) -> object:
        if "INSERT INTO paused_topics" in made.sql:
            epochs.append(reading.epoch)
            since.setdefault("away", time.monotonic())
            if time.monotonic() < since["away"] + AWAY_SECONDS:
                raise ConnectionError("away")
        return await made.run()

    connected, epochs, since = clients.consumer, list[int](), dict[str, float]()
    monkeypatch.setattr(clients, "consumer", impatient)
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.5)
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
        for _ in range(9):
            await producer.send_and_wait(topics["tag_added"], b"{", partition=0)
    variables = shells.variables_of(bootstrap_servers, topics) | {"GOALWORKER_DEAD_LETTERS__WINDOW": "4"}
    settings = config.load(variables, env_file=None, secrets_dir=None)
    decoding = decoder.Decoder(settings.topics.event_types, Limits())
    reading = Consumer(settings)
    working = worker.Worker(settings, pool, world.Broker(), reading, index.Index(), decoding)
    with statements.hooked(away):
        running = asyncio.create_task(working.run())
        await support.until(lambda: topics["tag_added"] in working.paused_topics.topics or running.done())
        working.stop()
        await running
    assert len(epochs) > 2
    assert set(epochs) == {reading.epoch - 1}  # closing begins the next one
