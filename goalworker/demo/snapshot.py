"""The demo's state at one moment, in plain values: the input of every picture."""

from msgspec import Struct


class Exit(Struct, frozen=True):
    """An exit to show; `deed` says what the contact did, the latency is None if the demo did not send the event."""

    tenant_id: str
    contact_id: str
    deed: str
    workflow_id: str
    latency_seconds: float | None = None


class ProcessState(Struct, frozen=True):
    """State of the worker, the API or insight: `starting`, `ready`, `not ready` or `stopping`."""

    name: str
    pid: int
    state: str
    deaths: int = 0


class History(Struct, frozen=True):
    """One value a second, the latest last; percentiles are None for a second without an exit."""

    rates: tuple[float, ...] = ()
    p50s_ms: tuple[float | None, ...] = ()
    p99s_ms: tuple[float | None, ...] = ()
    lags: tuple[float, ...] = ()


class Percentiles(Struct, frozen=True):
    """Percentiles of the time from sending an event to reading its exit, over the last seconds."""

    p50_ms: float
    p99_ms: float


class Still(Struct, frozen=True):
    """Seconds since each figure last changed."""

    sent: float = 0
    exits: float = 0
    achieved: float = 0
    lag: float = 0


class Snapshot(Struct, frozen=True):
    """The demo at one moment.

    `seconds` counts from the start of the traffic. `group_waits_seconds` is the longest time until Kafka frees the
    partitions of a dead worker, None if it holds none. `took_over_seconds` is the time since a new worker replaced the
    last one that died. `explain` is the command that explains why a contact achieved nothing, empty until there is one.
    """

    phase: str
    seconds: float
    worker: ProcessState
    api: ProcessState
    insight: ProcessState
    sent: int = 0
    rate: float = 0
    latency: Percentiles | None = None
    lag_records: int = 0
    dead_letters: int = 0
    reasons: tuple[tuple[str, int], ...] = ()
    achieved: tuple[tuple[str, int], ...] = ()
    revised: int = 0
    revoked: int = 0
    exits: int = 0
    recent: tuple[Exit, ...] = ()
    history: History = History()
    still: Still = Still()
    dead_pid: int = 0
    group_waits_seconds: float | None = None
    took_over_seconds: float | None = None
    paused_topics: tuple[str, ...] = ()
    machine: str = ""
    console: str = ""
    docs: str = ""
    metrics: str = ""
    shell: str = ""
    explain: str = ""
    interrupts: int = 0
