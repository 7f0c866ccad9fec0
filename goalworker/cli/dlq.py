"""`goalworker dlq`: records that could not be used, and why (contract section 4, dead letters)."""

import re
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from goalworker import metrics
from goalworker.admin.purge import delete, plan
from goalworker.admin.redrive import count, run
from goalworker.cli import common
from goalworker.domain.faults import printable
from goalworker.inspection import dead_letter_reading, dead_letter_report
from goalworker.inspection.dead_letter_reading import Selection
from goalworker.inspection.dead_letter_report import By

app = typer.Typer(
    help="Look at dead letters, send them again, delete them.", no_args_is_help=True, add_completion=False
)


def _reason(text: str) -> str:
    if text not in metrics.REASONS:
        raise typer.BadParameter(f"{text!r} is not a reason; the reasons are {', '.join(metrics.REASONS)}")
    return text


def _position(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[0-9]{1,9}:[0-9]{1,18}", text):
        raise typer.BadParameter(f"{text!r} must be PARTITION:OFFSET, such as 0:17")
    partition, _, offset = text.partition(":")
    return int(partition), int(offset)


Since = Annotated[
    datetime | None,
    typer.Option(
        parser=common.moment,
        metavar="TIME",
        help="Dead-lettered at this time or later: 2026-05-01T12:00:00Z, or PT1H for an hour ago.",
    ),
]
Until = Annotated[
    datetime | None, typer.Option(parser=common.moment, metavar="TIME", help="Dead-lettered before this time.")
]
Topic = Annotated[str | None, typer.Option(help="Originally read from this topic.")]
Tenant = Annotated[
    str | None, typer.Option(help="Of this tenant, as the worker tells it, or else as headers, value or key name it.")
]
Reason = Annotated[str | None, typer.Option(parser=_reason, metavar="REASON", help="Dead-lettered for this reason.")]
# Letters that `list` shows by default. They are all held in memory, since partitions are read side by side and the list
# is sorted by time.
LISTED_MAX: Final = 1_000
Max = Annotated[int | None, typer.Option("--max", min=1, help="At most this many.")]


@app.command("list")
def list_(
    since: Since = None,
    until: Until = None,
    topic: Topic = None,
    reason: Reason = None,
    tenant: Tenant = None,
    max_records: Max = LISTED_MAX,
    as_json: common.Json = False,
) -> None:
    """List dead letters, oldest first, each with its position, origin and reason."""
    selection = Selection(since, until, topic, reason, max_records, tenant)
    found = common.run(dead_letter_report.list_letters(common.load(), selection))
    common.show(found if as_json else [_row(letter) for letter in found], as_json=as_json, empty="no dead letters")
    if len(found) == max_records == LISTED_MAX:
        common.remark(f"only the first {LISTED_MAX} are listed: there may be more, so give --max, --since or --until")


@app.command()
def show(
    position: Annotated[Any, typer.Argument(parser=_position, metavar="PARTITION:OFFSET")],
    as_json: common.Json = False,
) -> None:
    """Print the headers and the value of one dead letter: as text if they are text, otherwise as base64."""
    record = common.run(dead_letter_reading.one(common.load(), *position))
    if as_json:
        common.show_json(dead_letter_report.document(record))
        return
    for name, value in [("key", record.key), *record.headers, ("value", record.value)]:
        common.say(f"{printable(name)}: {dead_letter_report.printable_value(value)}")


@app.command()
def stats(
    since: Since = None,
    until: Until = None,
    topic: Topic = None,
    reason: Reason = None,
    tenant: Tenant = None,
    by: Annotated[By, typer.Option(help="Count them by topic and reason, or by tenant.")] = By.REASON,
    as_json: common.Json = False,
) -> None:
    """Count dead letters by topic and reason, or by tenant, most frequent first, open and redriven ones apart."""
    selection = Selection(since, until, topic, reason, tenant_id=tenant)
    rows = common.run(dead_letter_report.count_letters(common.load(), selection, by))
    common.show(rows, as_json=as_json, empty="no dead letters")


@app.command()
def redrive(
    since: Since = None,
    until: Until = None,
    topic: Topic = None,
    reason: Reason = None,
    tenant: Tenant = None,
    max_records: Max = None,
    rate: Annotated[int, typer.Option(min=1, help="Send at most this many per second.")] = 1_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be sent.")] = False,
    as_json: common.Json = False,
) -> None:
    """Send dead letters again, and count them by topic and reason.

    They go to the redrive topic, which only `goalworker run` reads, each with the timestamp of its original record.
    They also stay in the DLQ. A letter that the redrive topic holds already is not sent again, so the same command
    resumes a redrive that was killed, and another selection sends the rest. A letter that fails again becomes a new
    dead letter, which the redrive that sent it does not pick up.
    """
    selection = Selection(since, until, topic, reason, max_records, tenant)
    settings = common.load()
    counts = common.run(count(settings, selection) if dry_run else run(settings, selection, rate))
    common.show(dead_letter_report.rank(counts), as_json=as_json, empty="no open dead letters")
    if counts and not as_json:
        common.say(f"{counts.total()} {'would be redriven' if dry_run else 'redriven'}")


@app.command()
def purge(
    before: Annotated[
        datetime | None,
        typer.Option(
            parser=common.moment, metavar="TIME", help="Those dead-lettered before this time, or longer ago than P30D."
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that the DLQ holds now.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    as_json: common.Json = False,
) -> None:
    """Delete dead letters for good, redriven or not.

    Kafka deletes only from the beginning of a partition: a letter behind a younger one stays.
    """
    if (before is None) is not everything:
        raise typer.BadParameter("give either --before or --all")
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("give --yes: stdin is not a terminal, so there is nobody to ask")
    settings = common.load()
    planned = common.run(plan(settings, before))
    if planned.records and not yes:
        question = f"Delete {planned.records} records from {settings.topics.dead_letters} for good?"
        typer.confirm(question, abort=True, err=True)
    common.run(delete(settings, planned))
    topic = settings.topics.dead_letters
    common.report(
        {"topic": topic, "deleted": planned.records}, f"{planned.records} deleted from {topic}", as_json=as_json
    )


def _row(described: Mapping[str, Any]) -> dict[str, Any]:
    origin = [described[f"original_{name}"] for name in ("topic", "partition", "offset")]
    return {
        "position": f"{described['partition']}:{described['offset']}",
        "time": described["time"],
        "origin": None if None in origin else ":".join(map(str, origin)),
        "reason": described["reason"],
        "redrives": described["redrive_count"],
        "message": described["message"],
    }
