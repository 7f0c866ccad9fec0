"""Where a record goes, as with every other client of Kafka, and what becomes of sends that share a producer."""

import asyncio
from collections.abc import Mapping
from typing import Any
from unittest import mock

import aiokafka.partitioner
import pytest
from aiokafka.producer import message_accumulator
from hypothesis import given
from hypothesis import strategies as st

from goalworker import kafka, settings


@given(st.binary(max_size=64))
def test_a_key_has_the_hash_that_kafka_gives_it(key: bytes) -> None:
    assert kafka._hash(key) == aiokafka.partitioner.murmur2(key) & 0x7FFFFFFF


class Unanswered:
    """A producer whose broker says nothing any more: it holds what it is given, and is not done before that is sent."""

    def __init__(self) -> None:
        self._message_accumulator = message_accumulator.MessageAccumulator(
            mock.Mock(), kafka.BATCH_BYTES, 0, 10, loop=asyncio.get_running_loop()
        )
        self.holds_some = asyncio.Event()
        self._sender = self.client = mock.AsyncMock()
        self.create_batch = self._message_accumulator.create_builder
        self.stop = self._message_accumulator.close

    async def partitions_for(self, _topic: str) -> Mapping[int, None]:
        return dict.fromkeys(range(4))

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        held = await self._message_accumulator.add_batch(batch, aiokafka.TopicPartition(topic, partition), 10)
        self.holds_some.set()
        return held


def test_what_is_sent_while_another_send_fails_is_not_acknowledged_either(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send() -> None:
        sender, producer = kafka.Sender(settings.load({})), Unanswered()
        sender._producer = producer
        sending = asyncio.create_task(sender.send([kafka.Record("workflow-exit", b"a", b"{}", ())]))
        await producer.holds_some.wait()
        sender._drop(producer)  # as the other send does when its time is up
        await sending

    monkeypatch.setattr(kafka, "CLOSE_SECONDS", 0.05)
    with pytest.raises(kafka.NotAcknowledgedError, match="another send"):
        asyncio.run(send())
