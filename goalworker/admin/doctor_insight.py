"""Part of `goalworker doctor` about insight: whether it runs, and how many records wait for it."""

from collections.abc import Collection

from aiokafka import TopicPartition
from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors

from goalworker import config
from goalworker.admin import findings
from goalworker.inspection import kafka_connection, kafka_topics


async def examine(
    client: kafka_admin.AIOKafkaAdminClient, settings: config.Settings, partitions: Collection[TopicPartition]
) -> findings.Finding:
    """Return the finding about insight, which is optional; the partitions are those that it reads."""
    group = settings.kafka.insight_group_id
    try:
        found = await kafka_topics.committed(client, group)
        committed = {partition: found[partition] for partition in partitions if partition in found}
        if not committed:
            return findings.ok("insight", "it has never run: explanations know judgements only, and plans wait for it")
        members = await _members(client, group)
    except kafka_errors.GroupAuthorizationFailedError:
        return findings.ok("insight", f"the group {group} is for another login")
    async with kafka_connection.consumer(settings) as consumer:
        ends = await consumer.end_offsets(list(committed))
    return finding(members, sum(max(0, ends[partition] - offset) for partition, offset in committed.items()))


async def _members(client: kafka_admin.AIOKafkaAdminClient, group: str) -> int:
    (answer,) = await client.describe_consumer_groups([group])
    ((error_code, _, _, _, _, members, *_),) = answer.groups
    if error_code:
        raise kafka_errors.for_code(error_code)
    return len(members)


def finding(processes: int, lag_records: int) -> findings.Finding:
    """Return the finding about insight that has run before."""
    waiting = f"{lag_records} records wait to be kept"
    if not processes:
        remedy = "start `goalworker insight`, or explanations and plans lack what Kafka deletes before"
        return findings.warn("insight", f"it does not run, and {waiting}: {remedy}")
    return findings.ok("insight", f"it runs, processes: {processes}; {waiting}")
