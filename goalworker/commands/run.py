"""`goalworker run`: the worker."""

import typer

from goalworker import app as worker_app
from goalworker import settings as all_settings

app = typer.Typer(add_completion=False)


@app.command()
def run() -> None:
    """Run the worker until SIGTERM or Ctrl-C, which let it finish what it has in hand."""
    worker_app.run_worker(all_settings.load())
