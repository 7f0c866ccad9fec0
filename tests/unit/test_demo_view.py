"""The demo's live view fits every terminal and shows the present state."""

import html
import io
import re
from pathlib import Path
from uuid import UUID

import pytest
from msgspec import structs
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from goalworker.demo import charts, listener, machine_load, membership, picture, plans, sentences, tenant_setup
from goalworker.demo.monitor import LATENCY_SECONDS, Addresses, Monitor
from goalworker.demo.snapshot import Exit, History, Percentiles, ProcessState, Snapshot, Still
from goalworker.domain import gates
from tests.kit import pictures

EXIT = Exit("acme", "c-17", "bought", "welcome", 0.041)
NOW = Snapshot(
    phase=sentences.TRAFFIC,
    seconds=92,
    worker=ProcessState("worker", 9808, "ready"),
    api=ProcessState("api", 9809, "ready"),
    insight=ProcessState("insight", 9810, "ready"),
    sent=14_321,
    rate=200,
    latency=Percentiles(9.2, 31),
    lag_records=12,
    dead_letters=412,
    reasons=(("invalid_json", 300), ("too_large", 112)),
    achieved=(
        ("form_submitted", 612),
        ("purchase_made", 300),
        ("tag_added", 201),
        ("appointment_booked", 88),
        ("pipeline_stage_reached", 77),
    ),
    exits=1_021,
    recent=(EXIT,) * 60,
    history=History((200.0,) * 90, (9.0, None, 8.0) * 30, (31.0, None, 20.0) * 30, (3.0, 0.0, 12.0) * 30),
    machine="2 cores at 76 %",
    console="http://127.0.0.1:8080/console/login?code=rYQ3vXb7k0lJ5m1TnWc2uA",
    docs="http://127.0.0.1:8080/docs",
    metrics="http://127.0.0.1:23456/metrics",
    shell="/tmp/goalworker-abcdefgh/env",
    explain="goalworker goals explain checkout --tenant acme --contact contact-28",
)
DEAD = structs.replace(
    NOW,
    worker=ProcessState("worker", 9911, "ready", 1),
    dead_pid=9808,
    group_waits_seconds=38.0,
    lag_records=2_800,
    still=Still(exits=14, achieved=14),
)
STARTING = ProcessState("worker", 0, "starting")
EMPTY = Snapshot(sentences.STARTING, 0, STARTING, STARTING, STARTING)
STRANGE = structs.replace(
    NOW, recent=(structs.replace(EXIT, contact_id="名前" * 60, workflow_id="[red]x[/]"),) * 60, shell="/long" * 80
)


def _lines(now: Snapshot, width: int, height: int, glyphs: charts.Glyphs = charts.BLOCKS) -> list[str]:
    output = io.StringIO()
    Console(file=output, width=width, height=height).print(picture.draw(now, width, height, glyphs))
    return output.getvalue().splitlines()


@pytest.mark.parametrize("now", [NOW, DEAD, EMPTY, STRANGE], ids=["usual", "dead", "empty", "strange"])
@pytest.mark.parametrize(
    ("width", "height"), [(80, 24), (80, 23), (120, 40), (200, 60), (110, 20), (80, 60), (300, 24), (40, 10), (12, 4)]
)
def test_a_picture_fills_its_terminal_exactly(now: Snapshot, width: int, height: int) -> None:
    lines = _lines(now, width, height)
    assert len(lines) == height
    assert {cell_len(line) for line in lines} == {width}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 23), (80, 40), (120, 24), (120, 40), (200, 60)])
def test_everything_a_newcomer_needs_fits_into_80_columns_and_23_rows(width: int, height: int) -> None:
    text = "\n".join(_lines(NOW, width, height))
    needed = (
        "Ctrl-C to stop and check",
        "kill -9 9808",
        NOW.console,
        NOW.docs,
        NOW.metrics,
        f". {NOW.shell}",
        "$KEY",
        NOW.machine,
        NOW.explain,
    )
    figures = ("14,321", "p50", "9 ms", "p99", "31 ms", "lag", "1,278", *picture.GOAL_TYPE_NAMES.values(), "1,021")
    assert [each for each in (*needed, *figures) if each not in text] == []
    assert text.count(" c-17 bought, left welcome after 41 ms") >= 2


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 50), (120, 40)])
def test_the_addresses_are_always_at_the_bottom(width: int, height: int) -> None:
    assert "shell" in _lines(EMPTY, width, height)[-2]
    assert ["shell" in line or "why" in line for line in _lines(NOW, width, height)[-3:]] == [True, True, False]


def test_a_larger_terminal_shows_more() -> None:
    sizes = [(80, 24), (80, 40), (120, 40), (200, 60)]
    exits = ["\n".join(_lines(NOW, *size)).count("c-17") for size in sizes]
    assert exits[0] < exits[1]
    assert exits[2] < exits[3]
    assert "too_large" in "\n".join(_lines(NOW, 120, 40))


