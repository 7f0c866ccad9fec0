"""`goalworker lag`: records that the worker has not committed yet."""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

import aiokafka
import typer
from aiokafka import TopicPartition

from goalworker import config, errors
from goalworker.admin import kafka_connection, kafka_topics
from goalworker.cli import common
from goalworker.kafka import broker_requests

app = typer.Typer(add_completion=False)

READ_SECONDS: Final = 5.0

Group = Annotated[str | None, typer.Option(help="The consumer group; by default the workers' group.")]


@app.command()
def lag(group: Group = None, as_json: common.Json = False) -> None:
    """Show the committed offset, the end and the lag of each partition.

    A partition is behind by the age of its first uncommitted record. Hidden records are those behind an open
    transaction, which cannot be read until it ends; `goalworker doctor` names the producer.
    """
    settings = common.load()
    rows = common.run(_rows(settings, group or settings.kafka.group_id))
    common.show(rows, as_json=as_json, empty="no partitions")
    if not as_json:
        common.say(total(rows))


def total(rows: list[dict[str, Any]]) -> str:
    """Return the sentence below the table: total lag, greatest age, and hidden records."""
    records, hidden = (sum(row[column] for row in rows) for column in ("lag", "hidden"))
    behind_it = f"; {hidden:,} more hidden by an open transaction" if hidden else ""
    if not records:
        return f"\ntotal: 0 records, nothing is behind{behind_it}"
    behind = [row["behind_seconds"] for row in rows if row["behind_seconds"] is not None]
    since = f", behind by {max(behind):,.0f} s" if behind else ""
    return f"\ntotal: {records:,} record{'' if records == 1 else 's'}{since}{behind_it}"


async def _rows(settings: config.Settings, group_id: str) -> list[dict[str, Any]]:
    async with kafka_connection.admin(settings) as client:
        found = await kafka_topics.require(client, [*settings.topics.inputs, settings.topics.redrive])
        committed = await kafka_topics.committed(client, group_id)
    partitions = kafka_topics.partitions(found)
    async with kafka_connection.consumer(settings) as consumer:
        consumer.assign(partitions)
        # Before the ends, so that records written meanwhile do not look hidden.
        highs = await broker_requests.high_watermarks(consumer, partitions)
        # Under read_committed these are the last stable offsets: records behind them cannot be read yet (hazard 12).
        ends = await consumer.end_offsets(partitions)
        beginnings = await consumer.beginning_offsets(partitions)
        starts = {each: committed.get(each, beginnings[each]) for each in partitions}
        behind = await _behind_seconds(consumer, {each: max(starts[each], beginnings[each]) for each in starts}, ends)
    return [
        {
            "topic": each.topic,
            "partition": each.partition,
            "committed": committed.get(each),
            "end": ends[each],
            "lag": max(0, ends[each] - starts[each]),
            "behind_seconds": behind.get(each),
            "hidden": max(0, highs[each] - ends[each]),
        }
        for each in partitions
    ]


async def _behind_seconds(
    consumer: aiokafka.AIOKafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, float]:
    """Return the age of the first record from each start on, if a readable one lies before the end."""
    left = {each for each, start in starts.items() if start < ends[each]}
    consumer.pause(*(starts.keys() - left))
    for partition in left:
        consumer.seek(partition, starts[partition])
    behind: dict[TopicPartition, float] = {}
    deadline = time.monotonic() + READ_SECONDS
    while left and time.monotonic() < deadline:
        try:
            found = await kafka_connection.fetch(consumer, left, 500)
        except errors.UndecodableError as error:
            unreadable = TopicPartition(error.topic, error.partition)
            consumer.pause(unreadable)
            left.discard(unreadable)
            for partition in left:  # the fetch that failed may have moved their positions
                consumer.seek(partition, starts[partition])
            continue
        for partition, records in found.items():
            behind[partition] = round(max(0.0, time.time() - records[0].timestamp / 1000), 1)
        # If only transaction markers are left, the position reaches the end without a record.
        done = found.keys() | {each for each in left if await consumer.position(each) >= ends[each]}
        consumer.pause(*done)
        left -= done
    return behind
