"""`goalworker run`: the worker."""

from datetime import datetime
from typing import Annotated, Any

import typer

from goalworker import config
from goalworker.cli import common
from goalworker.runtime import worker_service

app = typer.Typer(add_completion=False)


def _target(text: str) -> str | datetime:
    return text if text in ("earliest", "latest") else common.moment(text)


@app.command()
def run(
    reset_offsets: Annotated[
        Any,
        typer.Option(
            parser=_target,
            metavar="[earliest|latest|TIME]",
            help="First reset offsets that are out of range: to the earliest record, to the end (which skips all "
            "records), or to the first record of a time such as 2026-05-01T12:00:00Z, or PT1H ago. A time also moves "
            "back every later offset, so that all records since then are read again. No other worker may run.",
        ),
    ] = None,
) -> None:
    """Run the worker until SIGTERM or Ctrl-C; it finishes the batches in flight."""
    worker_service.run_worker(config.load(), reset_offsets=reset_offsets)
