"""Settings, logs and output that all commands share."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import msgspec
import pydantic
import typer

import goalworker
from goalworker import config, logs
from goalworker.config import values
from goalworker.domain.faults import printable
from goalworker.domain.text import TEXT_RULE, is_valid_text

T = TypeVar("T")


def text(value: T) -> T:
    """Return an id as it was given, or None as None; BadParameter unless it is valid."""
    if isinstance(value, str) and not is_valid_text(value):
        raise typer.BadParameter(f"it {TEXT_RULE}")
    return value


Tenant = Annotated[str, typer.Option("--tenant", callback=text, help="The tenant that owns the goals.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text for people.")]
Workflow = Annotated[str, typer.Argument(callback=text, help="The workflow's id.")]


def load() -> config.Settings:
    """Read the settings and send logs to stderr, except those of the Kafka client."""
    settings = config.load()
    logs.configure(settings.log.level, settings.log.format, goalworker.__version__)
    logs.take_over_warnings()
    logging.getLogger("aiokafka").propagate = False
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # without a handler, Python prints warnings itself
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for name in settings.ignored_names:
        logs.get(__name__).warning("setting_ignored", name=name)
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the work of a command to its end."""
    return asyncio.run(work)


def moment(text: str) -> datetime:
    """Parse a time with an offset, or an ISO 8601 duration, which is subtracted from now."""
    try:
        if text.startswith("P"):
            return datetime.now(UTC) - pydantic.TypeAdapter[timedelta](values.Duration).validate_python(text)
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise typer.BadParameter(f"{text!r} must be a time such as 2026-05-01T12:00:00Z, or a duration such as PT1H")
    return time


def show(rows: Sequence[Mapping[str, object]], *, as_json: bool, empty: str) -> None:
    """Print rows to stdout, as a JSON array or as a table; without rows, a person reads the sentence `empty`."""
    if as_json:
        show_json(rows)
    elif not rows:
        say(empty)
    else:
        header = [name.replace("_", " ").upper() for name in rows[0]]
        lines = [header, *([_cell(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        say("\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines))


def show_json(value: object) -> None:
    """Print a value to stdout as JSON."""
    say(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def report(facts: Mapping[str, object], sentence: str, *, as_json: bool) -> None:
    """Print the result of a command: as a JSON object for a program, as a sentence for a person."""
    if as_json:
        show_json(facts)
    else:
        say(sentence)


def say(text: str) -> None:
    """Print data to stdout."""
    typer.echo(text)


def remark(sentence: str) -> None:
    """Print a remark about the data to stderr: as a line of JSON if the settings choose that format."""
    if logs.is_json(asked_for=True):
        logs.get(__name__).warning("remark", remark=sentence)
    else:
        typer.echo(sentence, err=True)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        case _:
            return printable(str(value))
