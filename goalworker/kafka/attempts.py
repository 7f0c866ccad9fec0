"""One attempt to send records: batches for each partition, in order, until all are acknowledged or refused."""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import errors as kafka_errors

from goalworker.kafka import broker_errors, clients
from goalworker.kafka.delivery import Delivery, RefusedBatch
from goalworker.kafka.producer import InvalidRecordError, PartitionId, Producer
from goalworker.kafka.records import Record

RECORD_TOO_LARGE: Final = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
# Every record of the topic is refused.
TOPIC_REFUSED: Final = (kafka_errors.TopicAuthorizationFailedError, kafka_errors.UnsupportedForMessageFormatError)
# One record is at fault, but the broker refuses its whole batch.
_RECORD_REFUSED: Final = (
    *RECORD_TOO_LARGE,
    InvalidRecordError,
    kafka_errors.InvalidTimestampError,
    kafka_errors.PolicyViolationError,
)


async def send_once(
    producer: Producer,
    delivery: Delivery,
    records: Mapping[int, Record],
    batch_limits: Mapping[str, int],
    refused: list[RefusedBatch],
) -> None:
    """Send records once, and add the batches that are refused; raises NotAcknowledgedError on a transient error.

    batch_limits are bytes by topic.
    """
    try:
        by_partition = await _by_partition(producer, records, refused)
        sending = {
            asyncio.create_task(
                _send_in_order(
                    producer, delivery, partition, {n: records[n] for n in numbers}, batch_limits.get(partition[0])
                )
            )
            for partition, numbers in by_partition.items()
        }
        refused += await _await_all(sending, producer, delivery)
    except (TimeoutError, kafka_errors.KafkaError, OSError) as error:
        if isinstance(error, TimeoutError) or broker_errors.is_transient(error):
            raise broker_errors.NotAcknowledgedError(f"not acknowledged: {error or type(error).__name__}") from error
        raise


async def _by_partition(
    producer: Producer, records: Mapping[int, Record], refused: list[RefusedBatch]
) -> dict[PartitionId, list[int]]:
    by_topic: dict[str, dict[int, Record]] = defaultdict(dict)
    for number, record in records.items():
        by_topic[record.topic][number] = record
    by_partition: dict[PartitionId, list[int]] = {}
    for topic, records_of_topic in by_topic.items():
        try:
            by_partition |= await producer.by_partition(topic, records_of_topic)
        except TOPIC_REFUSED as error:
            refused.append(RefusedBatch(list(records_of_topic), error))
    return by_partition


async def _send_in_order(
    producer: Producer, delivery: Delivery, partition: PartitionId, records: dict[int, Record], limit: int | None
) -> list[RefusedBatch]:
    """Send records to one partition; after a refusal, an idempotent producer gets no more of them into it."""
    sent: list[tuple[list[int], asyncio.Future[Any]]] = []
    while records:
        count, acknowledged = await producer.enqueue(partition, records.values(), limit)
        numbers = list(itertools.islice(records, count))
        sent.append((numbers, acknowledged))
        for number in numbers:
            del records[number]
    refused: list[RefusedBatch] = []
    for numbers, acknowledged in sent:
        if refused and producer.idempotent:
            acknowledged.cancel()
            continue
        try:
            await acknowledged
        except (*_RECORD_REFUSED, *TOPIC_REFUSED) as error:
            refused.append(RefusedBatch(numbers, error))
        else:
            delivery.acknowledge(numbers)
    return refused


async def _await_all(
    sending: set[asyncio.Task[list[RefusedBatch]]], producer: Producer, delivery: Delivery
) -> list[RefusedBatch]:
    """Wait for all partitions; raises TimeoutError after SEND_TIMEOUT_SECONDS with neither progress nor throttling."""
    running, refused = sending, []
    try:
        while running:
            before = len(delivery.pending)
            timeout_seconds = max(producer.throttle.until - time.monotonic(), 0.0) + clients.SEND_TIMEOUT_SECONDS
            done, running = await asyncio.wait(running, timeout=timeout_seconds, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                if task.cancelled():
                    # Another send failed, and dropped the producer with all that it held.
                    raise broker_errors.NotAcknowledgedError("not acknowledged: another send has dropped the producer")
                refused += task.result()
            was_throttled = producer.throttle.until + clients.SEND_TIMEOUT_SECONDS > time.monotonic()
            if not done and len(delivery.pending) == before and not was_throttled:
                raise TimeoutError
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    return refused
