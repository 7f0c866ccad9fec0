"""`goalworker schema`: schemas of messages, topics and API as files (contract section 6)."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from goalworker import api, config, errors, schemas
from goalworker.cli import common
from goalworker.inspection import kafka_topics

app = typer.Typer(
    help="Export JSON Schemas, AsyncAPI and OpenAPI to a folder.", no_args_is_help=True, add_completion=False
)


@app.callback()
def group() -> None:
    """Make `export` a command of its own, though it is the only one."""


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the files; created if it is missing.")],
    as_json: common.Json = False,
) -> None:
    """Write JSON Schemas of all messages, AsyncAPI of the topics by their configured names, and OpenAPI of the API."""
    written = {directory / name: document for name, document in documents(common.load()).items()}
    for path, document in written.items():
        _write(path, document)
        if not as_json:
            common.say(str(path))
    if as_json:
        common.show_json([str(path) for path in written])


def documents(settings: config.Settings) -> dict[str, bytes]:
    """Return every document as JSON, by its path in DIR."""
    every: dict[str, Any] = {f"messages/{kind}.json": found for kind, found in schemas.message_schemas().items()}
    every["asyncapi.json"] = schemas.asyncapi(settings.topics, kafka_topics.CONFIGURATION)
    every["openapi.json"] = api.document()
    return {name: msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n" for name, found in every.items()}


def _write(path: Path, document: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(document)
    except OSError as error:
        raise errors.GoalworkerError(f"{path} cannot be written: {error.strerror}") from None
