"""Records of other SDKs and tools are read unchanged from a real broker, whatever their compression."""

from datetime import UTC, datetime

import aiokafka
import pytest

from goalworker import config
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.decoding.record import FetchedRecord
from goalworker.domain import events
from goalworker.kafka import clients
from tests import vectors
from tests.kit import shells

PLAIN = Limits(tenant_from="key-prefix", plain_json=True, default_tenant="acme")
DATA = events.FormSubmitted("c-17", "newsletter")


@pytest.mark.real_world("gzip, snappy, lz4 and zstd", "the records of all these senders, compressed with each codec")
@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_records_of_other_clients_are_decoded_with_any_compression(
    bootstrap_servers: str, topics: dict[str, str], compression: str
) -> None:
    topic, sent = topics["form_submitted"], vectors.read()
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap_servers, compression_type=compression) as producer:
        for vector in sent:
            await producer.send(topic, vector.value, key=vector.key, partition=0, headers=list(vector.headers))
        await producer.flush()
    settings = config.load(shells.variables_of(bootstrap_servers, topics), env_file=None, secrets_dir=None)
    decoder = Decoder({topic: frozenset({"form.submitted"})}, PLAIN)
    partition = aiokafka.TopicPartition(topic, 0)
    found: list[FetchedRecord] = []
    async with clients.consumer(settings) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        while len(found) < len(sent):
            fetched = await consumer.getmany(timeout_ms=30_000)
            assert fetched, "nothing more came"
            found += fetched[partition]
    assert [(record.key, record.value, tuple(record.headers)) for record in found] == [
        (vector.key, vector.value, vector.headers) for vector in sent
    ]
    for record in found:
        event = decoder.decode(
            topic,
            record.value,
            record.headers,
            record.timestamp,
            datetime.now(UTC),
            key=record.key,
            position=(0, record.offset),
        )
        assert isinstance(event, events.Event), record
        assert (event.tenant_id, event.data) == ("acme", DATA)
