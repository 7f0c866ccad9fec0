"""The live view: a pure function from a snapshot, a width and a height to a picture."""

from collections.abc import Callable, Sequence
from typing import Final

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from goalworker.demo import charts, sentences
from goalworker.demo.sentences import StyledText
from goalworker.demo.snapshot import Snapshot

WIDE: Final = 110
"""From this many columns on, figures and exits stand side by side."""

LABEL: Final = 12
SCALE: Final = 9
GAP: Final = 3
EXITS_MIN: Final = 3
CHARTS_FROM: Final = 14
TENANTS_FROM: Final = 74
"""From this many columns on, a sentence about an exit also names its tenant."""

_FRAME_COLUMNS: Final = 4
_FRAME_ROWS: Final = 2
P50: Final = "green"
P99: Final = "yellow"
LAG: Final = "magenta"
RATE: Final = "cyan"
GOAL_TYPE_NAMES: Final = {
    "tag_added": "tags",
    "purchase_made": "purchases",
    "appointment_booked": "appointments",
    "form_submitted": "forms",
    "pipeline_stage_reached": "stages",
}

SHELL_HINTS: Final = (
    "$GW and $KEY for the API, and the addresses of Kafka and PostgreSQL",
    "$GW, $KEY, Kafka, PostgreSQL",
    "$GW and $KEY",
)
"""Descriptions of the variables in the shell file; the longest one that fits is shown."""

Lines = list[Text]


def draw(now: Snapshot, width: int, height: int, glyphs: charts.Glyphs = charts.BLOCKS) -> Panel:
    """Return the picture, exactly `width` columns by `height` rows."""
    inside, rows = max(width - _FRAME_COLUMNS, 1), max(height - _FRAME_ROWS, 1)
    compose = _side_by_side if width >= WIDE else _stacked
    lines = [_fitted(line, inside, glyphs) for line in compose(now, inside, rows, glyphs)[:rows]]
    title = Text.assemble(
        ("goalworker demo", "bold"), f" {glyphs.dot} {now.phase} {glyphs.dot} {sentences.duration(now.seconds)}"
    )
    return Panel(
        Group(*lines, *[Text()] * (rows - len(lines))),
        title=_fitted(title, max(inside - 2, 1), glyphs, pad=False),
        subtitle=_fitted(Text(_advice(now, inside - 2, glyphs), "bold"), max(inside - 2, 1), glyphs, pad=False),
        box=box.ROUNDED if glyphs is charts.BLOCKS else box.ASCII,
        padding=(0, 1),
        width=width,
        height=height,
        border_style="blue",
    )


def _advice(now: Snapshot, width: int, glyphs: charts.Glyphs) -> str:
    if now.phase == sentences.CHECKED:
        return ""
    if now.interrupts:
        return "Ctrl-C again to skip the check"
    stop = "Ctrl-C to stop and check"
    both = f"kill -9 {now.worker.pid} to see it recover {glyphs.dot} {stop}"
    return both if now.worker.pid and len(both) <= width else stop


# --- arrangements ---


