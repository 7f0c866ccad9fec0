"""`goalworker lag`: records that the worker has not committed yet."""

from typing import Annotated, Any

import typer

from goalworker.cli import common
from goalworker.inspection import lag_report

app = typer.Typer(add_completion=False)

Group = Annotated[str | None, typer.Option(help="The consumer group; by default the workers' group.")]


@app.command()
def lag(group: Group = None, as_json: common.Json = False) -> None:
    """Show the committed offset, the end and the lag of each partition.

    A partition is behind by the age of its first uncommitted record. Hidden records are those behind an open
    transaction, which cannot be read until it ends; `goalworker doctor` names the producer.
    """
    settings = common.load()
    rows = common.run(lag_report.rows(settings, group or settings.kafka.group_id))
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
