"""The demo at one moment, as numbers and names: everything that a picture of it is made from."""

from msgspec import Struct


class Exit(Struct, frozen=True):
    """An exit as it was read; deed is what the contact did, latency None where the demo did not send the event."""

    tenant_id: str
    contact_id: str
    deed: str
    workflow_id: str
    latency_seconds: float | None = None


class ProcessState(Struct, frozen=True):
    """One process of ours; state is `starting`, `ready`, `not ready` or `stopping`."""

    name: str
    pid: int
    state: str
    deaths: int = 0


class History(Struct, frozen=True):
    """One value a second, the latest last; None where no exit came in that second."""

    rates: tuple[float, ...] = ()
    p50s_ms: tuple[float | None, ...] = ()
    p99s_ms: tuple[float | None, ...] = ()
    lags: tuple[float, ...] = ()


class Percentiles(Struct, frozen=True):
    """Of the time from an event being sent to its exit being read, over the last seconds."""

    p50_ms: float
    p99_ms: float


class Still(Struct, frozen=True):
    """For how many seconds a figure has not changed."""

    sent: float = 0
    exits: float = 0
    achieved: float = 0
    lag: float = 0


class Snapshot(Struct, frozen=True):
    """The demo at one moment.

    seconds: since counting began; group_waits_seconds: until the group gives a dead worker's partitions away at the
    latest, None where it waits for nobody; took_over_seconds: since the last worker that died was replaced.
    """

    phase: str
    seconds: float
    worker: ProcessState
    api: ProcessState
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
    docs: str = ""
    metrics: str = ""
    shell: str = ""
    interrupts: int = 0
