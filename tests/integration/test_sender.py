"""What the worker sends arrives, in order, whatever a topic takes at once."""

import aiokafka
import pytest
from aiokafka import errors as kafka_errors
from aiokafka.admin import NewTopic

from goalworker import kafka
from goalworker import settings as settings_
from tests import support
from tests.integration import shells

SMALL_BYTES = 20_000


async def _made_small(bootstrap_servers: str, topic: str) -> None:
    async with support.admin_client(bootstrap_servers) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": str(SMALL_BYTES)})])


@pytest.fixture
def sender(bootstrap_servers: str, topics: dict[str, str]) -> kafka.Sender:
    settings = settings_.load(shells.variables_of(bootstrap_servers, topics), env_file=None, secrets_dir=None)
    return kafka.Sender(settings)


async def test_a_topic_that_takes_less_than_a_batch_gets_each_record_alone(
    bootstrap_servers: str, absent_topics: dict[str, str], sender: kafka.Sender
) -> None:
    topic = absent_topics["goal_achieved"]
    await _made_small(bootstrap_servers, topic)
    values = [f"{number:06d}".encode() * 200 for number in range(450)]
    await sender.send([kafka.Record(topic, b"key", value) for value in values])
    await sender.stop()
    async with aiokafka.AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        assert [(await consumer.getone()).value for _ in values] == values


async def test_a_record_that_is_too_large_alone_is_refused(
    bootstrap_servers: str, absent_topics: dict[str, str], sender: kafka.Sender
) -> None:
    topic = absent_topics["goal_achieved"]
    await _made_small(bootstrap_servers, topic)
    with pytest.raises(kafka_errors.MessageSizeTooLargeError):
        await sender.send([kafka.Record(topic, b"key", b"x" * (SMALL_BYTES + 1))])
    await sender.stop()
