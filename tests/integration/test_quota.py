"""Under a quota of the broker, the sender slows down instead of repeating (throttle_time_ms)."""

import time
from uuid import uuid4

import aiokafka
import pytest

from goalworker import config
from goalworker.kafka import clients, producer
from goalworker.kafka.records import Record
from goalworker.kafka.sender import Sender
from tests import quota, support
from tests.integration import shells

BYTES_PER_SECOND = 20_000
RECORDS = 300


@pytest.mark.real_world("kafka-python#2506", "A client under a quota gave up, sent all again, and so for ever.")
async def test_under_a_quota_each_record_is_sent_once_and_as_fast_as_it_may(
    bootstrap_servers: str, topics: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "SEND_TIMEOUT_SECONDS", 2)  # as if it were of 15 s, and the quota a seventh
    client_id, topic = f"throttled-{uuid4()}", topics["workflow_exit"]
    await quota.limit(bootstrap_servers, client_id, BYTES_PER_SECOND)
    variables = shells.variables_of(bootstrap_servers, topics) | {"GOALWORKER_KAFKA__CLIENT_ID": client_id}
    sender = Sender(config.load(variables, env_file=None, secrets_dir=None))
    # The broker averages over ten seconds: what it lets through at once is used up first.
    used_up = 0
    while sender._producer is None or not sender._producer.throttle.until:
        await sender.send([Record(topic, b"key", b" " * 100_000)])
        used_up += 1
    await sender.ready()
    records = [Record(topic, b"%d" % number, b"%d" % number + b" " * 900) for number in range(RECORDS)]
    began = time.monotonic()
    await sender.send(records)
    seconds = time.monotonic() - began
    await sender.stop()
    per_second = sum(map(producer.batch_size, records)) / seconds
    assert 0.8 * BYTES_PER_SECOND <= per_second <= 1.5 * BYTES_PER_SECOND
    assert await _records_in(bootstrap_servers, topic) == used_up + RECORDS


async def _records_in(bootstrap_servers: str, topic: str) -> int:
    async with aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap_servers) as consumer:
        partitions = [aiokafka.TopicPartition(topic, number) for number in range(support.PARTITIONS)]
        return sum((await consumer.end_offsets(partitions)).values())
