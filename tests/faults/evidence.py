"""Reads what a history is made of: offsets first, then tables, then topics, so that nothing looks lost that is not."""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiokafka
import asyncpg
from aiokafka import TopicPartition

from tests.faults import history
from tests.kit import conversation

_FACTS = """
SELECT 'hit' AS kind, tenant_id, event_id AS name, event_time AS time FROM goal_hits
UNION ALL SELECT 'started', tenant_id, enrollment_id, enrolled_at FROM enrollments WHERE enrolled_at IS NOT NULL
UNION ALL SELECT 'ended', tenant_id, enrollment_id, ended_at FROM enrollments WHERE ended_at IS NOT NULL
"""
_ACHIEVEMENTS = """
SELECT tenant_id, enrollment_id, goal_id, revision, revoked_at IS NOT NULL, achieved_at, event_source, event_id
FROM achievements
"""
_EXITS = "SELECT tenant_id, enrollment_id FROM exits"
_WAITING = "SELECT count(*) FROM outbox"


async def gather(talk: conversation.Talk) -> history.Found:
    """Read everything of an installation."""
    there = talk.there
    committed = {(each.topic, each.partition): offset for each, offset in (await talk.committed()).items()}
    connection = await asyncpg.connect(there.database_url)
    try:
        facts = {(row[0], row[1], row[2]): row[3] for row in await connection.fetch(_FACTS)}
        rows = await connection.fetch(_ACHIEVEMENTS)
        exits = [tuple(row) for row in await connection.fetch(_EXITS)]
        waiting = await connection.fetchval(_WAITING)
    finally:
        await connection.close()
    return history.Found(
        group_id=there.group_id,
        committed=committed,
        facts=facts,
        achievements={(row[0], row[1], row[2]): history.Row(row[3], row[4], history.Trigger(*row[5:])) for row in rows},
        exits=exits,
        waiting=waiting,
        inputs=await copies(talk, conversation.INPUTS),
        achieved_topic=await copies(talk, ["goal_achieved"]),
        exit_topic=await copies(talk, ["workflow_exit"]),
        dead_letters=await copies(talk, ["dead_letters"]),
    )


async def lag(talk: conversation.Talk) -> int:
    """How many records the group has not committed, in as many partitions as there are by now."""
    async with _reader(talk, conversation.INPUTS) as (consumer, partitions):
        ends = await consumer.end_offsets(partitions)
    committed = await talk.committed()
    return sum(max(0, end - committed.get(partition, 0)) for partition, end in ends.items())


async def copies(talk: conversation.Talk, topics: Iterable[str]) -> list[history.Copy]:
    """Read topics from their beginnings to where they end now; topics by the lower-case names of their settings."""
    async with _reader(talk, topics) as (consumer, partitions):
        await consumer.seek_to_beginning()
        found: list[history.Copy] = []
        for partition, end in (await consumer.end_offsets(partitions)).items():
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    found.extend(map(_copy, records))
    return found


@contextlib.asynccontextmanager
async def _reader(
    talk: conversation.Talk, topics: Iterable[str]
) -> AsyncIterator[tuple[aiokafka.AIOKafkaConsumer, list[TopicPartition]]]:
    partitions = await _partitions(talk, [talk.there.topics[topic] for topic in topics])
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=talk.there.bootstrap_servers, fetch_max_wait_ms=10)
    async with consumer:
        consumer.assign(partitions)
        yield consumer, partitions


async def _partitions(talk: conversation.Talk, topics: list[str]) -> list[TopicPartition]:
    """As many as a topic has now: a partition may be new."""
    return [
        TopicPartition(topic["topic"], each["partition"])
        for topic in await talk.admin.describe_topics(topics)
        for each in topic["partitions"]
    ]


def _copy(record: Any) -> history.Copy:
    place = (record.topic, record.partition, record.offset)
    return history.Copy(place, record.key, record.value, tuple(record.headers), record.timestamp)