def test_a_small_terminal_still_shows_the_state_and_the_addresses() -> None:
    text = "\n".join(_lines(DEAD, 60, 14))
    assert "no worker" in text
    assert NOW.docs in text
    assert NOW.shell in text
    assert "console http://127.0.0.1:8080" in text
    assert "Ctrl-C to stop and check" in text


def test_a_terminal_without_block_characters_gets_an_ascii_picture() -> None:
    assert "\n".join(_lines(NOW, 120, 40, charts.ASCII)).isascii()


def test_a_figure_that_does_not_change_is_marked_as_unchanged() -> None:
    assert "unchanged" not in "\n".join(_lines(NOW, 80, 24))
    for width, height in ((80, 24), (120, 40)):
        text = "\n".join(_lines(DEAD, width, height))
        assert text.count("unchanged for 14 s") >= 3


# --- sentences ---


def test_a_dead_workers_session_is_counted_down_and_its_successor_waits() -> None:
    sentence, _ = sentences.status(DEAD)
    assert sentence == "no worker reads: Kafka frees the partitions of worker 9808 within 38 s"
    assert sentences.worker_state(DEAD) == "waits"
    assert sentences.worker_state(NOW) == "ready"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds": 9.9}, "events go in, exits come out"),
        ({"seconds": 10.0}, "a refund revokes an achievement"),
        ({"seconds": 39.9}, "rescheduling an appointment changes nothing"),
        ({"seconds": 50.0}, "the command after `why` says so"),
        ({"seconds": 60.0}, "events go in, exits come out"),
        ({"group_waits_seconds": 0.4, "dead_pid": 7}, "any moment now"),
        ({"group_waits_seconds": 30.0}, "the partitions of an earlier run within 30 s"),
        ({"paused_topics": ("form-submitted",)}, "goalworker topics resume form-submitted"),
        (
            {"worker": ProcessState("worker", 5, "starting", 1), "dead_pid": 4},
            "worker 5 is starting, because worker 4 died",
        ),
        ({"took_over_seconds": 3.0, "dead_pid": 4}, "worker 9808 took over"),
        ({"still": Still(exits=9, lag=12)}, "nothing has moved for 9 s, 12 records are waiting"),
        ({"interrupts": 1}, "12 records to go; Ctrl-C again skips the check"),
        ({"interrupts": 1, "group_waits_seconds": 20.0}, "no worker for up to 20 s"),
        ({"phase": sentences.STARTING}, "counting starts when all are ready"),
        ({"phase": "checking"}, "checking, 12 records to go"),
        ({"phase": sentences.CHECKED}, "the check is done"),
    ],
)
def test_the_status_is_the_most_urgent_sentence(changes: dict[str, object], words: str) -> None:
    sentence, _ = sentences.status(structs.replace(NOW, **changes))
    assert words in sentence
    assert len(sentence) <= 80 - 4 or "topics resume" in sentence


@pytest.mark.parametrize("sentence", sentences.USUAL)
def test_every_usual_sentence_fits_into_80_columns(sentence: str) -> None:
    seconds = sentences.USUAL.index(sentence) * sentences.USUAL_SECONDS
    assert sentence in "\n".join(_lines(structs.replace(NOW, seconds=seconds), 80, 24))


def test_an_exit_is_described_in_a_sentence() -> None:
    assert sentences.describe_exit(EXIT) == "c-17 bought, left welcome after 41 ms"
    assert sentences.describe_exit(structs.replace(EXIT, latency_seconds=None)) == "c-17 bought, left welcome"
    assert sentences.describe_exit(structs.replace(EXIT, latency_seconds=47.31)).endswith("after 47.3 s")


@pytest.mark.parametrize(("seconds", "text"), [(12.9, "12 s"), (185, "3 min 5 s"), (7440, "2 h 4 min")])
def test_a_duration_has_at_most_two_units(seconds: float, text: str) -> None:
    assert sentences.duration(seconds) == text


# --- charts ---


def test_a_sparkline_ends_at_the_right_and_has_gaps_for_missing_values() -> None:
    trend = charts.spark([0.0, 4.0, None, 8.0], 6, 8.0, "", charts.BLOCKS)
    assert trend.plain == "  ▁▅ █"
    assert charts.spark([1.0] * 9, 4, 1.0, "", charts.BLOCKS).plain == "████"


def test_a_chart_stacks_the_higher_value_on_the_lower_one() -> None:
    rows = charts.chart([4.0, None, 0.0], [8.0, None, 2.0], 4, 2, 8.0, ("a", "b"), charts.BLOCKS)
    assert [row.plain for row in rows] == [" █  ", " █ ▄"]
    assert [_style_at(row, 1) for row in rows] == ["b", "a"]


