"""The demo: a real PostgreSQL and a real Kafka, traffic of several tenants, the worker, and a check at the end."""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Final

from rich.console import Console

import goalworker
from goalworker import embedded, logs, signals
from goalworker.demo import runner, view
from goalworker.embedded import machine

RATE: Final = 200.0
"""Records a second that leave a small machine air, so that the latency monitor is that of the worker."""

SMOKE_RATE: Final = 500.0
SMOKE_EVENTS: Final = 3_000
SECONDS_WITHOUT_TERMINAL: Final = 60.0
INTERRUPTED: Final = 130
HUNG_UP: Final = 129


def main(
    *,
    rate: float | None = None,
    tenants: int = 3,
    seed: int = 1,
    events: int | None = None,
    keep: Path | None = None,
    smoke: bool = False,
) -> int:
    """Run the demo and return its exit code: 1 where the check finds a difference, 130 where it was not finished.

    rate is in records a second, by default 200, in a smoke run 500. Without `events` it goes on until Ctrl-C, or for
    a minute where there is no terminal.
    """
    console = Console()
    options = runner.Options(
        rate=rate or (SMOKE_RATE if smoke else RATE),
        tenants=tenants,
        seed=seed,
        events=events or (SMOKE_EVENTS if smoke else None),
        seconds=None if events or smoke or console.file.isatty() else SECONDS_WITHOUT_TERMINAL,
    )
    signals.exit_once()
    try:
        return _exit_code(_play(options, keep, console))
    except asyncio.CancelledError:
        return HUNG_UP
    finally:
        signals.ignore()


def _play(options: runner.Options, keep: Path | None, console: Console) -> runner.Result:
    with machine.home(keep) as home, contextlib.ExitStack() as stack:
        _log_to(home / "demo.log")
        with _waiting("starting PostgreSQL and Kafka", console):
            pair = stack.enter_context(embedded.pair(keep and home, say=console.print))
        try:
            ending = asyncio.run(runner.run(options, pair, home, console, is_kept=keep is not None))
        finally:
            signals.ignore()  # the clean-up that begins now takes some seconds at most
        if ending.verdict is None:
            view.unfinished(ending.closing, console)
        else:
            view.summary(ending.verdict, ending.logged_errors, ending.closing, console)
        if keep:
            console.print(f"data and logs are in {home}", soft_wrap=True)
        return ending


def _waiting(what: str, console: Console) -> contextlib.AbstractContextManager[object]:
    if view.is_live(console):
        return console.status(what)
    console.print(what)
    return contextlib.nullcontext()


def _exit_code(ending: runner.Result) -> int:
    if ending.verdict is None:
        return INTERRUPTED
    return 0 if all(row.matches for row in ending.verdict.rows) else 1


def _log_to(path: Path) -> None:
    """Keep the clients' warnings off the screen."""
    logs.configure("warning", "json", goalworker.__version__)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(path.open("a"))
