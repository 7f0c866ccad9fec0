"""`goalworker topics`: create and list topics, resume a paused one (contract sections 2 and 4)."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from aiokafka import TopicPartition
from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors

from goalworker import config, errors
from goalworker.admin import database_connection, kafka_connection, kafka_topics, record_skipping
from goalworker.admin.kafka_topics import CONFIGURATION
from goalworker.cli import common
from goalworker.pipeline.paused_topics import PAUSED, resume_topic
from goalworker.postgres import connections, tables
from goalworker.stores import operator_acts

app = typer.Typer(
    help="Create and look at the topics; resume one that was paused; skip a record.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def create(
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic.")] = 12,
    replication: Annotated[int, typer.Option(min=1, help="Copies of each partition.")] = 1,
    as_json: common.Json = False,
) -> None:
    """Create the topics that are missing; topics that exist are left as they are."""
    settings = common.load()
    made = common.run(_create(settings, partitions, replication))
    rows = [{"topic": name, "created": name in made} for name in kafka_topics.names(settings)]
    if as_json:
        common.show_json(rows)
        return
    for row in rows:
        common.say(f"{row['topic']}: {'created' if row['created'] else 'exists already, left as it is'}")


@app.command("list")
def list_(as_json: common.Json = False) -> None:
    """Show partitions and replication of each topic, whether it is paused, and why."""
    rows = common.run(_rows(common.load()))
    common.show(rows, as_json=as_json, empty="no topics")


@app.command()
def resume(
    topic: Annotated[str, typer.Argument(help="The topic's name.")],
    accept: Annotated[int, typer.Option(min=0, help="Let the next N records through, malformed or not.")] = 0,
    as_json: common.Json = False,
) -> None:
    """Let the workers read a paused topic again."""
    common.run(_resume(common.load(), topic, accept))
    sentence = f"{topic} is resumed" + (f"; its next {accept} records are let through" if accept else "")
    common.report({"topic": topic, "resumed": True, "accepted_records": accept}, sentence, as_json=as_json)


@app.command()
def skip(
    topic: Annotated[str, typer.Argument(help="The topic's name.")],
    partition: Annotated[int, typer.Argument(min=0, help="The partition's number.")],
    offset: Annotated[
        int,
        typer.Option(
            min=0,
            help="The offset of the record that the group reads next; for a batch that cannot be read, the last.",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether the record could be skipped.")] = False,
    as_json: common.Json = False,
) -> None:
    """Skip one record for good, one that stops the worker each time it is read. Stop all workers first.

    Keep a copy of the record, which is lost when its topic's retention is over. `topics audit` shows who skipped it.
    """
    settings = common.load()
    read = [*settings.topics.inputs, settings.topics.redrive]
    if topic not in read:
        raise typer.BadParameter(f"the worker does not read the topic {topic!r}; it reads {', '.join(read)}")
    common.run(record_skipping.skip(settings, TopicPartition(topic, partition), offset, dry_run=dry_run))
    where = f"{topic}[{partition}]: the record at {offset}"
    sentence = (
        f"{where} would be skipped; nothing was changed: this was a dry run"
        if dry_run
        else f"{where} is skipped for good; workers continue at {offset + 1}"
    )
    facts = {"topic": topic, "partition": partition, "offset": offset, "skipped": not dry_run}
    common.report(facts, sentence, as_json=as_json)


@app.command()
def audit(as_json: common.Json = False) -> None:
    """Show who resumed topics and skipped records, and when, oldest first."""
    rows = common.run(_acts(common.load()))
    if not as_json:
        rows = [row | {"detail": ", ".join(f"{name} {value}" for name, value in row["detail"].items())} for row in rows]
    common.show(rows, as_json=as_json, empty="nobody resumed a topic or skipped a record yet")


async def _acts(settings: config.Settings) -> list[dict[str, Any]]:
    async with (
        database_connection.pool(settings) as pool,
        connections.transaction(pool, tables.WORKER_ROLE, "cli") as sql,
    ):
        return await operator_acts.list_acts(sql)


async def _create(settings: config.Settings, partitions: int, replication: int) -> set[str]:
    async with kafka_connection.admin(settings) as client:
        there = await kafka_topics.topics(client)
        wanted = [
            kafka_admin.NewTopic(name, partitions, replication, topic_configs=dict(CONFIGURATION.get(which, {})))
            for name, which in kafka_topics.names(settings).items()
            if name not in there
        ]
        answer = await client.create_topics(wanted)
        made = {name for name, code, message in answer.topic_errors if _is_created(name, code, message)}
        await _wait_until_known(client, made)
    return made


def _is_created(name: str, code: int, message: str | None) -> bool:
    """Say whether we created a topic (False: it exists already); GoalworkerError for any other answer."""
    if code and code != kafka_errors.TopicAlreadyExistsError.errno:
        reason = (message or kafka_errors.for_code(code).description).rstrip(".")
        raise errors.GoalworkerError(f"the topic {name} could not be created: {reason}")
    return not code


async def _wait_until_known(client: kafka_admin.AIOKafkaAdminClient, made: set[str]) -> None:
    """Wait until every broker knows the topics, so that the next command finds them."""
    async with asyncio.timeout(kafka_connection.TIMEOUT_SECONDS):
        while made - set(await kafka_topics.topics(client)):  # noqa: ASYNC110 - brokers have no event to wait for
            await asyncio.sleep(kafka_topics.PAUSE_SECONDS)


async def _rows(settings: config.Settings) -> list[dict[str, Any]]:
    async with kafka_connection.admin(settings) as client:
        there = await kafka_topics.topics(client)
    paused = await paused_topics(settings) if settings.database.url else {}
    return [_row(name, there.get(name), paused.get(name)) for name in kafka_topics.names(settings)]


async def paused_topics(settings: config.Settings) -> dict[str, Mapping[str, Any]]:
    """Return the paused topics, each with the reason and a sample record."""
    async with (
        database_connection.pool(settings) as pool,
        connections.transaction(pool, tables.WORKER_ROLE, "cli") as sql,
    ):
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


async def _resume(settings: config.Settings, topic: str, accept_records: int) -> None:
    async with (
        database_connection.pool(settings) as pool,
        connections.transaction(pool, tables.WORKER_ROLE, "cli") as sql,
    ):
        if not await resume_topic(sql, topic, accept_records):
            raise errors.GoalworkerError(f"{topic} is not paused; `goalworker topics list` shows which topics are")
        await operator_acts.record(sql, operator_acts.TOPIC_RESUMED, topic=topic, accepted_records=accept_records)
