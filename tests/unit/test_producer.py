"""The producer waits for a broker that throttles, and aiokafka's internals are as it expects."""

import asyncio
import gc
import inspect
import time

import aiokafka
import aiokafka.partitioner
import pytest
from aiokafka import errors as kafka_errors
from aiokafka.producer import message_accumulator
from aiokafka.producer import sender as aiokafka_sender
from aiokafka.protocol import produce
from hypothesis import given
from hypothesis import strategies as st

from goalworker import config
from goalworker.kafka import aiokafka_internals, broker_errors, producer, records

SETTINGS = config.load({"GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}, env_file=None, secrets_dir=None)


@given(st.binary(max_size=64))
def test_a_key_has_the_hash_that_kafka_gives_it(key: bytes) -> None:
    assert producer.murmur2(key) == aiokafka.partitioner.murmur2(key) & 0x7FFFFFFF


BYTES = st.none() | st.integers(0, 70_000).map(bytes)


@given(st.none() | st.binary(max_size=300), BYTES, st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=200))))
def test_the_size_of_a_batch_of_one_record_is_what_the_broker_measures(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    record = records.Record("topic", key, value, headers, 1)
    batch = message_accumulator.BatchBuilder(1, 0)
    assert producer._append(batch, record)
    assert producer.batch_size(record) == batch.size() == len(batch._build())


# --- the inside of aiokafka: whoever changes its version looks here first ---


def test_aiokafka_sends_batches_by_the_method_of_its_client_that_is_wrapped() -> None:
    assert "self._client.send(" in inspect.getsource(aiokafka_sender.SendProduceReqHandler.do)
    assert "self._client = sender.client" in inspect.getsource(aiokafka_sender.SendProduceReqHandler.__init__)


def test_every_answer_to_a_batch_that_aiokafka_reads_says_how_long_to_wait() -> None:
    answers = [each for name, each in vars(produce).items() if name.startswith("ProduceResponse_v")]
    throttled = [each for each in answers if "throttle_time_ms" in each.SCHEMA.names]
    assert {each.API_VERSION for each in answers} - {each.API_VERSION for each in throttled} == {0}


async def _throttle_of_an_answer() -> float:
    made = producer.Producer(SETTINGS, idempotent=False, timeout_seconds=1)

    class Answer:
        throttle_time_ms = 60_000

    async def answered(_node_id: int, _request: object) -> Answer:
        return Answer()

    client = made._kafka.client
    client.send = answered
    producer._wait_when_throttled(client, made.throttle)
    await made._kafka.client.send(1, object())
    waiting = asyncio.create_task(made._kafka.client.send(1, object()))
    await asyncio.wait_for(made._kafka.client.send(2, object()), 1)  # another broker
    assert not waiting.done()
    seconds = made.throttle.until - time.monotonic()
    await made.close()
    with pytest.raises(kafka_errors.ProducerClosed):
        await waiting
    return seconds


def test_no_request_is_sent_to_a_broker_that_asked_to_wait_and_closing_ends_the_wait() -> None:
    assert 50 < asyncio.run(_throttle_of_an_answer()) <= 60


def test_what_a_closed_producer_holds_can_be_found() -> None:
    async def queued() -> int:
        made = producer.Producer(SETTINGS, idempotent=False, timeout_seconds=1)
        batch = made._kafka.create_batch()
        producer._append(batch, records.Record("topic", b"key", b"value"))
        await made._kafka._message_accumulator.add_batch(batch, aiokafka.TopicPartition("topic", 0), 1)
        found = len(aiokafka_internals.queued_batches(made._kafka))
        await made.close()
        return found

    assert asyncio.run(queued()) == 1


def test_a_producer_that_is_closed_in_the_midst_of_a_request_leaves_no_error_to_complain_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(producer, "CLOSE_SECONDS", 0.05)

    async def complaints() -> list[str]:
        found: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context["message"]))
        made = producer.Producer(SETTINGS, idempotent=False, timeout_seconds=1)
        for partition in range(2):
            await _add_batch(made, partition)
        _begin_request(made)
        await asyncio.sleep(0)
        await made.close()
        assert made._kafka._sender._sender_task.done()
        del made
        await asyncio.sleep(0)
        gc.collect()
        return found

    assert asyncio.run(complaints()) == []


def test_a_send_that_waits_behind_a_batch_of_a_closed_producer_may_be_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(producer, "CLOSE_SECONDS", 0.05)

    async def error_of_the_waiting() -> BaseException:
        made = producer.Producer(SETTINGS, idempotent=False, timeout_seconds=1)
        await _add_batch(made, 0)
        _begin_request(made)
        waiting = asyncio.create_task(_add_batch(made, 0))
        await asyncio.sleep(0)
        await made.close()
        (error,) = await asyncio.gather(waiting, return_exceptions=True)
        assert error is not None
        return error

    assert broker_errors.is_transient(asyncio.run(error_of_the_waiting()))


async def _add_batch(made: producer.Producer, partition: int) -> None:
    batch = made._kafka.create_batch()
    producer._append(batch, records.Record("topic", b"key", b"value"))
    await made._kafka._message_accumulator.add_batch(batch, aiokafka.TopicPartition("topic", partition), 1)


def _begin_request(made: producer.Producer) -> None:
    """Let a request be in flight that fails as aiokafka's do once their batch is cancelled."""
    sending = made._kafka._sender
    sending._sender_task = asyncio.create_task(_request())
    sending._sender_task.add_done_callback(sending._fail_all)


async def _request() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise KeyError("the batch was cancelled") from None


def test_a_record_that_breaks_a_rule_of_its_topic_has_an_error_of_its_own() -> None:
    assert kafka_errors.for_code(87) is producer.InvalidRecordError
    assert not producer.InvalidRecordError.retriable
