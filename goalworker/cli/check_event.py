"""`goalworker check-event`: decode one message and match it, as the worker would."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, cast

import msgspec
import typer

from goalworker import config
from goalworker.admin import database_connection, message_faults
from goalworker.cli import common
from goalworker.decoding import skipping
from goalworker.decoding.decoder import Malformed, Outcome
from goalworker.decoding.envelope import Pairs
from goalworker.decoding.skipping import Skipped
from goalworker.domain import events, facts, gates, goals, tracing
from goalworker.domain.faults import printable
from goalworker.goal_index import index, matching
from goalworker.pipeline.event_decoder import event_decoder
from goalworker.postgres import connections
from goalworker.stores import goal_store

app = typer.Typer(add_completion=False)


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{text!r} must be NAME=VALUE, such as ce_type=form.submitted")
    return name, value.encode()


@app.command("check-event")
def check_event(
    topic: Annotated[str, typer.Option(help="The topic of the message.")],
    message: Annotated[
        typer.FileBinaryRead, typer.Argument(metavar="FILE", help="The message's value; - reads stdin.")
    ],
    header: Annotated[
        list[Any] | None,
        typer.Option(parser=_header, metavar="NAME=VALUE", help="A header of the message; may be repeated."),
    ] = None,
    key: Annotated[str | None, typer.Option(help="The message's key.")] = None,
    as_json: common.Json = False,
) -> None:
    """Decode one message as the worker would, and show its faults by JSON pointer, or the goals that it hits.

    A reversal is shown with what it undoes, and an event that the worker skips with the reason.
    """
    settings = common.load()
    value, headers = message.read(), header or []
    decode = _decoder(settings, topic, None if key is None else key.encode())
    found = decode(value, headers)
    if isinstance(found, Malformed):
        # In place of a faulty type, the primary one comes first: a reversal has other fields.
        types = sorted(
            settings.topics.event_types[topic], key=lambda type_: (type_ not in events.GOAL_EVENT_TYPES, type_)
        )
        _show_malformed(message_faults.faults(decode, value, headers, types), as_json=as_json)
        raise typer.Exit(1)
    if isinstance(found, Skipped):
        _show_skipped(found, topic, as_json=as_json)
        return
    hits = common.run(_hits(settings, found)) if settings.database.url else None
    _show_event(found, hits, as_json=as_json)


def _decoder(settings: config.Settings, topic: str, key: bytes | None) -> Callable[[bytes, Pairs], Outcome]:
    topics = settings.topics.inputs
    if topic not in topics:
        raise typer.BadParameter(f"goalworker does not read the topic {topic!r}; it reads {', '.join(topics)}")
    decoder = event_decoder(settings)
    if settings.database.url:
        now = common.run(_database_time(settings))
    else:
        now, decoder.clock = datetime.now(UTC), "this machine's clock"
    timestamp_ms = int(now.timestamp() * 1_000)

    def decode(value: bytes, headers: Pairs) -> Outcome:
        found = decoder.decode(topic, value, headers, timestamp_ms, now, key=key, position=_FIRST_POSITION)
        return cast("Outcome", found)  # not None, which stands for a tombstone

    return decode


async def _database_time(settings: config.Settings) -> datetime:
    async with database_connection.pool(settings) as pool:
        return await connections.now(pool)


# A file has no partition and offset. An event id that is made from them is shown as that of a topic's first record.
_FIRST_POSITION: Final = (0, 0)


async def _hits(settings: config.Settings, event: events.Event) -> list[dict[str, object]]:
    """Return the goals that an event hits, each with how the event stands to the contact's enrollments."""
    goal_index = index.Index()
    async with database_connection.transaction(settings) as sql:
        await goal_store.refresh_index(sql, goal_index)
        hits = matching.hits(event, goal_index)
        if not settings.enrollments.tracking:
            return [_row(hit, gates.ENROLLED) for hit in hits]
        workflow_ids = sorted({hit.workflow_id for hit in hits})
        rows = await sql.fetch(_ENROLLMENTS, event.tenant_id, workflow_ids, [hit.contact_id for hit in hits][:1])
    runs = [facts.Enrollment(*row) for row in rows]
    return [_row(hit, relation(hit, goal_index.workflow(hit.tenant_id, hit.workflow_id), runs)) for hit in hits]


_ENROLLMENTS: Final = f"""
SELECT {", ".join(facts.Enrollment.__struct_fields__)} FROM enrollments
WHERE tenant_id = $1 AND workflow_id = ANY($2::text[]) AND contact_id = ANY($3::text[])
"""


