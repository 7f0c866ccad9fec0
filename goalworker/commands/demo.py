"""`goalworker demo`: everything at work on this machine, checked at the end."""

from pathlib import Path
from typing import Annotated

import typer

from goalworker import demo as show

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    rate: Annotated[
        float | None,
        typer.Option(min=1, help="Records per second.", show_default="200; with --smoke 500"),
    ] = None,
    tenants: Annotated[int, typer.Option(min=1, help="Tenants that the traffic is about.")] = 3,
    seed: Annotated[int, typer.Option(help="The same seed makes the same traffic.")] = 1,
    events: Annotated[int | None, typer.Option(min=1, help="End after so many; otherwise with Ctrl-C.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the servers' data and the logs in this folder.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A short one, which exits with 1 on any difference.")] = False,
) -> None:
    """Start Kafka and PostgreSQL from packages, make traffic, run the worker, and check the result."""
    raise typer.Exit(show.main(rate=rate, tenants=tenants, seed=seed, events=events, keep=keep, smoke=smoke))
