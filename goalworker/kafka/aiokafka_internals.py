"""Access to internals of aiokafka, where it has no public way. Only this module and fast_fetch use its private names.

tests/integration/test_broker_requests.py and tests/unit/test_producer.py fail first when aiokafka changes.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors


def client_of(connected: Any) -> Any:
    """Return the client of a consumer or of an admin client: it sends any request, and knows the cluster."""
    return connected._client


async def committed_offsets(consumer: Any, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Any]:
    """Return what the consumer's group has committed, with metadata, which the public call leaves out."""
    found: dict[TopicPartition, Any] = await consumer._coordinator.fetch_committed_offsets(list(partitions))
    return found


async def close_without_delivering(producer: Any, timeout_seconds: float) -> None:
    """Close a producer and drop what it holds; raises TimeoutError."""
    dropped = queued_batches(producer)
    for batch in dropped:
        batch.future.cancel()
        if not batch._drain_waiter.done():  # another send waits behind this batch, to the same partition
            batch._drain_waiter.set_exception(kafka_errors.ProducerClosed())
    try:
        async with asyncio.timeout(timeout_seconds):
            await asyncio.gather(producer._sender.close(), producer.client.close(), return_exceptions=True)
    finally:
        # A request in flight fails with a KeyError once its batch is gone, and fails other batches. Nobody awaits these
        # any more, so asyncio would log each error when the process ends.
        for batch in (*dropped, *queued_batches(producer)):
            _ignore_error(batch.future)
            _ignore_error(batch._drain_waiter)


def queued_batches(producer: Any) -> Sequence[Any]:
    """Return the batches that a producer has not sent, or sent without an answer yet."""
    queued = producer._message_accumulator
    return [*(batch for batches in queued._batches.values() for batch in batches), *queued._pending_batches]


def _ignore_error(future: asyncio.Future[Any]) -> None:
    if future.done() and not future.cancelled():
        future.exception()
