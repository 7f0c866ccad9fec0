"""State of the running demo: sampled once a second, and copied into snapshots to draw."""

import dataclasses
import itertools
import shlex
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from goalworker.demo import sentences, tenant_setup
from goalworker.demo.listener import Listener, RecentExit
from goalworker.demo.machine_load import MachineLoad
from goalworker.demo.membership import Membership
from goalworker.demo.processes import Process
from goalworker.demo.snapshot import Exit, History, Percentiles, ProcessState, Snapshot, Still
from goalworker.demo.traffic import Traffic

HISTORY_SECONDS: Final = 240
"""Seconds of history for the charts; older ones are dropped."""

LATENCY_SECONDS: Final = 30
"""Percentiles cover the exits of this many seconds, so that they follow changes."""

Second = tuple[float, float | None, float | None, float]
"""(rate, p50, p99, lag) of one second."""

DEEDS: Final = {goal.key: goal.deed for goal in tenant_setup.GOALS}
DEED_OF_TYPE: Final = {
    "tag_added": "was tagged",
    "purchase_made": "bought",
    "appointment_booked": "booked",
    "form_submitted": "sent a form",
    "pipeline_stage_reached": "reached a stage",
}
"""Phrases for goals that the user created while the demo runs."""


@dataclasses.dataclass(slots=True, frozen=True)
class Addresses:
    """Addresses of console, documentation of the API, and the worker's metrics; a file of variables for a shell."""

    console: str = ""
    docs: str = ""
    metrics: str = ""
    shell: str = ""


