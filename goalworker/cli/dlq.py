"""`goalworker dlq`: what could not be used, and why (contract section 4, dead letters)."""

import base64
import re
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import aiokafka
import typer

from goalworker import config, metrics
from goalworker.admin import dead_letter_reading, kafka_connection, kafka_topics
from goalworker.admin.purge import delete, plan
from goalworker.admin.redrive import already_sent, fingerprint_of, run
from goalworker.cli import common
from goalworker.domain.faults import printable
from goalworker.pipeline import dead_letters

app = typer.Typer(
    help="Look at dead letters, send them again, delete them.", no_args_is_help=True, add_completion=False
)


def _reason(text: str) -> str:
    if text not in metrics.REASONS:
        raise typer.BadParameter(f"{text!r} is no reason; there are {', '.join(metrics.REASONS)}")
    return text


def _position(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[0-9]{1,9}:[0-9]{1,18}", text):
        raise typer.BadParameter(f"{text!r} is no PARTITION:OFFSET, such as 0:17")
    partition, _, offset = text.partition(":")
    return int(partition), int(offset)


Since = Annotated[
    datetime | None,
    typer.Option(
        parser=common.moment, metavar="TIME", help="Dead-lettered then or later: 2026-05-01T12:00:00Z, or PT1H ago."
    ),
]
Until = Annotated[
    datetime | None, typer.Option(parser=common.moment, metavar="TIME", help="Dead-lettered before then.")
]
Topic = Annotated[str | None, typer.Option(help="First read from this topic.")]
Tenant = Annotated[
    str | None, typer.Option(help="Of this tenant, as the letter's headers, value or key name it: all others are left.")
]
Reason = Annotated[str | None, typer.Option(parser=_reason, metavar="REASON", help="Dead-lettered for this reason.")]
# All are in memory before the first is printed, since partitions are read one beside the other.
LISTED_MAX: Final = 1_000
Max = Annotated[int | None, typer.Option("--max", min=1, help="No more than so many.")]


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
    """List dead letters, oldest first: where each is, where it came from, and why."""
    found = common.run(
        _list(common.load(), dead_letter_reading.Selection(since, until, topic, reason, max_records, tenant))
    )
    common.show(found if as_json else [_row(each) for each in found], as_json=as_json, empty="no dead letters")
    if len(found) == max_records == LISTED_MAX:
        common.remark(f"{LISTED_MAX} are listed, and there may be more: give --max, --since or --until")


@app.command()
def show(
    position: Annotated[Any, typer.Argument(parser=_position, metavar="PARTITION:OFFSET")],
    as_json: common.Json = False,
) -> None:
    """Print one dead letter, headers and value, as text where it is text and otherwise as base64."""
    record = common.run(dead_letter_reading.one(common.load(), *position))
    if as_json:
        common.show_json(_document(record))
        return
    for name, value in [("key", record.key), *record.headers, ("value", record.value)]:
        common.say(f"{printable(name)}: {_shown(value)}")


@app.command()
def stats(
    since: Since = None,
    until: Until = None,
    topic: Topic = None,
    reason: Reason = None,
    tenant: Tenant = None,
    as_json: common.Json = False,
) -> None:
    """Count dead letters by topic and reason, most frequent first: how many are open, and how many were redriven."""
    rows = common.run(
        _counts(common.load(), dead_letter_reading.Selection(since, until, topic, reason, tenant_id=tenant))
    )
    common.show(rows, as_json=as_json, empty="no dead letters")


@app.command()
def redrive(
    since: Since = None,
    until: Until = None,
    topic: Topic = None,
    reason: Reason = None,
    tenant: Tenant = None,
    max_records: Max = None,
    rate: Annotated[int, typer.Option(min=1, help="No more than so many in a second.")] = 1_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be sent.")] = False,
    as_json: common.Json = False,
) -> None:
    """Send dead letters again, and count them by topic and reason.

    They go to the redrive topic, which only `goalworker run` reads, each with its original record's timestamp.
    They stay in the DLQ too; what stands in the redrive topic is not sent again, whatever was selected then.
    So the same command resumes a run that was killed, and what one selection leaves out waits for the next.
    A letter that fails again comes back as a new one, which the run that sent it leaves alone.
    """
    wanted = dead_letter_reading.Selection(since, until, topic, reason, max_records, tenant)
    counts = common.run(run(common.load(), wanted, rate, dry_run=dry_run))
    common.show(_ranked(counts), as_json=as_json, empty="no dead letters that were not redriven")
    if counts and not as_json:
        common.say(f"{counts.total()} {'would be redriven' if dry_run else 'redriven'}")


@app.command()
def purge(
    before: Annotated[
        datetime | None,
        typer.Option(
            parser=common.moment, metavar="TIME", help="Those dead-lettered before then, or so long ago: P30D."
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are there now.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: common.Json = False,
) -> None:
    """Delete dead letters for good, redriven or not.

    Kafka deletes the oldest of a partition and none from the middle: what stands behind a younger one stays with it.
    """
    if (before is None) is not everything:
        raise typer.BadParameter("give either --before or --all")
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("give --yes: there is no terminal to ask at")
    settings = common.load()
    doomed = common.run(plan(settings, before))
    if doomed.records and not yes:
        question = f"Delete {doomed.records} records from {settings.topics.dead_letters} for good?"
        typer.confirm(question, abort=True, err=True)
    common.run(delete(settings, doomed))
    topic = settings.topics.dead_letters
    common.report(
        {"topic": topic, "deleted": doomed.records}, f"{doomed.records} deleted from {topic}", as_json=as_json
    )


async def _list(settings: config.Settings, wanted: dead_letter_reading.Selection) -> list[dict[str, Any]]:
    found = [_described(record) async for record in dead_letter_reading.read(settings, wanted)]
    return sorted(found, key=lambda each: (each["time"], each["partition"], each["offset"]))


async def _counts(settings: config.Settings, wanted: dead_letter_reading.Selection) -> list[dict[str, Any]]:
    async with kafka_connection.admin(settings) as client:
        has_redrive_topic = settings.topics.redrive in await kafka_topics.topics(client)
    sent = await already_sent(settings) if has_redrive_topic else set()
    counts: Counter[tuple[str | None, str | None]] = Counter()
    redriven: Counter[tuple[str | None, str | None]] = Counter()
    async for record in dead_letter_reading.read(settings, wanted):
        header = dead_letter_reading.headers_of(record)
        kind = header.get(dead_letters.ORIGINAL_TOPIC), header.get(dead_letters.ERROR_REASON)
        counts[kind] += 1
        again = dead_letters.redriven(record, settings.topics.redrive)
        redriven[kind] += again is not None and fingerprint_of(again) in sent
    return [
        {**row, "open": row["records"] - sent_again, "redriven": sent_again}
        for row in _ranked(counts)
        for sent_again in [redriven[row["topic"], row["reason"]]]
    ]


def _ranked(counts: Counter[tuple[str | None, str | None]]) -> list[dict[str, Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return [{"topic": topic, "reason": reason, "records": count} for (topic, reason), count in ordered]


def _described(record: aiokafka.ConsumerRecord) -> dict[str, Any]:
    header = dead_letter_reading.headers_of(record)
    return {
        "partition": record.partition,
        "offset": record.offset,
        "time": dead_letter_reading.time_of(record),
        "original_topic": header.get(dead_letters.ORIGINAL_TOPIC),
        "original_partition": _number(header.get(dead_letters.ORIGINAL_PARTITION)),
        "original_offset": _number(header.get(dead_letters.ORIGINAL_OFFSET)),
        "reason": header.get(dead_letters.ERROR_REASON),
        "message": header.get(dead_letters.ERROR_MESSAGE),
        "redrive_count": _number(header.get(dead_letters.REDRIVE_COUNT)),
    }


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


def _document(record: aiokafka.ConsumerRecord) -> dict[str, Any]:
    return {
        **_described(record),
        "key": _text_or_base64(record.key),
        "headers": [{"name": name, **_text_or_base64(value)} for name, value in record.headers],
        "value": _text_or_base64(record.value),
    }


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None


def _text_or_base64(value: bytes | None) -> dict[str, str | None]:
    text = _text(value)
    return {"text": text} if value is None or text is not None else {"base64": base64.b64encode(value).decode()}


def _shown(value: bytes | None) -> str:
    if value is None:
        return "null"
    text = _text(value)
    return text if text is not None else f"base64 {base64.b64encode(value).decode()}"


def _text(value: bytes | None) -> str | None:
    """Return what is text that no terminal minds, None for anything else."""
    try:
        text = None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
    return text if text is not None and re.sub(r"[\n\t]", "", text).isprintable() else None
