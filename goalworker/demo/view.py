"""What is shown meanwhile: a live board on a terminal, otherwise a line now and then."""

import asyncio
import dataclasses
import statistics
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from goalworker.demo import check, listener, processes, stage, traffic

FRAME_SECONDS: Final = 0.25
LINE_SECONDS: Final = 2.0
RATE_SECONDS: Final = 2.0
BARS: Final = "▁▂▃▄▅▆▇█"
SPARKS: Final = 32
NOTES: Final = 4
STUCK_SECONDS: Final = 3.0
WAITING: Final = "Kafka waits up to 45 s for a worker that died; then the new one goes on"
VERBS: Final = {"achieved": "achieved", "revised": "revised ", "revoked": "revoked ", "exit": "exit    "}
STYLES: Final = {"achieved": "green", "revised": "yellow", "revoked": "red", "exit": "bold cyan"}


@dataclasses.dataclass(slots=True)
class Board:
    """Everything there is to show; rates are taken from it as time goes by."""

    stage: stage.Stage
    traffic: traffic.Traffic
    listener: listener.Listener
    processes: tuple[processes.Process, ...]
    addresses: dict[str, str]
    notes: list[str]
    phase: str = "starting the worker"
    began: float = dataclasses.field(default_factory=time.monotonic)
    _moved_at: float = dataclasses.field(default_factory=time.monotonic)
    _read: int = 0
    _samples: deque[tuple[float, int]] = dataclasses.field(default_factory=deque)
    _rates: deque[float] = dataclasses.field(default_factory=lambda: deque([0.0], maxlen=SPARKS))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def rate(self) -> float:
        return self._rates[-1]

    @property
    def rates(self) -> list[float]:
        return list(self._rates)

    def sample(self) -> None:
        """Take the rate of the last moments."""
        now = time.monotonic()
        self._samples.append((now, self.traffic.sent))
        while now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        (then, before), (_, sent) = self._samples[0], self._samples[-1]
        read = sum(self.listener.found.kinds.values())
        if read != self._read:
            self._moved_at, self._read = now, read
        self._rates.append((sent - before) / (now - then) if now > then else 0.0)

    def progress(self) -> tuple[int, ...]:
        """Return numbers of which some change as long as anything moves."""
        found = self.listener.found
        return (self.traffic.sent, self.traffic.lag_records, len(found.exits), sum(found.kinds.values()))

    @property
    def is_waiting_for_the_dead(self) -> bool:
        """Say whether a worker died, there is work, and nothing has come for some seconds."""
        return (
            self.processes[0].deaths > 0
            and self.traffic.lag_records > 0
            and time.monotonic() - self._moved_at > STUCK_SECONDS
        )

    def closing(self) -> str:
        """Return what there was to see, in a sentence."""
        died = self.processes[0].deaths
        deaths = f"the worker died {died}x" if died else "the worker did not die"
        repeats = f"it sent {self.listener.found.repeats:,} messages twice, byte for byte"
        return f"{self.traffic.sent:,} records in {self.seconds:.0f} s; {deaths}; {repeats}"

    def standing(self) -> int:
        return sum(1 for last in self.listener.found.achievements.values() if last.achieved is not None)

    def percentiles_ms(self) -> tuple[float, float] | None:
        """Return p50 and p99 of the time from an event being sent to its exit being read."""
        latencies = self.traffic.latencies_seconds
        if len(latencies) < 2:
            return None
        cuts = statistics.quantiles(latencies, n=100)
        return cuts[49] * 1000, cuts[98] * 1000

    def reasons(self) -> Counter[str]:
        return Counter(letter.reason for letter in self.listener.found.dead_letters.values())


# --- on a terminal ---


async def live(board: Board, console: Console) -> None:
    """Draw the board again and again, until cancelled."""
    with Live(console=console, auto_refresh=False, transient=True) as drawn:
        while True:
            board.sample()
            drawn.update(_drawn(board), refresh=True)
            await asyncio.sleep(FRAME_SECONDS)


def _drawn(board: Board) -> RenderableType:
    parts: list[RenderableType] = [_numbers(board), Text(), _recent(board)]
    parts += [Text(f"• {note}", style="yellow") for note in board.notes[-NOTES:]]
    worker = board.processes[0]
    if board.is_waiting_for_the_dead:
        parts.append(Text(f"• {WAITING}", style="yellow"))
    advice = f"kill -9 {worker.pid}  to see what it survives    Ctrl-C  to stop and check" if worker.pid else ""
    title = f"[bold]goalworker[/] · {board.phase} · {board.seconds:.0f} s"
    return Panel(Group(*parts), title=title, subtitle=advice, box=box.ROUNDED, padding=(1, 2))


