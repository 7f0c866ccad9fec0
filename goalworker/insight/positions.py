"""Positions from which history is read on: those in the database, or the beginning of a log that they do not fit."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import logs, metrics
from goalworker.kafka.positioned_consumer import PositionedConsumer, TopicLog
from goalworker.stores import history_writing
from goalworker.stores.history_writing import Position

log = logs.get("history")

Reason = Literal["new", "recreated", "records_deleted", "log_shortened"]


class Beginning(NamedTuple):
    """A position where the history of a partition begins, and why it does not continue."""

    position: Position
    reason: Reason


def beginnings(
    stored: Mapping[TopicPartition, Position], found: Mapping[TopicPartition, TopicLog], *, is_out_of_range: bool
) -> dict[TopicPartition, Beginning]:
    """Return the partitions whose history begins, or begins again: history says nothing about records that are gone."""
    reasons = {
        partition: reason
        for partition, log_ in found.items()
        if (reason := _reason(stored.get(partition), log_, is_out_of_range=is_out_of_range)) is not None
    }
    return {
        partition: Beginning(Position(found[partition].begin, found[partition].topic_id), reason)
        for partition, reason in reasons.items()
    }


def _reason(stored: Position | None, found: TopicLog, *, is_out_of_range: bool) -> Reason | None:
    if stored is None:
        return "new"
    if None not in (stored.topic_id, found.topic_id) and stored.topic_id != found.topic_id:
        return "recreated"
    if stored.next_offset < found.begin:
        return "records_deleted"
    # The end alone proves nothing: a new leader may not know yet how far the log is committed.
    return "log_shortened" if is_out_of_range and stored.next_offset > found.end else None


async def find(pool: AsyncEngine, consumer: PositionedConsumer, exit_topic: str) -> dict[TopicPartition, int]:
    """Return the next offsets of the assigned partitions, and begin the history of those that need it."""
    found = await consumer.logs()
    stored = await history_writing.positions(pool, found)
    begun = beginnings(stored, found, is_out_of_range=consumer.is_out_of_range)
    if begun:
        positions = {partition: beginning.position for partition, beginning in begun.items()}
        await history_writing.begin(pool, positions, stored, exit_topic)
        _log_gaps(begun, stored)
        stored = await history_writing.positions(pool, found)
    return {partition: position.next_offset for partition, position in stored.items()}


def _log_gaps(begun: Mapping[TopicPartition, Beginning], stored: Mapping[TopicPartition, Position]) -> None:
    for partition, beginning in sorted(begun.items()):
        if beginning.reason != "new":
            metrics.history_gaps_total.labels(reason=beginning.reason).inc()
            log.warning(
                "history_gap",
                topic=partition.topic,
                partition=partition.partition,
                reason=beginning.reason,
                expected_offset=stored[partition].next_offset,
                next_offset=beginning.position.next_offset,
            )
    if new := sum(beginning.reason == "new" for beginning in begun.values()):
        log.info("history_begun", partitions=new)
