"""`goalworker outbox`: the messages that are still to be published."""

from typing import Any

import typer

from goalworker import config
from goalworker.admin import database_connection
from goalworker.cli import common
from goalworker.inspection.outbox_report import sentence
from goalworker.pipeline import outbox, refused_messages
from goalworker.postgres import connections

app = typer.Typer(
    help="Look at the messages that are still to be published.", no_args_is_help=True, add_completion=False
)


@app.callback()
def group() -> None:
    """Make `status` a command of its own, though it is the only one."""


@app.command()
def status(as_json: common.Json = False) -> None:
    """Show how many messages wait by topic, for how long, and which messages their topics refuse."""
    rows, refused = common.run(rows_by_topic(common.load()))
    if as_json:
        oldest_seconds = max((row["oldest_age_seconds"] for row in rows), default=None)
        pending = sum(row["pending"] for row in rows)
        content = {"pending": pending, "oldest_age_seconds": oldest_seconds, "topics": rows, "refused": refused}
        common.show_json(content)
        return
    common.show(rows, as_json=False, empty="nothing is pending")
    for row in refused:
        common.say(row["detail"])


async def rows_by_topic(settings: config.Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return pending and refused messages by topic; ages are by the database's clock."""
    names = dict(settings.topics)
    async with database_connection.transaction(settings) as sql:
        now = await sql.fetchval(connections.SELECT_NOW_SECONDS)
        waiting = [
            {
                "topic": names.get(pending.topic, pending.topic),
                "pending": pending.records,
                "oldest_age_seconds": round(max(0.0, now - pending.oldest_timestamp_seconds), 1),
            }
            for pending in await outbox.status(sql)
        ]
        return waiting, [
            _refused_row(held, names.get(held.topic, held.topic), now) for held in await refused_messages.status(sql)
        ]


def _refused_row(held: refused_messages.HeldByTopic, topic: str, now: float) -> dict[str, Any]:
    return {
        "topic": topic,
        "records": held.records,
        "smallest_bytes": held.smallest_bytes,
        "largest_bytes": held.largest_bytes,
        "limit_bytes": held.limit_bytes,
        "reason": held.reason,
        "oldest_age_seconds": round(max(0.0, now - held.since_timestamp_seconds), 1),
        "detail": sentence(held, topic),
    }
