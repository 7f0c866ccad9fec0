"""`goalworker outbox`: the messages that are still to be published."""

from typing import Any

import typer

from goalworker import database, outbox, tables
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
    """Show how many messages wait, and for how long, by topic."""
    rows = common.run(rows_by_topic(common.load()))
    if as_json:
        oldest_seconds = max((row["oldest_age_seconds"] for row in rows), default=None)
        pending = sum(row["pending"] for row in rows)
        common.show_json({"pending": pending, "oldest_age_seconds": oldest_seconds, "topics": rows})
    else:
        common.show(rows, as_json=False, empty="nothing is pending")


async def rows_by_topic(settings: all_settings.Settings) -> list[dict[str, Any]]:
    """Return, by topic, what is pending; ages are by the database's clock, which dated the messages."""
    names = dict(settings.topics)
    async with database_connection.pool(settings) as pool, database.transaction(pool, tables.WORKER_ROLE, "cli") as sql:
        now = await sql.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        return [
            {
                "topic": names.get(each.topic, each.topic),
                "pending": each.records,
                "oldest_age_seconds": round(max(0.0, now - each.oldest_timestamp_seconds), 1),
            }
            for each in await outbox.status(sql)
        ]
