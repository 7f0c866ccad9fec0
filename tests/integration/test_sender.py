"""Sent records arrive in order, whatever size of request a topic allows."""

import aiokafka
import pytest
from aiokafka import errors as kafka_errors
from aiokafka.admin import NewTopic

from goalworker import config
from goalworker.kafka import producer, records
from goalworker.kafka.delivery import Delivery
from goalworker.kafka.sender import Sender
from tests.kit import shells, support

SMALL_BYTES = 20_000


async def _made_small(bootstrap_servers: str, topic: str) -> None:
    async with support.admin_client(bootstrap_servers) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": str(SMALL_BYTES)})])


@pytest.fixture
def sender(bootstrap_servers: str, topics: dict[str, str]) -> Sender:
    settings = config.load(shells.variables_of(bootstrap_servers, topics), env_file=None, secrets_dir=None)
    return Sender(settings)


async def test_a_topic_with_a_low_limit_gets_each_record_alone(
    bootstrap_servers: str, absent_topics: dict[str, str], sender: Sender
) -> None:
    topic = absent_topics["goal_achieved"]
    await _made_small(bootstrap_servers, topic)
    values = [f"{number:06d}".encode() * 200 for number in range(450)]
    await sender.send([records.Record(topic, b"key", value) for value in values])
    await sender.stop()
    assert await _values(bootstrap_servers, topic, len(values)) == values


async def _values(bootstrap_servers: str, topic: str, count: int) -> list[bytes | None]:
    async with aiokafka.AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def test_a_record_that_is_too_large_alone_is_refused_after_all_others_are_sent(
    bootstrap_servers: str, absent_topics: dict[str, str], sender: Sender
) -> None:
    topic = absent_topics["goal_achieved"]
    await _made_small(bootstrap_servers, topic)
    large = records.Record(topic, b"key", b"x" * SMALL_BYTES)
    with pytest.raises(kafka_errors.MessageSizeTooLargeError):
        await sender.send([records.Record(topic, b"key", b"1"), large, records.Record(topic, b"key", b"2")])
    assert await _values(bootstrap_servers, topic, 2) == [b"1", b"2"]
    await sender.stop()


async def test_a_refusal_contains_size_and_limit_to_the_byte(
    bootstrap_servers: str, absent_topics: dict[str, str], sender: Sender
) -> None:
    topic = absent_topics["goal_achieved"]
    await _made_small(bootstrap_servers, topic)
    overhead = producer.batch_size(records.Record(topic, b"key", b"x" * SMALL_BYTES)) - SMALL_BYTES
    fits = records.Record(topic, b"key", b"x" * (SMALL_BYTES - overhead))
    too_large = records.Record(topic, b"key", b"x" * (SMALL_BYTES - overhead + 1))
    for _ in range(2):  # the sender knows the topic's limit the second time
        delivery = Delivery([fits, too_large])
        await sender.deliver(delivery)
        assert delivery.acknowledged == [0]
        refusal = delivery.refused[1]
        assert (refusal.size, refusal.limit) == (SMALL_BYTES + 1, SMALL_BYTES)
        assert refusal.reason == "larger than max.message.bytes"
    await sender.stop()


async def test_a_compacted_topic_refuses_only_the_record_without_a_key(
    bootstrap_servers: str, absent_topics: dict[str, str], sender: Sender
) -> None:
    topic = absent_topics["goal_configured"]
    async with support.admin_client(bootstrap_servers) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"cleanup.policy": "compact"})])
    delivery = Delivery(records.Record(topic, None if n == 3 else b"key", b"%d" % n) for n in range(6))
    await sender.deliver(delivery)
    assert sorted(delivery.acknowledged) == [0, 1, 2, 4, 5]
    assert isinstance(delivery.refused[3].error, producer.InvalidRecordError)
    await sender.stop()
