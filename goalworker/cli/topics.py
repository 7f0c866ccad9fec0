"""`goalworker topics`: create and list topics, resume a paused one (contract sections 2 and 4)."""

from typing import Annotated

import typer
from aiokafka import TopicPartition

from goalworker.admin import record_skipping, topic_management
from goalworker.cli import common
from goalworker.inspection import kafka_topics

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
    made = common.run(topic_management.create(settings, partitions, replication))
    rows = [{"topic": name, "created": name in made} for name in kafka_topics.names(settings)]
    if as_json:
        common.show_json(rows)
        return
    for row in rows:
        common.say(f"{row['topic']}: {'created' if row['created'] else 'exists already, left as it is'}")


@app.command("list")
def list_(as_json: common.Json = False) -> None:
    """Show partitions and replication of each topic, whether it is paused, and why."""
    rows = common.run(topic_management.list_topics(common.load()))
    common.show(rows, as_json=as_json, empty="no topics")


@app.command()
def resume(
    topic: Annotated[str, typer.Argument(help="The topic's name.")],
    accept: Annotated[int, typer.Option(min=0, help="Let the next N records through, malformed or not.")] = 0,
    as_json: common.Json = False,
) -> None:
    """Let the workers read a paused topic again."""
    common.run(topic_management.resume(common.load(), topic, accept))
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
    rows = common.run(topic_management.list_acts(common.load()))
    if not as_json:
        rows = [row | {"detail": ", ".join(f"{name} {value}" for name, value in row["detail"].items())} for row in rows]
    common.show(rows, as_json=as_json, empty="nobody resumed a topic or skipped a record yet")
