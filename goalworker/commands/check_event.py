"""`goalworker check-event`: what the worker would make of one message."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

import msgspec
import typer

from goalworker import app as worker_app
from goalworker import database, decode, events, goal_store, index, match, tables
from goalworker import settings as all_settings
from goalworker.commands import common, database_connection

app = typer.Typer(add_completion=False)


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{text!r} is no NAME=VALUE, such as ce_type=form.submitted")
    return name, value.encode()


@app.command("check-event")
def check_event(
    topic: Annotated[str, typer.Option(help="The topic that the message is for.")],
    message: Annotated[typer.FileBinaryRead, typer.Argument(metavar="FILE", help="The message's value; - is stdin.")],
    header: Annotated[
        list[Any] | None,
        typer.Option(parser=_header, metavar="NAME=VALUE", help="A header of the message; any number of them."),
    ] = None,
    as_json: common.Json = False,
) -> None:
    """Decode one message as the worker would: what is wrong with it, by pointer, or which goals it hits."""
    settings = common.load()
    found = _decoded(settings, topic, message.read(), header or [])
    if isinstance(found, decode.Malformed):
        _show_malformed(found, as_json=as_json)
        raise typer.Exit(1)
    hits = common.run(_hits(settings, found)) if settings.database.url else None
    _show_event(found, hits, as_json=as_json)


def _decoded(
    settings: all_settings.Settings, topic: str, value: bytes, headers: Sequence[tuple[str, bytes]]
) -> events.Event | decode.Malformed:
    kinds = worker_app.kinds(settings)
    if topic not in kinds:
        raise typer.BadParameter(f"{topic!r} is no topic that goalworker reads; those are {', '.join(kinds)}")
    limits = decode.Limits(
        settings.events.max_bytes, timedelta(seconds=settings.events.max_future_seconds), settings.events.default_tenant
    )
    timestamp_ms = time.time_ns() // 1_000_000
    found = decode.Decoder(kinds, limits).decode(topic, value, headers, timestamp_ms, datetime.now(UTC))
    return cast("events.Event | decode.Malformed", found)  # not None: bytes are no tombstone


async def _hits(settings: all_settings.Settings, event: events.Event) -> list[events.Hit]:
    known = index.Index()
    async with database_connection.pool(settings) as pool, database.transaction(pool, tables.WORKER_ROLE, "cli") as sql:
        await goal_store.refresh(sql, known)
    return match.hits(event, known)


def _show_malformed(found: decode.Malformed, *, as_json: bool) -> None:
    if as_json:
        common.show_json({"outcome": "dead_letter", "error": found})
    else:
        where = f" at {found.pointer}" if found.pointer else ""
        common.say(f"{found.reason}{where}: {found.detail}")


def _show_event(event: events.Event, hits: list[events.Hit] | None, *, as_json: bool) -> None:
    rows = None if hits is None else [_row(hit) for hit in hits]
    if as_json:
        common.show_json({"outcome": "event", "event": event, "hits": rows})
        return
    for name, value in {**msgspec.to_builtins(event), **msgspec.to_builtins(event.data)}.items():
        if name != "data" and value is not None:
            common.say(f"{name}: {common.printable(str(value))}")
    if rows is None:
        common.say("\nhits were not looked up: GOALWORKER_DATABASE__URL is not set")
    else:
        common.say("")
        common.show(rows, as_json=False, empty="it hits no goal")


def _row(hit: events.Hit) -> dict[str, object]:
    return {
        "workflow_id": hit.workflow_id,
        "goal_id": hit.goal_id,
        "version": hit.goal_version,
        "contact_id": hit.contact_id,
    }
