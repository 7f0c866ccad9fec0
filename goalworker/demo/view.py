"""What is monitor meanwhile: a picture that changes on a terminal, otherwise a line now and then."""

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
LINE_SECONDS: Final = 2.0


# --- on a terminal ---


async def live(monitor: Monitor, console: Console) -> None:
    """Draw the picture again and again on a screen of its own; when cancelled, leave the last one in the scrollback.

    A screen of its own has no lines that a resized terminal could wrap or push into the scrollback.
    """
    try:
        with Live(console=console, screen=True, auto_refresh=False) as drawn:
            while True:
                monitor.sample()
                # In a thread, so that exits which are read meanwhile are not taken for late ones.
                await asyncio.to_thread(_draw, drawn, monitor.snapshot(), console)
                await asyncio.sleep(FRAME_SECONDS)
    finally:
        console.print(_picture(monitor.snapshot(), console, console.height - 1))


def _draw(drawn: Live, now: Snapshot, console: Console) -> None:
    drawn.update(_picture(now, console, console.height), refresh=True)


def _picture(now: Snapshot, console: Console, height: int) -> Panel:
    glyphs = charts.ASCII if console.options.ascii_only else charts.BLOCKS
    return picture.draw(now, console.width, height, glyphs)


# --- without one ---


async def lines(monitor: Monitor, console: Console) -> None:
    """Print a line now and then, and what happens as it happens, until cancelled."""
    noted, due = 0, 0.0
    while True:
        monitor.sample()
        for note in monitor.notes[noted:]:
            _plain(f"{monitor.seconds:5.0f} s | {note}", console)
        noted = len(monitor.notes)
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
        f"{now.worker.name} {now.worker.pid} {sentences.worker_state(now)}",
        now.machine,
        "" if sentence == sentences.USUAL[0] else sentence,
    )
    return " | ".join(part for part in parts if part)


def is_live(console: Console) -> bool:
    """Say whether a picture can be drawn: on a terminal that moves its cursor, whatever the environment forces."""
    return console.file.isatty() and not console.is_dumb_terminal


def _plain(text: str, console: Console) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


# --- at the end ---


def unfinished(closing: str, console: Console) -> None:
    """Print that nothing was compared, since somebody did not wait for it."""
    console.print(f"Stopped before the check was finished, so nothing was compared: {closing}", soft_wrap=True)


def summary(verdict: check.Verdict, logged_errors: Sequence[str], closing: str, console: Console) -> None:
    """Print expected against found, what differs, and then also what the worker complained of."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("what")
    table.add_column("expected", justify="right")
    table.add_column("found", justify="right")
    table.add_column("")
    for row in verdict.rows:
        said = "[green]as it must be[/]" if row.matches else "[bold red]DIFFERS[/]"
        table.add_row(row.what, f"{row.expected:,}", f"{row.found:,}", said)
    console.print(table)
    for row in verdict.rows:
        if not row.matches:
            _plain(f"{row.what}: {row.mismatch}", console)
        for difference in row.differences:
            _plain(f"  {difference}", console)
    for sentence in verdict.not_checked:
        _plain(f"not ours, so not checked: {sentence}", console)
    if all(row.matches for row in verdict.rows):
        console.print(f"[green]Everything is as it must be:[/] {closing}", soft_wrap=not console.is_terminal)
        return
    for logged_error in logged_errors:
        _plain(f"the worker's log: {logged_error}", console)
    console.print(f"[bold red]Not everything is as it must be:[/] {closing}", soft_wrap=not console.is_terminal)