def _style_at(row: Text, column: int) -> str:
    return next(str(span.style) for span in row.spans if span.start <= column < span.end)


def test_every_bar_but_that_of_0_is_visible() -> None:
    assert [len(charts.bar(value, 1000, 10, charts.BLOCKS)) for value in (0, 1, 500, 1000)] == [0, 1, 5, 10]
    assert charts.bar(0, 0, 10, charts.BLOCKS) == ""


# --- members of the group ---


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


def test_a_dead_member_keeps_its_partitions_for_the_rest_of_its_session(clock: list[float]) -> None:
    group = membership.Membership(lambda: clock[0])
    group.update("Stable", {"first": 28})
    assert group.waits_seconds() is None
    group.worker_died(9808)
    clock[0] += 7
    group.update("PreparingRebalance", {"first": 0, "second": 0})
    assert group.waits_seconds() == membership.SESSION_SECONDS - 7
    assert group.took_over_seconds() is None
    clock[0] += 50
    assert group.waits_seconds() == 0
    group.update("Stable", {"second": 28})
    assert group.waits_seconds() is None
    clock[0] += 2
    assert group.took_over_seconds() == 2


def test_a_member_of_an_earlier_run_keeps_its_partitions_too(clock: list[float]) -> None:
    group = membership.Membership(lambda: clock[0])
    group.note_earlier_members({"left behind": 28})
    assert group.waits_seconds() == membership.SESSION_SECONDS
    group.update("Stable", {"ours": 28})
    assert group.waits_seconds() is None
    assert group.took_over_seconds() is None


def test_a_second_death_starts_the_countdown_anew(clock: list[float]) -> None:
    group = membership.Membership(lambda: clock[0])
    group.update("Stable", {"first": 28})
    group.worker_died(1)
    clock[0] += 30
    group.update("PreparingRebalance", {"first": 0, "second": 0})
    group.worker_died(2)
    assert group.waits_seconds() == membership.SESSION_SECONDS
    assert group.dead_pid == 2


# --- the machine ---

STAT = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n"