@dataclasses.dataclass(slots=True)
class Monitor:
    """The parts of the demo and their history, one sample a second; `clock` is monotonic."""

    setup: tenant_setup.TenantSetup
    traffic: Traffic
    listener: Listener
    worker: Process
    api: Process
    insight: Process
    membership: Membership
    addresses: Addresses
    notes: list[str]
    load: MachineLoad = dataclasses.field(default_factory=MachineLoad)
    clock: Callable[[], float] = time.monotonic
    phase: str = sentences.STARTING
    paused_topics: tuple[str, ...] = ()
    interrupts: int = 0
    history_lag: int = 0
    _began: float = 0.0
    _sampled_at: float = 0.0
    _sent: int = 0
    _machine: str = ""
    _explain: str = ""
    _history: deque[Second] = dataclasses.field(default_factory=lambda: deque(maxlen=HISTORY_SECONDS))
    _latencies: deque[list[float]] = dataclasses.field(default_factory=lambda: deque(maxlen=LATENCY_SECONDS))
    _changed: dict[str, tuple[int, float]] = dataclasses.field(default_factory=dict)
    _keys: dict[UUID, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = self._sampled_at = self.clock()
        self._keys = {goal_id: key for (_, key), goal_id in self.setup.goal_ids.items()}

    @property
    def seconds(self) -> float:
        return self.clock() - self._began

    def count_from_now(self) -> None:
        """Start counting time and records, now that everything is ready."""
        self._began = self._sampled_at = self.clock()
        self._sent = self.traffic.sent
        self.phase = sentences.TRAFFIC

    def progress(self) -> tuple[int, ...]:
        """Return counters; as long as anything moves, at least one of them changes."""
        found = self.listener.received
        return (
            self.traffic.sent,
            self.traffic.lag_records,
            len(found.exits),
            sum(found.kinds.values()),
            self.history_lag,
        )

    def closing(self) -> str:
        """Return a summary of the run in a sentence."""
        died = self.worker.deaths
        deaths = {0: "the worker did not die", 1: "the worker died once"}.get(died, f"the worker died {died} times")
        repeats = f"{self.listener.received.repeats:,} of its messages came twice, byte for byte"
        return f"{self.traffic.sent:,} records in {self.seconds:.0f} s; {deaths}; {repeats}"

    def sample(self) -> None:
        """Append a sample to the history if a second has passed since the last one."""
        now = self.clock()
        elapsed = now - self._sampled_at
        if elapsed < 1 or self.phase == sentences.STARTING:
            return
        rate = (self.traffic.sent - self._sent) / elapsed
        self._sampled_at, self._sent = now, self.traffic.sent
        self._machine = self.load.describe()
        self._note_near_miss()
        latencies = self.traffic.take_latencies()
        self._latencies.append(latencies)
        found = percentiles(latencies)
        low, high = (found.p50_ms, found.p99_ms) if found else (None, None)
        self._history.append((rate, low, high, self.traffic.sampled_lag_records))

    def _note_near_miss(self) -> None:
        missed = self.traffic.near_miss
        if missed is None or self._explain:
            return
        words = missed.workflow_id, "--tenant", missed.tenant_id, "--contact", missed.contact_id
        self._explain = f"goalworker goals explain {shlex.join(words)}"
        self.notes.append(f"why {missed.contact_id} achieved nothing, in such a shell: {self._explain}")

    def snapshot(self) -> Snapshot:
        """Return a copy of the present state."""
        now, found, group = self.clock(), self.listener.received, self.membership
        rates, p50s, p99s, lags = zip(*self._history, strict=True) if self._history else ((), (), (), ())
        return Snapshot(
            phase=self.phase,
            seconds=now - self._began,
            worker=_process(self.worker),
            api=_process(self.api),
            insight=_process(self.insight),
            sent=self.traffic.sent,
            rate=rates[-1] if rates else 0.0,
            latency=percentiles([*itertools.chain.from_iterable(self._latencies)]),
            lag_records=self.traffic.sampled_lag_records,
            dead_letters=len(found.dead_letters),
            reasons=tuple(found.reasons.most_common()),
            achieved=_by_type(found.standing),
            revised=found.kinds["revised"],
            revoked=found.kinds["revoked"],
            exits=len(found.exits),
            recent=tuple(self._exit(exit_) for exit_ in reversed(found.recent)),
            history=History(rates, p50s, p99s, lags),
            still=self._still(now),
            dead_pid=group.dead_pid,
            group_waits_seconds=group.waits_seconds(),
            took_over_seconds=group.took_over_seconds(),
            paused_topics=self.paused_topics,
            machine=self._machine,
            console=self.addresses.console,
            docs=self.addresses.docs,
            metrics=self.addresses.metrics,
            shell=self.addresses.shell,
            explain=self._explain,
            interrupts=self.interrupts,
        )

    def _still(self, now: float) -> Still:
        found = self.listener.received
        if self.phase == sentences.STARTING:
            return Still()
        figures = {
            "sent": self.traffic.sent,
            "exits": len(found.exits),
            "achieved": sum(found.kinds.values()),
            "lag": self.traffic.sampled_lag_records,
        }
        for name, value in figures.items():
            known, changed_at = self._changed.get(name, (value, self._began))
            self._changed[name] = (value, changed_at if value == known else now)
        return Still(**{name: now - self._changed[name][1] for name in figures})

    def _exit(self, seen: RecentExit) -> Exit:
        deed = DEEDS.get(self._keys.get(seen.goal_id, "")) or DEED_OF_TYPE.get(seen.goal_type, "met a goal")
        return Exit(seen.tenant_id, seen.contact_id, deed, seen.workflow_id, seen.latency_seconds)


def _by_type(standing: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Return every goal type with its achievements, the most frequent type first."""
    return tuple(
        sorted(((goal_type, standing.get(goal_type, 0)) for goal_type in DEED_OF_TYPE), key=lambda row: -row[1])
    )


def percentiles(latencies_seconds: list[float]) -> Percentiles | None:
    """Return p50 and p99, or None without latencies."""
    if not latencies_seconds:
        return None
    if len(latencies_seconds) == 1:
        return Percentiles(latencies_seconds[0] * 1000, latencies_seconds[0] * 1000)
    cuts = statistics.quantiles(latencies_seconds, n=100, method="inclusive")
    return Percentiles(cuts[49] * 1000, cuts[98] * 1000)


def _process(process: Process) -> ProcessState:
    return ProcessState(process.name, process.pid, process.state, process.deaths)
