"""The demo's output: a live picture on a terminal, otherwise lines; and the result of the check at the end."""

import asyncio
from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from goalworker.demo import charts, check, picture, sentences
from goalworker.demo.monitor import Monitor
from goalworker.demo.snapshot import Snapshot

FRAME_SECONDS: Final = 0.5
"""Time between two pictures."""

LINE_SECONDS: Final = 2.0
"""Time between two lines of figures."""


# --- on a terminal ---


async def live(monitor: Monitor, console: Console) -> None:
    """Redraw the picture on the terminal's alternate screen until cancelled; print the last one to the scrollback.

    On the alternate screen a resize can neither wrap lines nor push them into the scrollback.
    """
    try:
        with Live(console=console, screen=True, auto_refresh=False) as drawn:
            while True:
                monitor.sample()
                # In a thread: drawing on the event loop would delay reading exits and so add to their latency.
                await asyncio.to_thread(_draw, drawn, monitor.snapshot(), console)
                await asyncio.sleep(FRAME_SECONDS)
    finally:
        console.print(_picture(monitor.snapshot(), console, console.height - 1))


def _draw(drawn: Live, now: Snapshot, console: Console) -> None:
    drawn.update(_picture(now, console, console.height), refresh=True)


def _picture(now: Snapshot, console: Console, height: int) -> Panel:
    glyphs = charts.ASCII if console.options.ascii_only else charts.BLOCKS
    return picture.draw(now, console.width, height, glyphs)


# --- without a terminal ---


async def lines(monitor: Monitor, console: Console) -> None:
    """Print figures every other second, and notes as they come, until cancelled."""
    printed, due = 0, 0.0
    while True:
        monitor.sample()
        for note in monitor.notes[printed:]:
            _plain(f"{monitor.seconds:5.0f} s | {note}", console)
        printed = len(monitor.notes)
        if monitor.seconds >= due:
            due = monitor.seconds + LINE_SECONDS
            _plain(_line(monitor.snapshot()), console)
        await asyncio.sleep(FRAME_SECONDS)


def _line(now: Snapshot) -> str:
    latency = "-"
    if now.latency is not None:
        latency = f"p50 {sentences.milliseconds(now.latency.p50_ms)}, p99 {sentences.milliseconds(now.latency.p99_ms)}"
    sentence, _ = sentences.status(now)
    parts = (
        f"{now.seconds:5.0f} s",
        now.phase,
        f"sent {now.sent:,} ({now.rate:,.0f}/s)",
        f"achieved {sum(count for _, count in now.achieved):,}",
        f"exits {now.exits:,}",
        f"event to exit {latency}",
        f"lag {now.lag_records:,}",
        f"dead letters {now.dead_letters:,}",
        f"worker {now.worker.pid or ''} {sentences.worker_state(now)}".replace("  ", " "),
        now.machine,
        "" if sentence == sentences.USUAL[0] else sentence,
    )
    return " | ".join(part for part in parts if part)


def is_live(console: Console) -> bool:
    """Say whether the output is a terminal that can move its cursor; FORCE_COLOR and the like do not make it one."""
    return console.file.isatty() and not console.is_dumb_terminal


def _plain(text: str, console: Console) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


# --- at the end ---


def unfinished(closing: str, console: Console) -> None:
    """Print that Ctrl-C ended the demo before its check."""
    console.print(f"Stopped before the check, so nothing was compared: {closing}", soft_wrap=True)


def summary(verdict: check.Verdict, logged_errors: Sequence[str], closing: str, console: Console) -> None:
    """Print a table of expected and found counts; if something differs, also samples and the worker's last errors."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("compared")
    table.add_column("expected", justify="right")
    table.add_column("found", justify="right")
    table.add_column("")
    for row in verdict.rows:
        result = "[green]matches[/]" if row.matches else "[bold red]DIFFERS[/]"
        table.add_row(row.label, f"{row.expected:,}", f"{row.found:,}", result)
    console.print(table)
    for row in verdict.rows:
        if not row.matches:
            _plain(f"{row.label}: {row.mismatch}", console)
        for difference in row.differences:
            _plain(f"  {difference}", console)
    for sentence in verdict.not_checked:
        _plain(f"not checked: {sentence}", console)
    if verdict.matches:
        console.print(f"[green]Everything matches:[/] {closing}", soft_wrap=not console.is_terminal)
        return
    for logged_error in logged_errors:
        _plain(f"the worker's log: {logged_error}", console)
    console.print(f"[bold red]Not everything matches:[/] {closing}", soft_wrap=not console.is_terminal)