def test_the_load_is_the_busy_share_of_the_ticks(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text(STAT)
    load = machine_load.MachineLoad(stat)
    stat.write_text("cpu  170 0 56 820 54 0 0 0 0 0\n")
    assert load.describe().endswith(" at 76 %")


@pytest.mark.parametrize("text", ["", "cpu", "cpu a b c d e", "intr 5 5 5 5 5 5"])
def test_text_without_ticks_has_no_load(text: str) -> None:
    assert machine_load.parse_ticks(text) is None
    assert machine_load.parse_ticks(STAT) == (150, 1000)


def test_without_proc_the_load_average_is_shown_or_only_the_cores(tmp_path: Path) -> None:
    def none() -> tuple[float, float, float]:
        raise OSError

    assert "load 1.5" in machine_load.MachineLoad(tmp_path / "none", lambda: (1.5, 1.0, 1.0)).describe()
    assert "core" in machine_load.MachineLoad(tmp_path / "none", none).describe()


# --- the monitor ---


class _Traffic:
    sent = 0
    sampled_lag_records = 0
    near_miss: plans.Enrollment | None = None

    def __init__(self) -> None:
        self.latencies: list[float] = []

    def take_latencies(self) -> list[float]:
        taken, self.latencies = self.latencies, []
        return taken


class _Process:
    def __init__(self, name: str) -> None:
        self.name, self.pid, self.state, self.deaths = name, 1, "ready", 0


@pytest.fixture
def monitor(clock: list[float]) -> Monitor:
    setup = tenant_setup.TenantSetup(("acme",), {("acme", "bought"): UUID(int=1)}, None)  # type: ignore[arg-type]  # not read
    listening = listener.Listener(None, ("acme",), _Traffic())  # type: ignore[arg-type]  # neither is called
    return Monitor(
        setup,
        _Traffic(),  # type: ignore[arg-type]
        listening,
        _Process("worker"),  # type: ignore[arg-type]
        _Process("api"),  # type: ignore[arg-type]
        _Process("insight"),  # type: ignore[arg-type]
        membership.Membership(lambda: clock[0]),
        Addresses(),
        [],
        clock=lambda: clock[0],
    )


def _pass(monitor: Monitor, clock: list[float], *, sent: int = 0, latencies: tuple[float, ...] = ()) -> Snapshot:
    clock[0] += 1
    monitor.traffic.sent += sent
    monitor.traffic.latencies += latencies  # type: ignore[attr-defined]  # of the fake
    monitor.sample()
    return monitor.snapshot()


def test_counting_starts_with_the_traffic(monitor: Monitor, clock: list[float]) -> None:
    before = _pass(monitor, clock, sent=500, latencies=(9.0,))
    assert before.history == History()
    assert before.still == Still()
    monitor.traffic.take_latencies()
    monitor.count_from_now()
    now = _pass(monitor, clock, sent=200, latencies=(0.01, 0.03))
    assert now.seconds == 1
    assert now.history.rates == (200.0,)
    assert now.latency is not None
    assert now.latency.p50_ms == pytest.approx(20)


def test_a_second_without_exits_has_no_latency_and_old_latencies_expire(monitor: Monitor, clock: list[float]) -> None:
    monitor.count_from_now()
    _pass(monitor, clock, latencies=(0.01,))
    now = _pass(monitor, clock)
    assert now.history.p50s_ms == (10.0, None)
    assert now.latency == Percentiles(10.0, 10.0)
    for _ in range(LATENCY_SECONDS):
        now = _pass(monitor, clock)
    assert now.latency is None


def test_a_figure_is_still_since_its_last_change(monitor: Monitor, clock: list[float]) -> None:
    monitor.count_from_now()
    _pass(monitor, clock, sent=1)
    _pass(monitor, clock, sent=1)
    for _ in range(5):
        now = _pass(monitor, clock)
    assert now.still.sent == 5
    assert now.still.exits == 7


def test_an_exit_by_a_foreign_goal_is_described_by_the_goals_type(monitor: Monitor) -> None:
    seen = [
        listener.RecentExit("acme", "c-1", "checkout", UUID(int=1), "purchase_made", 0.02),
        listener.RecentExit("acme", "c-2", "mine", UUID(int=2), "appointment_booked"),
    ]
    monitor.listener.received.recent.extend(seen)
    assert [sentences.describe_exit(each) for each in monitor.snapshot().recent] == [
        "c-2 booked, left mine",
        "c-1 bought, left checkout after 20 ms",
    ]


def test_a_command_explains_the_first_contact_who_just_missed_a_goal(monitor: Monitor, clock: list[float]) -> None:
    monitor.count_from_now()
    assert _pass(monitor, clock).explain == ""
    monitor.traffic.near_miss = plans.Enrollment("acme", "run-20", "checkout", "kontakt 20:ü/%")  # type: ignore[misc]
    for _ in range(2):
        now = _pass(monitor, clock)
    command = "goalworker goals explain checkout --tenant acme --contact 'kontakt 20:ü/%'"
    assert now.explain == command
    assert [note for note in monitor.notes if command in note] == monitor.notes[-1:]


def test_every_goal_type_has_a_row_from_the_start(monitor: Monitor) -> None:
    assert dict(monitor.snapshot().achieved) == dict.fromkeys(picture.GOAL_TYPE_NAMES, 0)


# --- the picture in README.md ---

README = (Path(__file__).parents[2] / "README.md").read_text()
WORDS = {
    pictures.LIVE_VIEW: ("Ctrl-C", "kill", "p50", "p99", "lag", "exits", "why", *picture.GOAL_TYPE_NAMES.values()),
    pictures.EXPLANATION: ("goals explain", "not achieved:", "✓ enrolled", "✗ criteria", *gates.GATES, "would achieve"),
    pictures.PLAN: ("goals plan", "more achieve", "only by this goal", "missed `", "exits", "goals apply"),
}


@pytest.mark.parametrize("file", WORDS, ids=lambda file: file.stem)
def test_a_picture_of_the_readme_is_small_up_to_date_and_loads_nothing(file: Path) -> None:
    svg = file.read_text()
    assert f"(tests/kit/{file.name})" in README
    assert len(svg) < 100_000
    assert re.findall(r"url\((?!#)|@import|@font-face|href=", svg) == []
    shown = re.sub(r"<[^>]+>", "", html.unescape(svg)).replace("\N{NO-BREAK SPACE}", " ")
    assert [word for word in WORDS[file] if word not in shown] == []


def test_the_readme_begins_with_the_console() -> None:
    assert f"(tests/kit/{pictures.CONSOLE.name})" in README.partition("\n## ")[0]
    picture = pictures.CONSOLE.read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 150_000


def test_the_last_whole_frame_becomes_the_picture_deterministically() -> None:
    drawn = "\x1b[?1049h\x1b[Hfirst\x1b[H\x1b[1mle Ctrl-C\x1b[0m\r\nof it\x1b[Hhalf a fra"
    frame = pictures.last_frame(drawn)
    assert frame == "\x1b[1mle Ctrl-C\x1b[0m\nof it"
    svg = pictures.svg_of(frame, 20, "a title")
    assert svg == pictures.svg_of(frame, 20, "a title")
    assert "<title>a title</title>" in svg
    assert "Ctrl-C" in svg
