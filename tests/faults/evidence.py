"""Read offsets first, then tables, then topics, so that nothing looks lost that is still in flight."""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiokafka
import asyncpg
from aiokafka import TopicPartition

from tests.faults import outcomes
from tests.kit import clients, naive_judge, stored

_FACTS = """
SELECT 'hit' AS kind, tenant_id, event_id AS name, event_time AS time FROM goal_hits
UNION ALL SELECT 'reversal', tenant_id, event_id, event_time FROM reversals
UNION ALL SELECT 'started', tenant_id, enrollment_id, enrolled_at FROM enrollments WHERE enrolled_at IS NOT NULL
UNION ALL SELECT 'ended', tenant_id, enrollment_id, ended_at FROM enrollments WHERE ended_at IS NOT NULL
UNION ALL SELECT CASE WHEN active THEN 'activated' ELSE 'deactivated' END, tenant_id, workflow_id, since
    FROM workflow_states
"""
_UNSENT = "SELECT count(*) FROM outbox"


async def gather(client: clients.Client) -> outcomes.Found:
    """Read everything that an installation has stored and published."""
    installation = client.installation
    committed = {(each.topic, each.partition): offset for each, offset in (await client.committed()).items()}
    connection = await asyncpg.connect(installation.database_url)
    try:
        facts = {(row[0], row[1], row[2]): row[3] for row in await connection.fetch(_FACTS)}
        achievements = await connection.fetch("SELECT * FROM achievements")
        enrollments = await connection.fetch("SELECT * FROM enrollments")
        exits = [(row[0], row[1]) for row in await connection.fetch("SELECT tenant_id, enrollment_id FROM exits")]
        unsent = await connection.fetchval(_UNSENT)
    finally:
        await connection.close()
    return outcomes.Found(
        group_id=installation.group_id,
        committed=committed,
        facts=facts,
        achievements={(row["tenant_id"], row["enrollment_id"], row["goal_id"]): _row(row) for row in achievements},
        exits=exits,
        waiting_exits=frozenset(_key(row) for row in enrollments if row["exit_waits"]),
        satisfied={_key(row): row["satisfied_at"] for row in enrollments if row["satisfied_at"] is not None},
        converted={_key(row): row["converted_at"] for row in enrollments if row["converted_at"] is not None},
        payments=stored.payments(achievements, enrollments),
        unsent=unsent,
        inputs=await copies(client, clients.INPUTS),
        achieved_topic=await copies(client, ["goal_achieved"]),
        exit_topic=await copies(client, ["workflow_exit"]),
        dead_letters=await copies(client, ["dead_letters"]),
    )


def _row(row: asyncpg.Record) -> outcomes.Row:
    return outcomes.Row(row["revision"], stored.achieved(row) if row["revoked_at"] is None else None)


def _key(row: asyncpg.Record) -> naive_judge.EnrollmentKey:
    return (row["tenant_id"], row["enrollment_id"])


async def lag(client: clients.Client) -> int:
    """Return the lag of the group over all partitions, new ones included."""
    async with _reader(client, clients.INPUTS) as (consumer, partitions):
        ends = await consumer.end_offsets(partitions)
    committed = await client.committed()
    return sum(max(0, end - committed.get(partition, 0)) for partition, end in ends.items())


async def copies(client: clients.Client, topics: Iterable[str]) -> list[outcomes.Copy]:
    """Read topics to their current ends; the topics are the lower-case names of their settings."""
    async with _reader(client, topics) as (consumer, partitions):
        await consumer.seek_to_beginning()
        found: list[outcomes.Copy] = []
        for partition, end in (await consumer.end_offsets(partitions)).items():
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    found.extend(map(_copy, records))
    return found


@contextlib.asynccontextmanager
async def _reader(
    client: clients.Client, topics: Iterable[str]
) -> AsyncIterator[tuple[aiokafka.AIOKafkaConsumer, list[TopicPartition]]]:
    partitions = await _partitions(client, [client.installation.topics[topic] for topic in topics])
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=client.installation.bootstrap_servers, fetch_max_wait_ms=10)
    async with consumer:
        consumer.assign(partitions)
        yield consumer, partitions


async def _partitions(client: clients.Client, topics: list[str]) -> list[TopicPartition]:
    """Return all partitions of topics, new ones included."""
    return [
        TopicPartition(topic["topic"], each["partition"])
        for topic in await client.admin.describe_topics(topics)
        for each in topic["partitions"]
    ]


def _copy(record: Any) -> outcomes.Copy:
    position = (record.topic, record.partition, record.offset)
    return outcomes.Copy(position, record.key, record.value, tuple(record.headers), record.timestamp)
