"""Skip of one record: the last resort for a record that the worker can neither judge nor dead-letter."""

import asyncio
from typing import Final

import aiokafka
import msgspec
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors

from goalworker import config, errors, logs
from goalworker.admin import database_connection
from goalworker.inspection import kafka_connection, kafka_topics
from goalworker.kafka import offset_reset
from goalworker.stores import operator_acts

log = logs.get(__name__)

# Seconds to read the group's next record. After that it counts as unreadable, as a damaged record does.
READ_SECONDS: Final = 5.0


class Position(msgspec.Struct, frozen=True):
    """Position of a group in a partition, which holds the offsets from begin to before end.

    first_record is the offset of the first record at or after next_offset, or of the last record of a batch that cannot
    be read; None where the broker returns no record.
    """

    next_offset: int
    begin: int
    end: int
    first_record: int | None


def refusal(position: Position, offset: int) -> str | None:
    """Return why the record at an offset cannot be skipped: only the group's next record can. None if it can."""
    if offset < position.next_offset:
        return f"the group is at {position.next_offset} already, past the record at {offset}"
    if offset >= position.end:
        return f"the partition has no record at {offset} yet: it ends before {position.end}"
    # A record that cannot be read may be the very one to skip, such as one that is damaged on disk.
    following = position.next_offset if position.first_record is None else position.first_record
    if offset != following:
        return f"the next record of the group is at {following}, and only that one can be skipped"
    return None


async def skip(settings: config.Settings, partition: TopicPartition, offset: int, *, dry_run: bool) -> None:
    """Move the group past one record and audit it; GoalworkerError if it is not the next one, or workers run."""
    group_id = settings.kafka.group_id
    position = await _position(settings, partition, group_id)
    where = f"{partition.topic}[{partition.partition}]"
    if (reason := refusal(position, offset)) is not None:
        raise errors.GoalworkerError(f"nothing was skipped in {where}: {reason}")
    if dry_run:
        return
    async with (
        database_connection.transaction(settings) as sql,
        kafka_connection.consumer(settings, group_id) as consumer,
    ):
        detail = {"topic": partition.topic, "partition": partition.partition, "offset": offset, "group_id": group_id}
        await operator_acts.record(sql, operator_acts.RECORD_SKIPPED, **detail)
        consumer.assign([partition])
        await offset_reset.commit(consumer, settings, {partition: offset + 1}, "then skip it again")
        log.warning("record_skipped", **detail)


async def _position(settings: config.Settings, partition: TopicPartition, group_id: str) -> Position:
    async with kafka_connection.admin(settings) as client:
        there = kafka_topics.partitions(await kafka_topics.require(client, [partition.topic]))
        if partition not in there:
            last = max(existing.partition for existing in there)
            raise errors.GoalworkerError(f"{partition.topic} has the partitions 0 to {last} only")
        committed = (await kafka_topics.committed(client, group_id)).get(partition)
    async with kafka_connection.consumer(settings) as consumer:
        consumer.assign([partition])
        begin = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        next_offset = begin if committed is None else committed
        first = await _first_record(consumer, partition, max(begin, next_offset), end)
    return Position(next_offset, begin, end, first)


async def _first_record(
    consumer: aiokafka.AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
) -> int | None:
    consumer.seek(partition, start)
    try:
        async with asyncio.timeout(READ_SECONDS):
            while await consumer.position(partition) < end:
                found = await kafka_connection.fetch(consumer, [partition], 500, max_records=1)
                for record in found.get(partition, ()):
                    return int(record.offset)
    except errors.UndecodableError as error:
        return error.last
    except (kafka_errors.KafkaError, TimeoutError):
        return None
    return None
