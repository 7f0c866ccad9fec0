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
"""Records a second: low enough for a small machine, so that the latency on the screen is the worker's own."""

SMOKE_RATE: Final = 500.0
SMOKE_EVENTS: Final = 3_000
SECONDS_WITHOUT_TERMINAL: Final = 60.0
"""Without a terminal nobody can press Ctrl-C, so the traffic ends by itself."""

INTERRUPTED: Final = 130
HUNG_UP: Final = 129
"""Exit codes: 128 and the number of the signal."""


def main(
    *,
    rate: float | None = None,
    tenants: int = 3,
    seed: int = 1,
    events: int | None = None,
    keep: Path | None = None,
    smoke: bool = False,
) -> int:
    """Run the demo and return its exit code: 1 if the check finds a difference, 130 if Ctrl-C skipped the check.

    `rate` is in records a second: 200 by default, 500 in a smoke run. Without `events` the traffic ends with Ctrl-C, or
    after a minute if the output is not a terminal.
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
        return _exit_code(_run(options, keep, console))
    except asyncio.CancelledError:
        return HUNG_UP
    finally:
        signals.ignore()


def _run(options: runner.Options, keep: Path | None, console: Console) -> runner.Result:
    with machine.home(keep) as home, contextlib.ExitStack() as stack:
        _log_to(home / "demo.log")
        with _progress("starting PostgreSQL and Kafka", console):
            pair = stack.enter_context(embedded.pair(keep and home, report=console.print))
        try:
            result = asyncio.run(runner.run(options, pair, home, console, is_kept=keep is not None))
        finally:
            signals.ignore()  # nothing may interrupt the clean-up, which takes a few seconds
        if result.verdict is None:
            view.unfinished(result.closing, console)
        else:
            view.summary(result.verdict, result.logged_errors, result.closing, console)
        if keep:
            console.print(f"data and logs are in {home}", soft_wrap=True)
        return result


def _progress(activity: str, console: Console) -> contextlib.AbstractContextManager[object]:
    if view.is_live(console):
        return console.status(activity)
    console.print(activity)
    return contextlib.nullcontext()


def _exit_code(result: runner.Result) -> int:
    if result.verdict is None:
        return INTERRUPTED
    return 0 if result.verdict.matches else 1


def _log_to(path: Path) -> None:
    """Send the log to a file, to keep warnings of the Kafka clients off the screen."""
    logs.configure("warning", "json", goalworker.__version__)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(path.open("a"))
