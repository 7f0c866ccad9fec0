"""The worker's consumer returns the records of a plain consumer, with the fast path and without it."""

import asyncio
import gzip
from collections.abc import Sequence
from typing import Any

import aiokafka
import pytest
import structlog
from aiokafka.record._crecords import default_records

from goalworker import config
from goalworker.decoding.record import FetchedRecord
from goalworker.errors import UndecodableError
from goalworker.kafka import clients, fast_fetch
from goalworker.kafka.consumer import Consumer
from tests.kit import shells

VALUES = (b"one", None, b"", b"x" * 900_000, b"last")
FIELDS = ("offset", "timestamp", "timestamp_type", "key", "value")


@pytest.mark.smoke
@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_records_are_those_of_a_plain_consumer(
    bootstrap_servers: str, topics: dict[str, str], compression: str | None, fetching: str
) -> None:
    topic = topics["tag_added"]
    await _send(bootstrap_servers, topic, compression)
    settings = config.load(shells.variables_of(bootstrap_servers, topics), env_file=None, secrets_dir=None)
    handed_over = await _read(topic, clients.consumer(settings))
    assert {isinstance(record, aiokafka.ConsumerRecord) for record in handed_over} == {fetching == "stock"}
    plain = await _read(topic, aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap_servers))
    assert all(isinstance(record, aiokafka.ConsumerRecord) for record in plain)
    assert [_fields(record) for record in handed_over] == [_fields(record) for record in plain]
    assert [record.value for record in handed_over] == list(VALUES)


async def test_a_group_reads_the_same_where_the_version_of_aiokafka_is_unknown(
    bootstrap_servers: str, topics: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiokafka, "__version__", "0.14.99")
    with structlog.testing.capture_logs() as lines:
        assert not fast_fetch.install()
    assert [line["event"] for line in lines] == ["fast_fetch_unavailable"]
    await _send(bootstrap_servers, topics["tag_added"])
    settings = config.load(shells.variables_of(bootstrap_servers, topics), env_file=None, secrets_dir=None)
    records, fetched_bytes = await _read_by_group(settings)
    assert [record.value for record in records] == list(VALUES)
    parts = [(record.key, record.value, *(part for header in record.headers for part in header)) for record in records]
    assert fetched_bytes == sum(len(part or b"") for of_record in parts for part in of_record)


async def test_without_the_fast_path_a_batch_that_cannot_be_read_is_named_after_the_records_before_it(
    bootstrap_servers: str, topics: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, other = topics["tag_added"], topics["form_submitted"]
    await _send(bootstrap_servers, topic)
    await _send(bootstrap_servers, other)
    await _send(bootstrap_servers, topic, "gzip")

    def refuse(_payload: object) -> bytes:
        raise gzip.BadGzipFile("Not a gzipped file")

    monkeypatch.setattr(default_records, "gzip_decode", refuse)
    settings = config.load(shells.variables_of(bootstrap_servers, topics), env_file=None, secrets_dir=None)
    consumer = Consumer(settings)
    read: dict[str, list[bytes | None]] = {topic: [], other: []}
    sentence = rf"^{topic}\[0\]: the batch at offset 5 cannot be read: Not a gzipped file\. .*fast_fetch_unavailable"

    async def read_all() -> None:
        while True:
            for partition, records in (await consumer.fetch(100, 500)).items():
                read[partition.topic] += [record.value for record in records]

    try:
        with pytest.raises(UndecodableError, match=sentence):
            await asyncio.wait_for(read_all(), 60)
    finally:
        await consumer.close()
    assert read[topic] == list(VALUES)
    assert read[other] in ([], list(VALUES))


@pytest.mark.usefixtures("fetching")
async def test_a_fetch_reports_its_bytes(bootstrap_servers: str, topics: dict[str, str]) -> None:
    await _send(bootstrap_servers, topics["tag_added"])
    settings = config.load(shells.variables_of(bootstrap_servers, topics), env_file=None, secrets_dir=None)
    _, fetched_bytes = await _read_by_group(settings)
    assert 900_000 < fetched_bytes < 901_000


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


async def _read_by_group(settings: config.Settings) -> tuple[Sequence[FetchedRecord], int]:
    """Read as the worker does; return the records, and the bytes of all fetches."""
    consumer = Consumer(settings)
    records: list[FetchedRecord] = []
    fetched_bytes = 0
    try:
        async with asyncio.timeout(60):
            while len(records) < len(VALUES):
                for fetched in (await consumer.fetch(100, 1_000)).values():
                    records += fetched
                fetched_bytes += consumer.fetched_bytes
    finally:
        await consumer.close()
    return records, fetched_bytes


def _fields(record: Any) -> tuple[object, ...]:
    return (*(getattr(record, name) for name in FIELDS), tuple(record.headers))
