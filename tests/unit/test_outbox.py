"""Publishing, with a sender of the test's own."""

import asyncio
import weakref
from typing import Any, cast

from goalworker.domain import messages
from goalworker.kafka.delivery import Delivery
from goalworker.kafka.sender import Sender
from goalworker.pipeline import outbox
from tests.kit.collector import no_collector

TOPICS = {name: name for name in messages.TOPICS}


class Acknowledging:
    """Sender that acknowledges everything, and remembers deliveries without keeping them."""

    window_bytes = 1_000

    def __init__(self) -> None:
        self.deliveries: list[weakref.ref[Delivery]] = []

    async def deliver(self, delivery: Delivery, *, after_window: Any, **_: Any) -> None:
        self.deliveries.append(weakref.ref(delivery))
        delivery.acknowledge(list(delivery.pending))
        await after_window(0.0)


def test_published_messages_do_not_wait_for_the_collector() -> None:
    sender = Acknowledging()
    outgoing = [messages.Message(messages.GOAL_ACHIEVED, b"acme:c1", b'{"id":%d}' % number) for number in range(3)]

    async def publish() -> list[int]:
        progress = outbox._Sending(cast("Sender", sender), TOPICS, outgoing)
        await progress.run()
        return progress.acknowledged

    with no_collector():
        assert asyncio.run(publish()) == [0, 1, 2]
        assert [delivery() for delivery in sender.deliveries] == [None, None]
