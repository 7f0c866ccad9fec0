"""`goalworker topics`: make them, look at them, resume one that was paused (contract sections 2 and 4)."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer
from aiokafka import TopicPartition
from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors

from goalworker import breaker, database, errors, tables
from goalworker import settings as all_settings
from goalworker.commands import acts, cluster, common, database_connection, kafka_connection, skipping

app = typer.Typer(
    help="Create and look at the topics; resume one that was paused; skip a record.",
    no_args_is_help=True,
    add_completion=False,
)

# Dead letters come with headers of ours on top, and go to redrive as they are.
DEAD_LETTER_BYTES: Final = 16 * 1024 * 1024
CONFIGURATION: Final[Mapping[str, Mapping[str, str]]] = {
    "dead_letters": {"max.message.bytes": str(DEAD_LETTER_BYTES)},
    # What is sent again has its original timestamp, which may be older than any retention.
    "redrive": {
        "max.message.bytes": str(DEAD_LETTER_BYTES),
        "message.timestamp.type": "CreateTime",
        "retention.ms": "-1",
    },
    "goal_configured": {"cleanup.policy": "compact"},
}


@app.command()
def create(
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic.")] = 12,
    replication: Annotated[int, typer.Option(min=1, help="Copies of each partition.")] = 1,
    as_json: common.Json = False,
) -> None:
    """Create the topics that are not there; one that exists is left as it is."""
    settings = common.load()
    made = common.run(_create(settings, partitions, replication))
    rows = [{"topic": name, "created": name in made} for name in cluster.names(settings)]
    if as_json:
        common.show_json(rows)
        return
    for row in rows:
        common.say(f"{row['topic']}: {'created' if row['created'] else 'exists already, left as it is'}")


@app.command("list")
def list_(as_json: common.Json = False) -> None:
    """Show partitions, replication, and whether a topic is paused and why."""
    rows = common.run(_rows(common.load()))
    common.show(rows, as_json=as_json, empty="no topics")


@app.command()
def resume(
    topic: Annotated[str, typer.Argument(help="The topic's name.")],
    accept: Annotated[int, typer.Option(min=0, help="Let the next N records through whatever they are.")] = 0,
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
    offset: Annotated[int, typer.Option(min=0, help="The record's offset: the one that the group comes to next.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether it could be skipped.")] = False,
    as_json: common.Json = False,
) -> None:
    """Go past one record for good, unjudged: for one that stops the worker each time. Stop all workers first.

    Keep a copy of the record: once its topic's retention is over, nobody has it. `topics audit` shows who skipped what.
    """
    settings = common.load()
    read = [*settings.topics.inputs, settings.topics.redrive]
    if topic not in read:
        raise typer.BadParameter(f"{topic!r} is no topic that the worker reads; those are {', '.join(read)}")
    common.run(skipping.skip(settings, TopicPartition(topic, partition), offset, dry_run=dry_run))
    where = f"{topic}[{partition}]: the record at {offset}"
    sentence = (
        f"{where} would be skipped; nothing was changed: this was a dry run"
        if dry_run
        else f"{where} is skipped for good; workers go on at {offset + 1}"
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


async def _acts(settings: all_settings.Settings) -> list[dict[str, Any]]:
    async with database_connection.pool(settings) as pool, database.transaction(pool, tables.WORKER_ROLE, "cli") as sql:
        return await acts.every(sql)


async def _create(settings: all_settings.Settings, partitions: int, replication: int) -> set[str]:
    async with kafka_connection.admin(settings) as client:
        there = await cluster.topics(client)
        wanted = [
            kafka_admin.NewTopic(name, partitions, replication, topic_configs=dict(CONFIGURATION.get(which, {})))
            for name, which in cluster.names(settings).items()
            if name not in there
        ]
        answer = await client.create_topics(wanted)
        made = {name for name, code, message in answer.topic_errors if _is_made(name, code, message)}
        await _until_known(client, made)
    return made


def _is_made(name: str, code: int, message: str | None) -> bool:
    """Say whether we made a topic, or somebody else was quicker; any other answer is an error."""
    if code and code != kafka_errors.TopicAlreadyExistsError.errno:
        reason = (message or kafka_errors.for_code(code).description).rstrip(".")
        raise errors.GoalworkerError(f"the topic {name} could not be created: {reason}")
    return not code


async def _until_known(client: kafka_admin.AIOKafkaAdminClient, made: set[str]) -> None:
    """Wait until the brokers tell each other, so that what is started next finds the topics."""
    async with asyncio.timeout(kafka_connection.TIMEOUT_SECONDS):
        while made - set(await cluster.topics(client)):  # noqa: ASYNC110 - brokers have no event to wait for
            await asyncio.sleep(cluster.PAUSE_SECONDS)


PAUSED: Final = """
SELECT topic, reason, partition, "offset", paused_at FROM paused_topics WHERE is_paused
"""


async def _rows(settings: all_settings.Settings) -> list[dict[str, Any]]:
    async with kafka_connection.admin(settings) as client:
        there = await cluster.topics(client)
    paused = await paused_topics(settings) if settings.database.url else {}
    return [_row(name, there.get(name), paused.get(name)) for name in cluster.names(settings)]


async def paused_topics(settings: all_settings.Settings) -> dict[str, Mapping[str, Any]]:
    """Return the topics that wait for `topics resume`, each with the reason and a sample."""
    async with database_connection.pool(settings) as pool, database.transaction(pool, tables.WORKER_ROLE, "cli") as sql:
        return {row["topic"]: dict(row) for row in await sql.fetch(PAUSED)}


def _row(name: str, topic: cluster.Topic | None, paused: Mapping[str, Any] | None) -> dict[str, Any]:
    state = "paused" if paused else "ready" if topic else "missing"
    why = paused or {}
    return {
        "topic": name,
        "state": state,
        "partitions": topic and topic.partitions,
        "replication": topic and topic.replication,
        "reason": why.get("reason"),
        "sample_partition": why.get("partition"),
        "sample_offset": why.get("offset"),
        "paused_at": why.get("paused_at"),
    }


async def _resume(settings: all_settings.Settings, topic: str, accept_records: int) -> None:
    async with database_connection.pool(settings) as pool, database.transaction(pool, tables.WORKER_ROLE, "cli") as sql:
        if not await breaker.resume(sql, topic, accept_records):
            raise errors.GoalworkerError(f"{topic} is not paused; `goalworker topics list` shows which topics are")
        await acts.record(sql, acts.TOPIC_RESUMED, topic=topic, accepted_records=accept_records)
