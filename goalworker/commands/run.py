"""`goalworker run`: the worker."""

import typer

from goalworker import app as worker_app
from goalworker.commands import common

app = typer.Typer()


@app.command()
def run() -> None:
    """Run the worker until SIGTERM or Ctrl-C, which let it finish what it has in hand."""
    worker_app.run_worker(common.load(quiet=False))