def relation(hit: facts.Hit, workflow: goals.Workflow, runs: Iterable[facts.Enrollment]) -> str:
    """Return in a word how a hit stands to enrollments of its contact, as the judge sees it (contract rule 3.2).

    It is the reason of the enrollment in whose window the event comes furthest.
    """
    started = [run for run in runs if run.workflow_id == hit.workflow_id and run.enrolled_at is not None]
    goal, reasons = workflow.goals_by_id[hit.goal_id], [gates.NOT_ENROLLED]
    for run in started:
        reason = tracing.outside(tracing.Case(run, workflow, (hit,), ()), goal, hit)
        if reason is None:
            return gates.ENROLLED
        reasons.append(reason)
    return max(reasons, key=gates.REASONS.index)


def _show_malformed(found: Sequence[Malformed], *, as_json: bool) -> None:
    if as_json:
        common.show_json({"outcome": "dead_letter", "error": found[0], "errors": found})
        return
    for fault in found:
        where = f" at {fault.pointer}" if fault.pointer else ""
        common.say(f"{fault.reason}{where}: {fault.detail}")


_MEANING: Final[Mapping[str, str]] = {
    skipping.TEST: (
        "it is a test event: it achieves nothing. With GOALWORKER_EVENTS__TEST_EVENTS=count it counts like any other"
    ),
    skipping.NO_MOVE: "the deal was in this stage before: an edit within a stage achieves nothing",
    skipping.FOREIGN_TYPE: (
        "its type is not one of {topic}. With GOALWORKER_EVENTS__FOREIGN_TYPES=dead_letter it becomes a dead letter"
    ),
    skipping.FOREIGN_TENANT: (
        "its tenant belongs to another cell: GOALWORKER_CELL__BUCKETS does not have its bucket, or it was moved"
    ),
}


def _show_skipped(skipped: Skipped, topic: str, *, as_json: bool) -> None:
    meaning = _MEANING[skipped.outcome].format(topic=topic)
    if as_json:
        common.show_json({"outcome": skipped.outcome, "type": skipped.type, "meaning": meaning})
        return
    common.say(f"type: {printable(skipped.type)}")
    common.say(f"\nskipped, and counted as {skipped.outcome}: {meaning}")


_UNDOES: Final[Mapping[str, str]] = {
    events.PAYMENT_REFUNDED: "payment {id} once its refunds add up to its amount, and lowers revenue",
    events.PAYMENT_FAILED: "payment {id}",
    events.APPOINTMENT_CANCELLED: "appointment {id}, unless another appointment replaces it",
    events.FORM_REJECTED: "submission {id}",
}


def _meaning(event: events.Event) -> str | None:
    """Return what a reversal does, None for any other event."""
    if event.type not in events.REVERSAL_TYPES:
        return None
    undone = _UNDOES[event.type].format(id=printable(facts.reversal_of(event).subject_id))
    return f"it is recorded as a reversal. Up to its time, it undoes {undone}"


def _show_event(event: events.Event, rows: list[dict[str, object]] | None, *, as_json: bool) -> None:
    meaning = _meaning(event)
    if as_json:
        found = {"outcome": "event", "event": event, "hits": rows}
        common.show_json(found if meaning is None else found | {"meaning": meaning})
        return
    for name, value in {**msgspec.to_builtins(event), **msgspec.to_builtins(event.data)}.items():
        if name != "data" and value is not None:
            common.say(f"{name}: {printable(str(value))}")
    if meaning is not None:
        common.say(f"\n{meaning}")
    elif rows is None:
        common.say("\nhits were not looked up: GOALWORKER_DATABASE__URL is not set")
    else:
        common.say("")
        common.show(rows, as_json=False, empty="it hits no goal")
        if rows and all(row["enrollment"] != gates.ENROLLED for row in rows):
            common.say(f"\nnothing is achieved: {_missed(rows)}")


_MISSED: Final[Mapping[str, str]] = {
    gates.AFTER_DEADLINE: "the deadline was over",
    gates.FOUNDING_EVENT: "the event is the one that started the enrollment",
    gates.NOT_CORRELATED: "the event lacks the enrollment's correlation_id",
}


def _missed(rows: Sequence[Mapping[str, object]]) -> str:
    """Return why an event counts for no enrollment, each reason once."""
    contact_id = printable(str(rows[0]["contact_id"]))
    outside = f"{contact_id} was not enrolled in these workflows at that time"
    return "; ".join(dict.fromkeys(_MISSED.get(str(row["enrollment"]), outside) for row in rows))


def _row(hit: facts.Hit, enrollment: str) -> dict[str, object]:
    return {
        "enrollment": enrollment,
        "workflow_id": hit.workflow_id,
        "goal_id": hit.goal_id,
        "version": hit.goal_version,
        "contact_id": hit.contact_id,
    }
