"""Management of topics: create, list and resume them, and list who did what."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors

from goalworker import config, errors
from goalworker.admin import database_connection
from goalworker.inspection import kafka_connection, kafka_topics
from goalworker.inspection.kafka_topics import CONFIGURATION
from goalworker.pipeline.paused_topics import PAUSED, resume_topic
from goalworker.stores import operator_acts


async def create(settings: config.Settings, partitions: int, replication: int) -> set[str]:
    """Create the topics that are missing, and return their names."""
    async with kafka_connection.admin(settings) as client:
        existing = await kafka_topics.topics(client)
        missing = [
            kafka_admin.NewTopic(name, partitions, replication, topic_configs=dict(CONFIGURATION.get(which, {})))
            for name, which in kafka_topics.names(settings).items()
            if name not in existing
        ]
        answer = await client.create_topics(missing)
        created = {name for name, code, message in answer.topic_errors if _is_created(name, code, message)}
        await _wait_until_known(client, created)
    return created


def _is_created(name: str, code: int, message: str | None) -> bool:
    """Say whether we created a topic (False: it exists already); GoalworkerError for any other answer."""
    if code and code != kafka_errors.TopicAlreadyExistsError.errno:
        reason = (message or kafka_errors.for_code(code).description).rstrip(".")
        raise errors.GoalworkerError(f"the topic {name} could not be created: {reason}")
    return not code


async def _wait_until_known(client: kafka_admin.AIOKafkaAdminClient, created: set[str]) -> None:
    """Wait until every broker knows the topics, so that the next command finds them."""
    async with asyncio.timeout(kafka_connection.TIMEOUT_SECONDS):
        while created - set(await kafka_topics.topics(client)):  # noqa: ASYNC110 - brokers have no event to wait for
            await asyncio.sleep(kafka_topics.PAUSE_SECONDS)


async def list_topics(settings: config.Settings) -> list[dict[str, Any]]:
    """Return layout and state of each topic; without a database, whether one is paused is unknown."""
    async with kafka_connection.admin(settings) as client:
        existing = await kafka_topics.topics(client)
    paused = await _paused_topics(settings) if settings.database.url else {}
    return [_row(name, existing.get(name), paused.get(name)) for name in kafka_topics.names(settings)]


async def _paused_topics(settings: config.Settings) -> dict[str, Mapping[str, Any]]:
    """Return the paused topics, each with the reason and a sample record."""
    async with database_connection.transaction(settings) as sql:
        return {row["topic"]: dict(row) for row in await sql.fetch(PAUSED)}


def _row(name: str, topic: kafka_topics.Topic | None, paused: Mapping[str, Any] | None) -> dict[str, Any]:
    state = "paused" if paused else "ready" if topic else "missing"
    pause = paused or {}
    return {
        "topic": name,
        "state": state,
        "partitions": topic and topic.partitions,
        "replication": topic and topic.replication,
        "reason": pause.get("reason"),
        "sample_partition": pause.get("partition"),
        "sample_offset": pause.get("offset"),
        "paused_at": pause.get("paused_at"),
    }


async def resume(settings: config.Settings, topic: str, accept_records: int) -> None:
    """Resume a paused topic, as an audited act."""
    async with database_connection.transaction(settings) as sql:
        if not await resume_topic(sql, topic, accept_records):
            raise errors.GoalworkerError(f"{topic} is not paused; `goalworker topics list` shows which topics are")
        await operator_acts.record(sql, operator_acts.TOPIC_RESUMED, topic=topic, accepted_records=accept_records)


async def list_acts(settings: config.Settings) -> list[dict[str, Any]]:
    """Return the audited acts of operators, oldest first."""
    async with database_connection.transaction(settings) as sql:
        return await operator_acts.list_acts(sql)
