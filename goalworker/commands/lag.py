"""`goalworker lag`: how far the worker is behind."""

from typing import Any

import typer

from goalworker import settings as all_settings
from goalworker.commands import cluster, common, kafka_connection

app = typer.Typer(add_completion=False)


@app.command()
def lag(as_json: common.Json = False) -> None:
    """Show, by topic and partition, what is committed, where the topic ends, and how many records are between."""
    common.show(common.run(_rows(common.load())), as_json=as_json, empty="no partitions")


async def _rows(settings: all_settings.Settings) -> list[dict[str, Any]]:
    async with kafka_connection.admin(settings) as client:
        found = await cluster.require(client, [*settings.topics.inputs, settings.topics.redrive])
        committed = await cluster.committed(client, settings.kafka.group_id)
    partitions = cluster.partitions(found)
    async with kafka_connection.consumer(settings) as consumer:
        consumer.assign(partitions)
        # Under read_committed these are the last stable offsets: what is behind them nobody may read yet (hazard 12).
        ends = await consumer.end_offsets(partitions)
        beginnings = await consumer.beginning_offsets(partitions)
    return [
        {
            "topic": each.topic,
            "partition": each.partition,
            "committed": committed.get(each),
            "end": ends[each],
            "lag": max(0, ends[each] - committed.get(each, beginnings[each])),
        }
        for each in partitions
    ]
