"""The sender slows down under a quota of the broker, instead of repeating (throttle_time_ms)."""

import asyncio
import time
from collections.abc import Mapping
from uuid import uuid4

import aiokafka
import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config, metrics
from goalworker.domain import messages
from goalworker.kafka import clients, producer
from goalworker.kafka import sender as kafka_sender
from goalworker.kafka.records import Record
from goalworker.kafka.sender import Sender
from goalworker.pipeline import outbox
from goalworker.postgres import connections
from tests.kit import quota, shells, support

BYTES_PER_SECOND = 20_000
AVERAGED_SECONDS = 10
RECORDS = 300
WINDOW_BYTES = 32 * 1024


@pytest.mark.real_world("kafka-python#2506", "A client under a quota gave up, sent all again, and so for ever.")
async def test_a_quota_is_used_up_and_each_record_is_sent_once(
    bootstrap_servers: str, topics: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "SEND_TIMEOUT_SECONDS", 2)  # as if it were of 15 s, and the quota a seventh
    topic = topics["workflow_exit"]
    sender, used_up = await _throttled(bootstrap_servers, topics)
    records = [Record(topic, b"%d" % number, b"%d" % number + b" " * 900) for number in range(RECORDS)]
    began = time.monotonic()
    await sender.send(records)
    seconds = time.monotonic() - began
    await sender.stop()
    size_bytes = sum(map(producer.batch_size, records))
    # A machine that stands still in between frees a part of what was used up.
    assert 0.8 * BYTES_PER_SECOND * seconds <= size_bytes <= BYTES_PER_SECOND * (seconds + AVERAGED_SECONDS)
    assert await _records_in(bootstrap_servers, topic) == used_up + RECORDS


async def test_the_successor_of_a_killed_sender_sends_little_more_than_the_rest(
    bootstrap_servers: str,
    topics: dict[str, str],
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_sender, "WINDOW_BYTES_MAX", WINDOW_BYTES)
    topic, batch_id = topics["workflow_exit"], uuid4()
    sender, used_up = await _throttled(bootstrap_servers, topics)
    sender.window_bytes = WINDOW_BYTES
    exits = [messages.Message(messages.WORKFLOW_EXIT, b"c%d" % n, b"%d" % n + b" " * 900) for n in range(RECORDS)]
    await administrator.execute(
        "INSERT INTO outbox (topic, key, value, batch_id, created_at)"
        " SELECT $1, 'key', unnest($2::bytea[]), $3, 'epoch'",
        *(messages.WORKFLOW_EXIT, [message.value for message in exits], batch_id),
    )
    killed = asyncio.create_task(outbox.publish(pool, sender, topics, {batch_id: exits}))
    published = metrics.outbox_published_total.labels(topic=topic)._value
    while published.get() < RECORDS // 2:
        done, _ = await asyncio.wait({killed}, timeout=0.001)
        assert not done, "nobody was killed"
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    await sender.stop()
    unthrottled = Sender(_settings(bootstrap_servers, topics, f"successor-{uuid4()}"))
    while await outbox.sweep(pool, unthrottled, topics):
        pass
    await unthrottled.stop()
    assert await administrator.fetchval("SELECT count(*) FROM outbox") == 0
    copies = await _records_in(bootstrap_servers, topic) - used_up - RECORDS
    assert 0 <= copies * len(exits[0].value) <= WINDOW_BYTES


async def _throttled(bootstrap_servers: str, topics: Mapping[str, str]) -> tuple[Sender, int]:
    """Return a sender that has used up the burst that its quota allows, and the number of exits that took."""
    client_id, topic = f"throttled-{uuid4()}", topics["workflow_exit"]
    await quota.limit(bootstrap_servers, client_id, BYTES_PER_SECOND)
    sender = Sender(_settings(bootstrap_servers, topics, client_id))
    used_up = 0
    while sender._producer is None or not sender._producer.throttle.until:
        await sender.send([Record(topic, b"key", b" " * 100_000)])
        used_up += 1
    await sender.wait_while_throttled()
    return sender, used_up


def _settings(bootstrap_servers: str, topics: Mapping[str, str], client_id: str) -> config.Settings:
    variables = shells.variables_of(bootstrap_servers, topics) | {"GOALWORKER_KAFKA__CLIENT_ID": client_id}
    return config.load(variables, env_file=None, secrets_dir=None)


async def _records_in(bootstrap_servers: str, topic: str) -> int:
    async with aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap_servers) as consumer:
        partitions = [aiokafka.TopicPartition(topic, number) for number in range(support.PARTITIONS)]
        return sum((await consumer.end_offsets(partitions)).values())
