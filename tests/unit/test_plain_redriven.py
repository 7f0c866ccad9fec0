"""A value without an envelope keeps its identity when it is redriven."""

from aiokafka import ConsumerRecord, TopicPartition

from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import facts
from goalworker.goal_index import index
from goalworker.pipeline import batches, dead_letters
from tests.kit import hostile

REDRIVE = "goalworker.redrive"


def test_a_value_without_an_envelope_has_the_same_identity_when_it_is_redriven() -> None:
    decoder = Decoder(hostile.KINDS, Limits(plain_json=True, tenant_from="key-prefix"))
    first = record("form-submitted", 3, 17, ())
    letter = dead_letters.DeadLetter(first, "invalid_data", "")
    sent = dead_letters.record_of(letter, "goalworker.dlq", "group", redriven=False)
    again = record(REDRIVE, 0, 99, tuple(sent.headers))
    assert identities(decoder, first) == identities(decoder, again)
    assert identities(decoder, first) == [("acme", "kafka:form-submitted", "form-submitted/3/17")]


def record(topic: str, partition: int, offset: int, headers: tuple[tuple[str, bytes], ...]) -> ConsumerRecord:
    return ConsumerRecord(
        topic, partition, offset, hostile.TIMESTAMP_MS, 0, b"acme:c-1", hostile.FORM, None, 0, 0, headers
    )


def identities(decoder: Decoder, fetched: ConsumerRecord) -> list[facts.EventKey]:
    found = batches.Batch(
        epoch=1, revision=-1, decoder=decoder, fetched={TopicPartition(fetched.topic, fetched.partition): [fetched]}
    )
    for _ in batches.decoding(found, index.Index(), REDRIVE):
        pass
    return [facts.event_key(item[2]) for item in found.items]
