"""A check of history: it has read everything, kept every event of an enrolled contact once, and found every exit."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

import asyncpg
from aiokafka import TopicPartition

from goalworker.demo import check, foreign_changes, plans, records
from goalworker.demo.own_offsets import OwnOffsets
from goalworker.demo.sent_events import Kept, SentEvents

_GOAL_INPUTS: Final = frozenset(records.TOPICS.goal_inputs)

_POSITIONS: Final = "SELECT topic, partition, next_offset FROM history_positions"
_KEPT: Final = """
SELECT tenant_id, contact_id, event_source, event_id, topic, partition, "offset"
FROM history_events WHERE tenant_id = ANY($1)
"""
_EXITS: Final = "SELECT DISTINCT exit_id FROM history_exits WHERE tenant_id = ANY($1)"
_COUNT_EXITS: Final = "SELECT count(DISTINCT exit_id) FROM history_exits WHERE exit_id = ANY($1)"


async def behind(database_url: str, ends: dict[TopicPartition, int], exit_ids: Collection[UUID]) -> int:
    """Return the number of records of the goal topics, and of these exits, that history has not read."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(_POSITIONS)
        found: int = await connection.fetchval(_COUNT_EXITS, list(exit_ids))
    finally:
        await connection.close()
    read: dict[TopicPartition, int] = {TopicPartition(row[0], row[1]): row[2] for row in rows}
    left = (max(0, end - read.get(partition, 0)) for partition, end in ends.items() if partition.topic in _GOAL_INPUTS)
    return sum(left) + len(exit_ids) - found


async def compare(
    database_url: str,
    tenants: Collection[str],
    sent: SentEvents,
    changes: foreign_changes.ForeignChanges,
    own_offsets: OwnOffsets,
) -> check.Row:
    """Compare the events of enrolled contacts with those in history, record by record."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = [Kept(*row) for row in await connection.fetch(_KEPT, list(tenants))]
    finally:
        await connection.close()
    found = [
        event
        for event in rows
        if own_offsets.is_own(TopicPartition(event.topic, event.partition), event.offset)
        and event.contact not in changes.contacts
    ]
    return row(sent, found, changes.contacts)


async def compare_exits(database_url: str, tenants: Collection[str], exit_ids: Collection[UUID]) -> check.Row:
    """Compare the exits that were published with those whose time history knows."""
    connection = await asyncpg.connect(database_url)
    try:
        found = [row[0] for row in await connection.fetch(_EXITS, list(tenants))]
    finally:
        await connection.close()
    return check.compare_items("times of published exits in history", list(exit_ids), found)


def row(sent: SentEvents, found: Collection[Kept], foreign_contacts: Collection[plans.Contact] = ()) -> check.Row:
    """Compare the events that must be kept, and those found that may be kept, with those found."""
    present = set(found)
    expected = [
        event
        for event in sent.of_enrolled()
        if event.contact not in foreign_contacts and (sent.must_be_kept(event) or event in present)
    ]
    return check.compare_items("events of enrolled contacts in history", expected, found)
