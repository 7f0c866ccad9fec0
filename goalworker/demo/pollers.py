"""Polls of the worker's state from outside: commits and group from Kafka, paused topics from PostgreSQL."""

import asyncio
import contextlib
import time
from typing import Final

import asyncpg
from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors
from aiokafka.coordinator import protocol

from goalworker.demo import membership, traffic
from goalworker.demo.monitor import Monitor

COMMITS_SECONDS: Final = 0.2
GROUP_SECONDS: Final = 0.5
PAUSES_SECONDS: Final = 5.0
COORDINATOR_SECONDS: Final = 10.0
"""A broker that has just started may need this long to find the group's coordinator."""

GROUP_ID: Final = "goalworker"

_PAUSED: Final = "SELECT topic FROM paused_topics WHERE is_paused ORDER BY topic"


async def poll_commits(admin: kafka_admin.AIOKafkaAdminClient, sending: traffic.Traffic) -> None:
    """Pass the committed offsets to the traffic, until cancelled."""
    while True:
        with contextlib.suppress(kafka_errors.KafkaError):  # the group does not exist before the first worker
            offsets = await admin.list_consumer_group_offsets(GROUP_ID)
            sending.record_commits({partition: committed.offset for partition, committed in offsets.items()})
        await asyncio.sleep(COMMITS_SECONDS)


async def note_earlier_members(admin: kafka_admin.AIOKafkaAdminClient, group: membership.Membership) -> None:
    """Record the members that an earlier run left in the group; retry while the broker is still starting."""
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(kafka_errors.KafkaError):
            _, members = await _described(admin)
            group.note_earlier_members(members)
            return
        await asyncio.sleep(GROUP_SECONDS)


async def poll_members(admin: kafka_admin.AIOKafkaAdminClient, group: membership.Membership) -> None:
    """Pass the group's members and their partitions to `group`, until cancelled."""
    while True:
        with contextlib.suppress(kafka_errors.KafkaError):
            group.update(*await _described(admin))
        await asyncio.sleep(GROUP_SECONDS)


async def _described(admin: kafka_admin.AIOKafkaAdminClient) -> tuple[str, dict[str, int]]:
    """Return the state of the group, and the number of partitions of each member."""
    (answer,) = await admin.describe_consumer_groups([GROUP_ID])
    ((error_code, _, state, _, _, found, *_),) = answer.groups
    if error_code:
        raise kafka_errors.for_code(error_code)
    return state, {member_id: _partitions(assignment) for member_id, _, _, _, assignment in found}


async def poll_paused_topics(database_url: str, monitor: Monitor) -> None:
    """Pass the paused topics to the monitor, until cancelled."""
    while True:
        with contextlib.suppress(asyncpg.PostgresError, OSError):
            connection = await asyncpg.connect(database_url)
            try:
                monitor.paused_topics = tuple(row["topic"] for row in await connection.fetch(_PAUSED))
            finally:
                await connection.close()
        await asyncio.sleep(PAUSES_SECONDS)


def _partitions(assignment: bytes) -> int:
    """Return the number of partitions in an assignment, which is empty during a rebalance."""
    return len(protocol.ConsumerProtocolMemberAssignment.decode(assignment).partitions()) if assignment else 0
