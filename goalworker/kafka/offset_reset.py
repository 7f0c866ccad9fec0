"""Reset the group's offsets, which only an operator asks for: `goalworker run --reset-offsets` (hazard 9)."""

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
from goalworker.kafka.topics import offsets_at

log = logs.get("offsets")

Target = Literal["earliest", "latest"] | datetime
"""The first two move offsets out of range only; a time also moves back those beyond it."""

Offsets = Mapping[TopicPartition, int]


class Move(Struct, frozen=True):
    """Change of one partition's offset; skipped_records are those in the log that are passed over unread."""

    partition: TopicPartition
    from_offset: int
    to_offset: int
    skipped_records: int


async def reset(settings: config.Settings, target: Target) -> None:
    """Move the group's offsets to the target, and log each move; raises GoalworkerError while it has members."""
    consumer = clients.consumer(settings)
    try:
        await consumer.start()
        committed = await _committed(settings)
        partitions = list(committed)
        consumer.assign(partitions)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        foreign = topic_identity.foreign(await topic_identity.fetch_logs(consumer, partitions, {}))
        at = await _at(consumer, target, settings.topics.redrive, begins, ends) if isinstance(target, datetime) else {}
        moves = decide_moves(target, committed, begins, ends, at, foreign)
        chosen = {move.partition: move.to_offset for move in moves}
        await commit(consumer, settings, chosen, "then start one with --reset-offsets")
    finally:
        await clients.stop(consumer)
    for move in moves:
        log.warning(
            "offset_reset",
            topic=move.partition.topic,
            partition=move.partition.partition,
            from_offset=move.from_offset,
            to_offset=move.to_offset,
            skipped_records=move.skipped_records,
        )
    log.info("offsets_reset", target=str(target), partitions=len(moves))


def decide_moves(
    target: Target,
    committed: Offsets,
    begins: Offsets,
    ends: Offsets,
    at: Offsets,
    foreign: Collection[TopicPartition] = (),
) -> list[Move]:
    """Decide which offsets move.

    `at` has each partition's offset at the target, if that is a time. The offsets of foreign partitions belong to
    another log, so they are never in range.
    """
    moves = []
    for partition, offset in committed.items():
        begin, end = begins[partition], ends[partition]
        is_in_range = begin <= offset <= end and partition not in foreign
        to = begin if target == "earliest" else end if target == "latest" else at[partition]
        if is_in_range:
            # Never forward: that would skip records that can still be read.
            to = min(to, offset) if isinstance(target, datetime) else offset
        if to != offset or partition in foreign:  # a new commit ties the same offset to the log of today
            moves.append(Move(partition, offset, to, 0 if is_in_range else to - begin))
    return moves


async def _committed(settings: config.Settings) -> dict[TopicPartition, int]:
    """Return the group's offsets; a partition without one will be read from its earliest record anyway."""
    admin = clients.admin(settings)
    try:
        await admin.start()
        found = await admin.list_consumer_group_offsets(settings.kafka.group_id)
        listed = await admin.describe_topics([*settings.topics.inputs, settings.topics.redrive])
    finally:
        await admin.close()
    existing = {TopicPartition(topic["topic"], of["partition"]) for topic in listed for of in topic["partitions"]}
    offsets = {partition: found[partition].offset for partition in sorted(existing & found.keys())}
    return {partition: offset for partition, offset in offsets.items() if offset >= 0}


async def _at(
    consumer: aiokafka.AIOKafkaConsumer, moment: datetime, redrive_topic: str, begins: Offsets, ends: Offsets
) -> dict[TopicPartition, int]:
    """Return the offset of each partition's first record at or after a moment, or its end without such a record.

    Redriven records keep their original timestamps, which do not tell when they were read, so the redrive topic is
    read from its beginning.
    """
    first = await offsets_at(consumer, moment, ends)
    return first | {partition: begin for partition, begin in begins.items() if partition.topic == redrive_topic}


async def commit(consumer: aiokafka.AIOKafkaConsumer, settings: config.Settings, chosen: Offsets, remedy: str) -> None:
    """Commit offsets that an operator chose; raises GoalworkerError while the group has members.

    The remedy completes the sentence "stop all workers, ...".
    """
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