def _stacked(now: Snapshot, width: int, rows: int, glyphs: charts.Glyphs) -> Lines:
    """Stack the groups; on a high terminal with empty rows between them and charts of several rows."""
    head, goals, foot = [_status(now)], _goals(now, width, glyphs), [_processes(now), *_addresses(now, width)]
    figures = _figures(now, width, glyphs)
    spare = rows - len(head) - len(figures) - len(goals) - len(foot) - 1
    if spare < 0:  # the last rows are cut off: neither state nor addresses may be among them
        return [*head, *figures, *foot, *goals, *_exits(now, 0, width)]
    gaps = min(max(spare - EXITS_MIN, 0), 4)
    spare -= gaps
    if spare > CHARTS_FROM:
        chart_rows = (spare - EXITS_MIN - 3) // 3
        figures = _charts(now, width, chart_rows, chart_rows // 2, glyphs)
        spare -= len(figures) - 4
    exits = _exits(now, spare, width)
    exits += [Text()] * (1 + spare - len(exits))  # keeps the addresses at the bottom
    return _spaced([head, figures, goals, exits, foot], gaps)


def _side_by_side(now: Snapshot, width: int, rows: int, glyphs: charts.Glyphs) -> Lines:
    """Put the figures on the left, achievements and exits on the right."""
    right = min(width // 2, TENANTS_FROM)
    left = width - right - GAP
    foot = [_processes(now), *_addresses(now, width)]
    body = rows - len(foot) - 3
    reasons = _reasons(now, left, glyphs)[: max(body - 18, 0)]
    free = body - (len(reasons) + 1 if reasons else 0) - 6
    for_lag = max(free // 3, 1)
    figures = _charts(now, left, max(free - for_lag, 1), for_lag, glyphs)
    if reasons:
        figures += [Text(), *reasons]
    goals = _goals(now, right, glyphs)
    people = [*goals, Text(), *_exits(now, max(body - len(goals) - 2, 0), right)]
    lines = [_status(now), Text()]
    for row in range(body):
        at_left, at_right = (
            _fitted(_line_at(lines_, row), size, glyphs) for lines_, size in ((figures, left), (people, right))
        )
        lines.append(Text.assemble(at_left, " " * GAP, at_right))
    return [*lines, Text(), *foot]


def _spaced(groups: Sequence[Lines], gaps: int) -> Lines:
    lines: Lines = []
    for place, group in enumerate(groups):
        if 0 < place <= gaps:
            lines.append(Text())
        lines += group
    return lines


# --- groups ---


def _status(now: Snapshot) -> Text:
    sentence, style = sentences.status(now)
    return Text(sentence, style)


def _figures(now: Snapshot, width: int, glyphs: charts.Glyphs) -> Lines:
    """Return four rows, each with a figure and its sparkline."""
    trend = max(width - LABEL - 22, 0)
    history, top = now.history, _top(now.history.p99s_ms)
    latencies = (history.p50s_ms, P50), (history.p99s_ms, P99)
    sparks = [charts.spark(values, trend, top, style, glyphs) for values, style in latencies]
    p50, p99 = _percentiles(now)
    lags = charts.spark(history.lags, trend, _top(history.lags), LAG, glyphs)
    rates = charts.spark(history.rates, trend, _top(history.rates), RATE, glyphs)
    return [
        _row("sent", f"{now.sent:,}", f"{now.rate:,.0f}/s", _or_still(rates, now.still.sent, trend)),
        _row("p50 to exit", p50, "", _or_still(sparks[0], now.still.exits, trend)),
        _row(
            "p99 to exit",
            p99,
            _scale(top, sentences.milliseconds, glyphs),
            _or_still(sparks[1], now.still.exits, trend),
        ),
        _row(
            "lag",
            f"{now.lag_records:,}",
            _scale(_top(history.lags), _count, glyphs),
            _or_still(lags, _still_lag(now), trend),
        ),
    ]


def _charts(now: Snapshot, width: int, latency_rows: int, lag_rows: int, glyphs: charts.Glyphs) -> Lines:
    """Return the figures with charts of several rows, each with its scale on the left."""
    history, columns = now.history, max(width - SCALE, 1)
    top, top_lag = _top(history.p99s_ms), _top(history.lags)
    latencies = charts.chart(history.p50s_ms, history.p99s_ms, columns, latency_rows, top, (P50, P99), glyphs)
    lags = charts.chart(history.lags, history.lags, columns, lag_rows, top_lag, (LAG, LAG), glyphs)
    rates = charts.spark(history.rates, max(width - LABEL - 22, 0), _top(history.rates), RATE, glyphs)
    p50, p99 = _percentiles(now)
    latency_head = Text.assemble(
        ("exit after ", "bold"), ("p50 ", "dim"), (p50, P50), (", p99 ", "dim"), (p99, P99), "  ",
        _still(now.still.exits) or Text("one column a second", "dim"),
    )  # fmt: skip
    lag_head = Text.assemble(
        ("lag  ", "bold"), (f"{now.lag_records:,}", LAG), "  ",
        _still(_still_lag(now)) or Text("records sent but not yet committed", "dim"),
    )  # fmt: skip
    return [
        _row("sent", f"{now.sent:,}", f"{now.rate:,.0f}/s", _or_still(rates, now.still.sent, width - LABEL - 22)),
        Text(),
        latency_head,
        *_scaled(latencies, sentences.milliseconds(top), glyphs),
        Text(),
        lag_head,
        *_scaled(lags, _count(top_lag), glyphs),
    ]


def _scaled(rows: Lines, top: str, glyphs: charts.Glyphs) -> Lines:
    scale = [top, *[""] * (len(rows) - 2), *(["0"] if len(rows) > 1 else [])]
    return [
        Text.assemble((f"{label:>{SCALE - 2}} ", "dim"), (glyphs.axis, "dim"), row)
        for label, row in zip(scale, rows, strict=True)
    ]


def _goals(now: Snapshot, width: int, glyphs: charts.Glyphs) -> Lines:
    """Return the number of achievements in force, with a bar for each goal type."""
    total, top = sum(count for _, count in now.achieved), max((count for _, count in now.achieved), default=0)
    late = f"{now.revised:,} revised, {now.revoked:,} revoked later"
    head = Text.assemble(
        (f"{'achieved':<{LABEL}}", "bold"), (f"{total:>9,}  ", "bold"), _still(now.still.achieved) or (late, "dim")
    )
    lines = [head]
    for goal_type, count in now.achieved:
        length = charts.bar(count, top, max(width - LABEL - 15, 0), glyphs)
        name = GOAL_TYPE_NAMES.get(goal_type, goal_type)
        lines.append(Text.assemble((f"  {name:<{LABEL}}", "dim"), f"{count:>7,}  ", (length, "green")))
    return lines


def _exits(now: Snapshot, count: int, width: int) -> Lines:
    """Return the number of exits and the last ones, newest first."""
    head = Text.assemble(
        (f"{'exits':<{LABEL}}", "bold"),
        (f"{now.exits:>9,}  ", "bold"),
        _still(now.still.exits) or ("newest first:", "dim"),
    )
    lines = [head]
    for exit_ in now.recent[:count]:
        tenant = f"  {exit_.tenant_id} " if width >= TENANTS_FROM else "  "
        style = "" if exit_.latency_seconds is not None else "dim"
        lines.append(Text.assemble((tenant, "dim"), (sentences.describe_exit(exit_), style)))
    return lines


def _reasons(now: Snapshot, width: int, glyphs: charts.Glyphs) -> Lines:
    if not now.reasons:
        return []
    top = max(count for _, count in now.reasons)
    lines = [
        Text.assemble(("dead letters  ", "bold"), (f"{now.dead_letters:,}  ", "red"), ("malformed on purpose", "dim"))
    ]
    for reason, count in now.reasons:
        length = charts.bar(count, top, max(width - 38, 0), glyphs)
        lines.append(Text.assemble((f"  {reason:<26}", "dim"), f"{count:>7,}  ", (length, "red")))
    return lines


def _processes(now: Snapshot) -> Text:
    worker = now.worker
    text = Text.assemble((f"worker {worker.pid or ''}".rstrip(), "bold"), " ", _state(sentences.worker_state(now)))
    if worker.deaths:
        text.append(f", {worker.deaths} died", "yellow")
    for process in (now.api, now.insight):
        text.append_text(Text.assemble((f"  {process.name} ", "bold"), _state(process.state)))
    text.append(f"  {now.machine}" if now.machine else "")
    text.append(f"  dead letters {now.dead_letters:,}", "dim")
    return text


def _state(state: str) -> StyledText:
    return state, "green" if state == "ready" else "red"


def _addresses(now: Snapshot, width: int) -> Lines:
    """Return the addresses and a command to try, the console first; docs and metrics share a row only if both fit."""
    console = [Text.assemble(("console ", "dim"), (now.console, "bold"))] if now.console else []
    docs, metrics = (
        Text.assemble((f"{name} ", "dim"), url) for name, url in (("docs", now.docs), ("metrics", now.metrics))
    )
    both = Text.assemble(docs, "  ", metrics)
    shell = Text.assemble(("shell ", "dim"), f". {now.shell}")
    hints = (f"  # sets {hint}" for hint in SHELL_HINTS)
    fitting = next((hint for hint in hints if shell.cell_len + len(hint) <= width), "")
    why = [Text.assemble(("why ", "dim"), now.explain)] if now.explain else []
    rows = [both] if both.cell_len <= width else [docs, metrics]
    return [*console, *rows, Text.assemble(shell, (fitting, "dim")), *why]


# --- a row ---


def _row(label: str, value: str, beside: str, trend: Text) -> Text:
    return Text.assemble((f"{label:<{LABEL}}", "dim"), (f"{value:>9}", "bold"), (f" {beside:<10}  ", "dim"), trend)


def _percentiles(now: Snapshot) -> tuple[str, str]:
    if now.latency is None:
        return "-", "-"
    return sentences.milliseconds(now.latency.p50_ms), sentences.milliseconds(now.latency.p99_ms)


def _scale(top: float, text_of: Callable[[float], str], glyphs: charts.Glyphs) -> str:
    return f"{glyphs.top} {text_of(top)}" if top else ""


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _still_lag(now: Snapshot) -> float:
    return now.still.lag if now.lag_records else 0


def _still(seconds: float) -> Text | None:
    if seconds < sentences.STILL_SECONDS:
        return None
    return Text(f"unchanged for {sentences.duration(seconds)}", "bold yellow")


def _or_still(trend: Text, seconds: float, width: int) -> Text:
    """Replace the end of the sparkline by a note if the figure has not changed for some seconds."""
    note = _still(seconds)
    if note is None:
        return trend
    return Text.assemble(trend[: max(width - note.cell_len - 1, 0)], " ", note)


def _top(values: charts.Values) -> float:
    return max((value for value in values if value is not None), default=0)


def _line_at(lines: Lines, row: int) -> Text:
    return lines[row] if row < len(lines) else Text()


def _fitted(line: Text, width: int, glyphs: charts.Glyphs, *, pad: bool = True) -> Text:
    fitted = line.copy()
    if glyphs is charts.ASCII:
        fitted.plain = line.plain.encode("ascii", "replace").decode()
    fitted.truncate(width, overflow="crop" if glyphs is charts.ASCII else "ellipsis", pad=pad)
    fitted.no_wrap = True
    return fitted
