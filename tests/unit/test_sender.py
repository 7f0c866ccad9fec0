"""A sender handles records that the broker acknowledges, refuses or leaves unanswered."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from aiokafka import errors as kafka_errors

from goalworker import config
from goalworker.kafka import broker_errors, clients, producer
from goalworker.kafka.delivery import Delivery
from goalworker.kafka.records import Record
from goalworker.kafka.sender import WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, Sender
from tests.kit import support

TOPIC = "workflow-exit"


class Fake(producer.Producer):
    """A producer whose broker answers as it is told to, one batch a record."""

    def __init__(self, answer: Callable[[bytes], Exception | None], *, idempotent: bool = True) -> None:
        self.idempotent, self.throttle = idempotent, producer.Throttle()
        self._answer = answer
        self.sent: list[bytes] = []
        self.unanswered: list[asyncio.Future[None]] = []

    async def start(self) -> None: ...

    async def by_partition(self, topic: str, records: Mapping[int, Record]) -> dict[producer.PartitionId, list[int]]:
        return {(topic, 0): list(records)}

    async def enqueue(self, _place: object, records: Iterable[Record], _limit: object) -> tuple[int, Any]:
        value = next(iter(records)).value or b""
        self.sent.append(value)
        future = asyncio.get_running_loop().create_future()
        try:
            error = self._answer(value)
        except TimeoutError:
            self.unanswered.append(future)
        else:
            future.set_exception(error) if error else future.set_result(None)
        return 1, future

    async def close(self) -> None:
        for future in self.unanswered:
            future.cancel()


def sender_with(*made: Fake) -> Sender:
    sender, left = Sender(config.load({})), list(made)

    async def connected(*, idempotent: bool) -> producer.Producer:
        fake = left.pop(0)
        fake.idempotent = idempotent
        return fake

    sender._connected = connected  # type: ignore[method-assign]
    return sender


def records(*values: bytes) -> list[Record]:
    return [Record(TOPIC, b"key", value) for value in values]


def takes_all(_value: bytes) -> None:
    return None


def unanswered_from(first: bytes) -> Callable[[bytes], None]:
    def answer(value: bytes) -> None:
        if value >= first:
            raise TimeoutError

    return answer


def test_what_is_sent_while_another_send_fails_is_not_acknowledged_either() -> None:
    async def send() -> None:
        silent = Fake(unanswered_from(b""))
        sender = sender_with(silent)
        task = asyncio.create_task(sender.send(records(b"1")))
        await support.until(lambda: bool(silent.unanswered))
        sender._drop(silent)  # as the other send does when its time is up
        await task

    with pytest.raises(broker_errors.NotAcknowledgedError, match="another send"):
        asyncio.run(send())


def test_what_was_acknowledged_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Fake(unanswered_from(b"3")), Fake(takes_all)

    async def send() -> Delivery:
        sender, delivery = sender_with(first, second), Delivery(records(b"1", b"2", b"3", b"4"))
        with pytest.raises(broker_errors.NotAcknowledgedError):
            await sender.deliver(delivery)
        assert delivery.acknowledged == [0, 1]
        await sender.deliver(delivery)
        return delivery

    monkeypatch.setattr(clients, "SEND_TIMEOUT_SECONDS", 0.05)
    delivery = asyncio.run(send())
    assert second.sent == [b"3", b"4"]
    assert (delivery.acknowledged, delivery.pending, delivery.refused) == ([0, 1, 2, 3], {}, {})


def test_a_send_is_given_time_for_as_long_as_the_broker_asks_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send() -> None:
        throttled = Fake(unanswered_from(b""))
        throttled.throttle.note(1, 300)
        task = asyncio.create_task(sender_with(throttled).send(records(b"1")))
        await asyncio.sleep(0.2)
        assert not task.done()  # though its time was up four times
        throttled.unanswered[0].set_result(None)
        await task

    monkeypatch.setattr(clients, "SEND_TIMEOUT_SECONDS", 0.05)
    asyncio.run(send())


def test_one_record_that_is_refused_keeps_no_other_from_being_sent() -> None:
    def refuses_2(value: bytes) -> Exception | None:
        if first.sent[-1] != value or value == b"1":
            return None
        return producer.InvalidRecordError() if value == b"2" else kafka_errors.OutOfOrderSequenceNumber()

    first, second = Fake(refuses_2), Fake(takes_all)
    delivery = Delivery(records(b"1", b"2", b"3"))
    asyncio.run(sender_with(first, second).deliver(delivery))
    assert second.sent == [b"3"]  # which the gap in the sequence kept the first producer from sending
    assert delivery.acknowledged == [0, 2]
    assert isinstance(delivery.refused[1].error, producer.InvalidRecordError)
    assert delivery.refused[1].size == producer.batch_size(records(b"2")[0])


def test_sending_raises_what_was_refused_once_all_others_are_acknowledged() -> None:
    refusing = Fake(lambda value: producer.InvalidRecordError() if value == b"1" else None)
    after = Fake(takes_all)
    with pytest.raises(producer.InvalidRecordError):
        asyncio.run(sender_with(refusing, after).send(records(b"1", b"2")))
    assert after.sent == [b"2"]


def test_windows_shrink_while_they_take_long_and_grow_while_they_do_not() -> None:
    sender = Sender(config.load({}))
    start = sender.window_bytes
    sender._adapt(start, 0.01, is_full=True)
    assert sender.window_bytes == 2 * start
    sender._adapt(2 * start, 0.01, is_full=False)
    assert sender.window_bytes == 2 * start
    sender._adapt(2 * start, 16.0, is_full=True)
    assert sender.window_bytes == start // 4
    sender._adapt(start, 100_000.0, is_full=True)
    assert sender.window_bytes == WINDOW_BYTES_MIN
    for _ in range(20):
        sender._adapt(1, 0.01, is_full=True)
    assert sender.window_bytes == WINDOW_BYTES_MAX


def test_a_window_holds_what_fits_and_one_record_at_least() -> None:
    sender = Sender(config.load({}))
    sender.window_bytes = 1_000
    delivery = Delivery(records(b"1" * 600, b"2" * 600, b"3" * 5_000, b"4"))
    windows = []
    while delivery.pending:
        window, _ = sender._window(delivery)
        windows.append(list(window))
        delivery.acknowledge(window)
    assert windows == [[0], [1], [2], [3]]


def test_after_each_window_it_is_said_when_the_next_may_begin() -> None:
    said: list[tuple[int, bool]] = []

    async def send() -> None:
        def throttles(value: bytes) -> None:
            if value == b"2":
                fake.throttle.note(1, 200)

        async def after_window(next_at: float) -> None:
            said.append((len(delivery.acknowledged), next_at > time.monotonic()))

        fake = Fake(throttles)
        sender = sender_with(fake)
        sender.window_bytes = 1
        sender._adapt = lambda *_, **__: None  # type: ignore[method-assign]
        delivery = Delivery(records(b"1", b"2", b"3"))
        await sender.deliver(delivery, after_window=after_window)

    asyncio.run(send())
    assert said == [(1, False), (2, True), (3, False)]


def test_no_window_begins_after_the_deadline_nor_waits_beyond_it() -> None:
    async def send() -> tuple[list[bytes], list[int]]:
        fake = Fake(takes_all)
        sender = sender_with(fake)
        sender.window_bytes = 1
        late = Delivery(records(b"late"))
        await sender.deliver(late, deadline=time.monotonic())
        assert late.pending

        def throttles(value: bytes) -> None:
            if value == b"2":
                fake.throttle.note(1, 100_000)

        fake._answer = throttles
        sender._adapt = lambda *_, **__: None  # type: ignore[method-assign]
        delivery = Delivery(records(b"1", b"2", b"3"))
        await sender.deliver(delivery, deadline=time.monotonic() + 50)
        return fake.sent, list(delivery.pending)

    assert asyncio.run(send()) == ([b"1", b"2"], [2])
