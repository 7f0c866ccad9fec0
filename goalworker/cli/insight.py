"""`goalworker insight`: history and seen values."""

import typer

from goalworker import config
from goalworker.runtime import insight_service

app = typer.Typer(add_completion=False)


@app.command()
def insight() -> None:
    """Keep events and count values until SIGTERM or Ctrl-C; what was read is written before it ends."""
    insight_service.run_insight(config.load())
