"""`goalworker demo`: the whole system on this machine, with traffic and a check at the end."""

from pathlib import Path
from typing import Annotated

import typer

from goalworker.demo import SECONDS_WITHOUT_TERMINAL, main

app = typer.Typer(add_completion=False)

UNTIL = f"with Ctrl-C, or after {SECONDS_WITHOUT_TERMINAL:.0f} s if the output is not a terminal"


@app.command()
def demo(
    rate: Annotated[
        float | None,
        typer.Option(min=1, help="Records per second.", show_default="200; with --smoke 500"),
    ] = None,
    tenants: Annotated[int, typer.Option(min=1, help="Number of tenants.")] = 3,
    seed: Annotated[int, typer.Option(help="The same seed makes the same traffic.")] = 1,
    events: Annotated[
        int | None, typer.Option(min=1, help=f"Stop after this many records; by default {UNTIL}.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the servers' data and the logs in this folder.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A short run: 3,000 records.")] = False,
) -> None:
    """Start Kafka and PostgreSQL from packages, send traffic, run worker, API and insight, and check the result.

    Ctrl-C stops the traffic and starts the check, which exits with 1 on any difference. A second Ctrl-C skips it and
    exits with 130.
    """
    raise typer.Exit(main(rate=rate, tenants=tenants, seed=seed, events=events, keep=keep, smoke=smoke))
