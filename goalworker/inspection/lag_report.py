"""Lag of a consumer group by partition."""

import time
from collections.abc import Mapping
from typing import Any, Final

import aiokafka
from aiokafka import TopicPartition

from goalworker import config, errors
from goalworker.inspection import kafka_connection, kafka_topics
from goalworker.kafka import broker_requests

# Seconds to read first uncommitted records; a partition whose record did not arrive then has no age.
READ_SECONDS: Final = 5.0


async def rows(settings: config.Settings, group_id: str, read_seconds: float = READ_SECONDS) -> list[dict[str, Any]]:
    """Return the committed offset, end, lag and hidden records of each partition."""
    async with kafka_connection.admin(settings) as client:
        found = await kafka_topics.require(client, [*settings.topics.inputs, settings.topics.redrive])
        committed = await kafka_topics.committed(client, group_id)
    partitions = kafka_topics.partitions(found)
    async with kafka_connection.consumer(settings) as consumer:
        consumer.assign(partitions)
        # Before the ends, so that records written meanwhile do not look hidden.
        highs = await broker_requests.high_watermarks(consumer, partitions)
        # Under read_committed these are the last stable offsets: records behind them cannot be read yet (hazard 12).
        ends = await consumer.end_offsets(partitions)
        beginnings = await consumer.beginning_offsets(partitions)
        starts = {tp: committed.get(tp, beginnings[tp]) for tp in partitions}
        behind = await _behind_seconds(
            consumer, {tp: max(starts[tp], beginnings[tp]) for tp in starts}, ends, read_seconds
        )
    return [
        {
            "topic": tp.topic,
            "partition": tp.partition,
            "committed": committed.get(tp),
            "end": ends[tp],
            "lag": max(0, ends[tp] - starts[tp]),
            "behind_seconds": behind.get(tp),
            "hidden": max(0, highs[tp] - ends[tp]),
        }
        for tp in partitions
    ]


async def _behind_seconds(
    consumer: aiokafka.AIOKafkaConsumer,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    read_seconds: float,
) -> dict[TopicPartition, float]:
    """Return the age of the first record from each start on, if a readable one lies before the end."""
    left = {tp for tp, start in starts.items() if start < ends[tp]}
    consumer.pause(*(starts.keys() - left))
    for partition in left:
        consumer.seek(partition, starts[partition])
    behind: dict[TopicPartition, float] = {}
    deadline = time.monotonic() + read_seconds
    while left and time.monotonic() < deadline:
        try:
            found = await kafka_connection.fetch(consumer, left, 500)
        except errors.UndecodableError as error:
            unreadable = TopicPartition(error.topic, error.partition)
            consumer.pause(unreadable)
            left.discard(unreadable)
            for partition in left:  # the fetch that failed may have moved their positions
                consumer.seek(partition, starts[partition])
            continue
        for partition, records in found.items():
            behind[partition] = round(max(0.0, time.time() - records[0].timestamp / 1000), 1)
        # If only transaction markers are left, the position reaches the end without a record.
        done = found.keys() | {tp for tp in left if await consumer.position(tp) >= ends[tp]}
        consumer.pause(*done)
        left -= done
    return behind
