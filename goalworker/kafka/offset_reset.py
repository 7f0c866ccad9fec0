"""Where the group reads on, set by an explicit act: `goalworker run --reset-offsets` (hazard 9)."""

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Literal

import aiokafka
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from msgspec import Struct

from goalworker import config, logs
from goalworker.errors import GoalworkerError
from goalworker.kafka import clients, topic_identity

log = logs.get("offsets")

Target = Literal["earliest", "latest"] | datetime
"""Where to: the first two for offsets out of range only; a time also takes back those that are beyond it."""

Offsets = Mapping[TopicPartition, int]


class Move(Struct, frozen=True):
    """What becomes of one partition's offset; skipped are records that are there and are passed over unread."""

    partition: TopicPartition
    from_offset: int
    to_offset: int
    skipped_records: int


async def reset(settings: config.Settings, target: Target) -> None:
    """Set the group's offsets as far as the target asks for it, and log each; GoalworkerError while it has members."""
    consumer = clients.consumer(settings)
    try:
        await consumer.start()
        found = await _committed(settings)
        consumer.assign(list(found))
        begins, ends = await consumer.beginning_offsets(list(found)), await consumer.end_offsets(list(found))
        foreign = topic_identity.foreign(await topic_identity.look(consumer, list(found), {}))
        at = await _at(consumer, target, settings.topics.redrive, begins, ends) if isinstance(target, datetime) else {}
        decided = moves(target, found, begins, ends, at, foreign)
        chosen = {move.partition: move.to_offset for move in decided}
        await commit(consumer, settings, chosen, "then start one with --reset-offsets")
    finally:
        await consumer.stop()
    for move in decided:
        log.warning(
            "offset_reset",
            topic=move.partition.topic,
            partition=move.partition.partition,
            from_offset=move.from_offset,
            to_offset=move.to_offset,
            skipped_records=move.skipped_records,
        )
    log.info("offsets_reset", target=str(target), partitions=len(decided))


def moves(
    target: Target,
    committed: Offsets,
    begins: Offsets,
    ends: Offsets,
    at: Offsets,
    foreign: Collection[TopicPartition] = (),
) -> list[Move]:
    """Decide which offsets move; `at` says where each partition is at the target, if that is a time.

    foreign are the partitions whose offset is of another log: such an offset is in no range.
    """
    decided = []
    for partition, offset in committed.items():
        begin, end = begins[partition], ends[partition]
        is_in_range = begin <= offset <= end and partition not in foreign
        to = begin if target == "earliest" else end if target == "latest" else at[partition]
        if is_in_range:
            # Never forward: that would skip what nobody has lost.
            to = min(to, offset) if isinstance(target, datetime) else offset
        if to != offset or partition in foreign:  # committed anew, it is of the log that is there
            decided.append(Move(partition, offset, to, 0 if is_in_range else to - begin))
    return decided


async def _committed(settings: config.Settings) -> dict[TopicPartition, int]:
    """Return the group's offsets; a partition without one begins at its earliest record anyway."""
    admin = clients.admin(settings)
    try:
        await admin.start()
        found = await admin.list_consumer_group_offsets(settings.kafka.group_id)
        listed = await admin.describe_topics([*settings.topics.inputs, settings.topics.redrive])
    finally:
        await admin.close()
    there = {TopicPartition(topic["topic"], each["partition"]) for topic in listed for each in topic["partitions"]}
    return {each: found[each].offset for each in sorted(there & found.keys()) if found[each].offset >= 0}


async def _at(
    consumer: aiokafka.AIOKafkaConsumer, moment: datetime, redrive_topic: str, begins: Offsets, ends: Offsets
) -> dict[TopicPartition, int]:
    """Return the first record of a moment or later in each partition; where there is none, its end.

    What is redriven keeps its original timestamp, which says nothing of when it was read: that topic is read again.
    """
    moment_ms = max(0, int(moment.timestamp() * 1000))
    found = await consumer.offsets_for_times(dict.fromkeys(ends, moment_ms)) if ends else {}
    first = {partition: end if (at := found.get(partition)) is None else at.offset for partition, end in ends.items()}
    return first | {partition: begin for partition, begin in begins.items() if partition.topic == redrive_topic}


async def commit(consumer: aiokafka.AIOKafkaConsumer, settings: config.Settings, chosen: Offsets, remedy: str) -> None:
    """Commit offsets that a person chose; GoalworkerError while the group has members, remedy says how to go on."""
    if not chosen:
        return
    try:
        async with asyncio.timeout(clients.COMMIT_TIMEOUT_SECONDS):
            await consumer.commit(dict(chosen))
    except kafka_errors.CommitFailedError as error:
        raise GoalworkerError(
            f"the offsets of the group {settings.kafka.group_id} cannot be set while it has members (a worker that was "
            f"killed is one for {settings.kafka.session_timeout_seconds} s more): stop all workers, {remedy}"
        ) from error