def _numbers(board: Board) -> Table:
    found, kinds = board.listener.found, board.listener.found.kinds
    grid = Table.grid(padding=(0, 3))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(justify="right", style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("events sent", f"{board.traffic.sent:,}", f"{board.rate:,.0f}/s  [cyan]{_spark(board.rates)}[/]")
    corrections = f"{kinds['revised']:,} revised, {kinds['revoked']:,} revoked by late messages"
    grid.add_row("achievements", f"{board.standing():,}", corrections)
    grid.add_row("exits", f"{len(found.exits):,}", f"event to exit: {_latency(board)}")
    grid.add_row("lag", f"{board.traffic.lag_records:,}", "records sent and not yet committed by the worker")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in board.reasons().most_common())
    grid.add_row("dead letters", f"{len(found.dead_letters):,}", f"[dim]{reasons}[/]")
    for process in board.processes:
        grid.add_row(process.name, str(process.pid), _state(process))
    for name, address in board.addresses.items():
        grid.add_row(name, "", f"[dim]{address}[/]")
    return grid


def _state(process: processes.Process) -> str:
    colour = "green" if process.is_ready else "red"
    died = f", died {process.deaths}x" if process.deaths else ""
    return f"[{colour}]{process.state}[/]{died}"


def _recent(board: Board) -> Table:
    keys = {goal_id: key for (_, key), goal_id in board.stage.goal_ids.items()}
    grid = Table.grid(padding=(0, 2))
    for seen in board.listener.found.recent:
        took = f"{seen.latency_seconds * 1000:,.0f} ms" if seen.latency_seconds is not None else ""
        verb = Text(VERBS[seen.what], style=STYLES[seen.what])
        grid.add_row(verb, seen.tenant_id, keys.get(seen.goal_id, "?"), seen.enrollment_id, took)
    return grid


def _spark(rates: list[float]) -> str:
    top = max(rates) or 1.0
    return "".join(BARS[round(rate / top * (len(BARS) - 1))] for rate in rates)


def _latency(board: Board) -> str:
    percentiles = board.percentiles_ms()
    return "p50 {:,.0f} ms, p99 {:,.0f} ms".format(*percentiles) if percentiles else "-"


# --- without one ---


async def lines(board: Board, console: Console) -> None:
    """Print a line now and then, and what happens as it happens, until cancelled."""
    noted, due = 0, 0.0
    while True:
        board.sample()
        for note in board.notes[noted:]:
            _plain(f"{board.seconds:5.0f} s | {note}", console)
        noted = len(board.notes)
        if board.seconds >= due:
            due = board.seconds + LINE_SECONDS
            _plain(_line(board), console)
        await asyncio.sleep(FRAME_SECONDS)


def _line(board: Board) -> str:
    worker = board.processes[0]
    parts = (
        f"{board.seconds:5.0f} s",
        board.phase,
        f"sent {board.traffic.sent:,} ({board.rate:,.0f}/s)",
        f"achieved {board.standing():,}",
        f"exits {len(board.listener.found.exits):,}",
        f"event to exit {_latency(board)}",
        f"lag {board.traffic.lag_records:,}",
        f"dead letters {len(board.listener.found.dead_letters):,}",
        f"{worker.name} {worker.pid} {worker.state}",
    )
    return " | ".join([*parts, *([WAITING] if board.is_waiting_for_the_dead else [])])


def _plain(text: str, console: Console) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


# --- at the end ---


def summary(verdict: check.Verdict, complaints: Sequence[str], closing: str, console: Console) -> None:
    """Print expected against found, what differs, and then also what the worker complained of."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("what")
    table.add_column("expected", justify="right")
    table.add_column("found", justify="right")
    table.add_column("")
    for row in verdict.rows:
        said = "[green]as it must be[/]" if row.matches else f"[bold red]DIFFERS: {row.verdict}[/]"
        table.add_row(row.what, f"{row.expected:,}", f"{row.found:,}", said)
    console.print(table)
    for row in verdict.rows:
        for difference in row.differences:
            _plain(f"{row.what}: {difference}", console)
    for sentence in verdict.not_ours:
        _plain(f"not ours, so not checked: {sentence}", console)
    if all(row.matches for row in verdict.rows):
        console.print(f"[green]Everything is as it must be:[/] {closing}", soft_wrap=True)
        return
    for complaint in complaints:
        _plain(f"the worker's log: {complaint}", console)
    console.print(f"[bold red]Not everything is as it must be:[/] {closing}", soft_wrap=True)
