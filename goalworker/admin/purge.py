"""Deleting dead letters: first what it would be, then, once confirmed, that and nothing that came meanwhile."""

from datetime import datetime

import msgspec
from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors

from goalworker import config, errors
from goalworker.admin import dead_letter_reading, kafka_connection


class PurgePlan(msgspec.Struct, frozen=True):
    """How many records are to be deleted, and up to where in each partition that has any."""

    records: int
    before: dead_letter_reading.Offsets


async def plan(settings: config.Settings, moment: datetime | None) -> PurgePlan:
    """Return what is to be deleted: before the first record of a moment or later, or all that is there now."""
    async with kafka_connection.consumer(settings) as consumer:
        starts, ends = await dead_letter_reading.bounds(settings, consumer, settings.topics.dead_letters)
        before = ends if moment is None else await dead_letter_reading.offsets_at(consumer, moment, ends)
    counts = {each: before[each] - start for each, start in starts.items() if before[each] > start}
    return PurgePlan(sum(counts.values()), {each: before[each] for each in counts})


async def delete(settings: config.Settings, doomed: PurgePlan) -> None:
    """Delete it; RefusedError where that is not allowed."""
    async with kafka_connection.admin(settings) as client:
        try:
            await client.delete_records(
                {each: kafka_admin.RecordsToDelete(offset) for each, offset in doomed.before.items()}
            )
        except kafka_errors.TopicAuthorizationFailedError as error:
            raise errors.RefusedError(
                f"records of {settings.topics.dead_letters} may not be deleted by this user: allow DELETE on it"
            ) from error
