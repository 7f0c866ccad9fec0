"""The record batches that other people's producers wrote, with each codec that they have, are read and decoded."""

import base64
import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from aiokafka import TopicPartition

from goalworker.decoding import decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import events
from goalworker.kafka.fast_fetch import parsed_records
from tests import vectors
from tests.kit import hostile

NOW: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)
PARTITION: Final = TopicPartition("form-submitted", 0)
READ_COMMITTED: Final = 1
CODECS: Final = {"none", "gzip", "snappy", "lz4", "zstd"}
PLAIN: Final = Limits(plain_json=True, tenant_from="key-prefix")


def batches(producer: str) -> dict[str, bytes]:
    """Return by codec the bytes that a broker stores of three records of a producer."""
    rows = [json.loads(line) for line in vectors.PRODUCERS.read_text().splitlines()]
    return {
        row["compression"]: base64.b64decode(row["batches"])
        for row in rows
        if row["producer"].startswith(f"{producer} ")
    }


def check(producer: str, codecs: set[str]) -> None:
    """Read what a producer wrote with each codec: it wrote the same three records every time."""
    found = batches(producer)
    assert found.keys() == codecs
    for codec, data in found.items():
        ids = [_event(record).id for record in _records(data)]
        assert ids == ["e-0", "e-1", "e-2"], codec


def _records(data: bytes) -> list[Any]:
    records = parsed_records.PartitionRecords(
        PARTITION, parsed_records.MemoryRecords(data), [], 0, None, None, True, READ_COMMITTED
    )
    found: list[Any] = []
    while len(found) < 3:
        part, has_more = records.take(3 - len(found))
        found += part
        assert part or has_more
    return found


def _event(record: Any) -> events.Event:
    event = decoder.Decoder(hostile.KINDS, PLAIN).decode(
        PARTITION.topic, record.value, record.headers, record.timestamp, NOW, key=record.key
    )
    assert isinstance(event, events.Event), event
    assert (event.tenant_id, event.time, event.data) == ("acme", NOW, events.FormSubmitted("c-17", "newsletter"))
    return event


@pytest.mark.real_world("confluent-kafka 2.16.1 (librdkafka)", "plain JSON in batches of each codec")
def test_batches_of_librdkafka_are_read() -> None:
    check("confluent-kafka", CODECS)


@pytest.mark.real_world("kafka-python 3.0.12", "plain JSON in batches of each codec")
def test_batches_of_kafka_python_are_read() -> None:
    check("kafka-python", CODECS)


@pytest.mark.real_world("franz-go 1.22.3", "plain JSON in batches of each codec")
def test_batches_of_franz_go_are_read() -> None:
    check("franz-go", CODECS)


@pytest.mark.real_world("segmentio/kafka-go 0.4.51", "plain JSON in batches of each codec")
def test_batches_of_segmentio_are_read() -> None:
    check("segmentio/kafka-go", CODECS)


@pytest.mark.real_world("sarama 1.61.1", "plain JSON in batches of each codec, one record in some of them")
def test_batches_of_sarama_are_read() -> None:
    check("sarama", CODECS)


@pytest.mark.real_world("kafkajs 2.2.4", "plain JSON in batches of the codecs that it has by itself")
def test_batches_of_kafkajs_are_read() -> None:
    check("kafkajs", {"none", "gzip"})
