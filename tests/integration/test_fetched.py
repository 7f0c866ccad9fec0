"""What the worker's consumer hands on is what the client's own records say."""

from typing import Any

import aiokafka
import pytest

from goalworker import config
from goalworker.kafka import clients
from tests.kit import shells

VALUES = (b"one", None, b"", b"x" * 900_000, b"last")
FIELDS = ("offset", "timestamp", "timestamp_type", "key", "value")


async def test_records_as_parsed_say_what_the_clients_own_records_say(
    bootstrap_servers: str, topics: dict[str, str]
) -> None:
    topic = topics["tag_added"]
    await _send(bootstrap_servers, topic)
    settings = config.load(shells.variables_of(bootstrap_servers, topics), env_file=None, secrets_dir=None)
    parsed = await _read(topic, clients.consumer(settings))
    whole = await _read(topic, aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap_servers))
    assert not any(isinstance(record, aiokafka.ConsumerRecord) for record in parsed)
    assert [_fields(record) for record in parsed] == [_fields(record) for record in whole]
    assert [record.value for record in parsed] == list(VALUES)


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_what_senders_compress_is_read(bootstrap_servers: str, topics: dict[str, str], compression: str) -> None:
    topic = topics["tag_added"]
    await _send(bootstrap_servers, topic, compression)
    settings = config.load(shells.variables_of(bootstrap_servers, topics), env_file=None, secrets_dir=None)
    assert [record.value for record in await _read(topic, clients.consumer(settings))] == list(VALUES)


async def _send(bootstrap_servers: str, topic: str, compression: str | None = None) -> None:
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap_servers, compression_type=compression) as producer:
        for number, value in enumerate(VALUES):
            headers = [("n", str(number).encode()), ("empty", b"")][: number % 3]
            key = None if number == 2 else b"key"
            await producer.send_and_wait(topic, value, key=key, partition=0, headers=headers)


async def _read(topic: str, consumer: Any) -> list[Any]:
    partition = aiokafka.TopicPartition(topic, 0)
    async with consumer:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        records: list[Any] = []
        while len(records) < len(VALUES):
            fetched = await consumer.getmany(timeout_ms=30_000)
            assert fetched, "nothing more came"
            records += fetched[partition]
        return records


def _fields(record: Any) -> tuple[object, ...]:
    return (*(getattr(record, name) for name in FIELDS), tuple(record.headers))
