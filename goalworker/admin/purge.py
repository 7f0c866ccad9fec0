"""Deletion of dead letters: a plan first, then exactly that plan, without letters that arrived since."""

from datetime import datetime

import msgspec
from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors

from goalworker import config, errors
from goalworker.inspection import dead_letter_reading, kafka_connection
from goalworker.kafka.topics import offsets_at


class PurgePlan(msgspec.Struct, frozen=True):
    """Number of records to delete, and the offset before which they lie in each partition that has any."""

    records: int
    before: dead_letter_reading.Offsets


async def plan(settings: config.Settings, moment: datetime | None) -> PurgePlan:
    """Plan to delete the letters before the first one of a moment or later, or all that the DLQ holds now."""
    async with kafka_connection.consumer(settings) as consumer:
        starts, ends = await dead_letter_reading.bounds(settings, consumer, settings.topics.dead_letters)
        before = ends if moment is None else await offsets_at(consumer, moment, ends)
    counts = {partition: before[partition] - start for partition, start in starts.items() if before[partition] > start}
    return PurgePlan(sum(counts.values()), {partition: before[partition] for partition in counts})


async def delete(settings: config.Settings, planned: PurgePlan) -> None:
    """Delete the planned records; RefusedError if this user may not."""
    async with kafka_connection.admin(settings) as client:
        try:
            await client.delete_records(
                {partition: kafka_admin.RecordsToDelete(offset) for partition, offset in planned.before.items()}
            )
        except kafka_errors.TopicAuthorizationFailedError as error:
            raise errors.RefusedError(
                f"this user may not delete records of {settings.topics.dead_letters}: allow DELETE on it"
            ) from error
