"""`goalworker demo`: everything at work on this machine, checked at the end."""

from pathlib import Path
from typing import Annotated

import typer

from goalworker import demo as show

app = typer.Typer(add_completion=False)

UNTIL = f"with Ctrl-C, or after {show.SECONDS_WITHOUT_TERMINAL:.0f} s where the output is no terminal"


@app.command()
def demo(
    rate: Annotated[
        float | None,
        typer.Option(min=1, help="Records per second.", show_default="200; with --smoke 500"),
    ] = None,
    tenants: Annotated[int, typer.Option(min=1, help="Tenants that the traffic is about.")] = 3,
    seed: Annotated[int, typer.Option(help="The same seed makes the same traffic.")] = 1,
    events: Annotated[int | None, typer.Option(min=1, help=f"End after so many; otherwise {UNTIL}.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the servers' data and the logs in this folder.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A short one, which exits with 1 on any difference.")] = False,
) -> None:
    """Start Kafka and PostgreSQL from packages, make traffic, run the worker, and check the result.

    Ctrl-C stops the traffic and checks; a second one leaves the check unfinished, with exit code 130.
    """
    raise typer.Exit(show.main(rate=rate, tenants=tenants, seed=seed, events=events, keep=keep, smoke=smoke))
