"""`goalworker outbox`: the messages that are still to be published."""

from typing import Any

import typer

from goalworker import database, outbox, refused, sending, tables
from goalworker import settings as all_settings
from goalworker.commands import common, database_connection

app = typer.Typer(
    help="Look at the messages that are still to be published.", no_args_is_help=True, add_completion=False
)


@app.callback()
def group() -> None:
    """Make `status` a command of its own, though it is the only one."""


@app.command()
def status(as_json: common.Json = False) -> None:
    """Show how many messages wait, and for how long, by topic, and what their topics refuse."""
    rows, held = common.run(rows_by_topic(common.load()))
    if as_json:
        oldest_seconds = max((row["oldest_age_seconds"] for row in rows), default=None)
        pending = sum(row["pending"] for row in rows)
        content = {"pending": pending, "oldest_age_seconds": oldest_seconds, "topics": rows, "refused": held}
        common.show_json(content)
        return
    common.show(rows, as_json=False, empty="nothing is pending")
    for row in held:
        common.say(row["detail"])


async def rows_by_topic(settings: all_settings.Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return, by topic, what is pending and what is refused; ages are by the database's clock."""
    names = dict(settings.topics)
    async with database_connection.pool(settings) as pool, database.transaction(pool, tables.WORKER_ROLE, "cli") as sql:
        now = await sql.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        pending = [
            {
                "topic": names.get(each.topic, each.topic),
                "pending": each.records,
                "oldest_age_seconds": round(max(0.0, now - each.oldest_timestamp_seconds), 1),
            }
            for each in await outbox.status(sql)
        ]
        return pending, [_held(each, names.get(each.topic, each.topic), now) for each in await refused.status(sql)]


def sentence(held: refused.OfTopic, topic: str) -> str:
    """Return what is refused by a topic, why, and what to do."""
    of_size = f"{held.smallest_bytes} bytes"
    if held.largest_bytes > held.smallest_bytes:
        of_size = f"{held.smallest_bytes} to {held.largest_bytes} bytes"
    count = "1 message" if held.records == 1 else f"{held.records} messages"
    refusal = f"{topic} refuses {count} of {of_size}: {held.reason}"
    if held.reason == sending.TOO_LARGE:
        limit = "" if held.limit_bytes is None else f", which is {held.limit_bytes}"
        remedy = f"set max.message.bytes of {topic} to at least {held.largest_bytes}"
        return f"{refusal}{limit}; {remedy}, and they are sent within {refused.RETRY_SECONDS} s"
    return f"{refusal}; they are sent within {refused.RETRY_SECONDS} s after {topic} takes them"


def _held(held: refused.OfTopic, topic: str, now: float) -> dict[str, Any]:
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
