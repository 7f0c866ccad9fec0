"""Sentences about the state of the demo and about single exits."""

from typing import Final

from goalworker.demo.snapshot import Exit, Snapshot

STILL_SECONDS: Final = 3.0
"""After this long without a change a figure is shown as unchanged."""

TOOK_OVER_SECONDS: Final = 15.0
"""For this long the status reports that a new worker took over."""

StyledText = tuple[str, str]
"""Text and its style."""

STARTING: Final = "starting"
TRAFFIC: Final = "traffic"
CHECKED: Final = "checked"
"""Phases of the demo; others come between the last two."""

USUAL: Final = (
    "events go in, exits come out; some events are late, duplicate or malformed",
    "a refund revokes an achievement; the exit was sent before, and stands",
    "a payment that is reported twice under different ids counts once",
    "rescheduling an appointment changes nothing, cancelling it revokes the goal",
    "a goal met in a pause of its workflow counts; the exit waits for the end",
    "a payment just too small achieves nothing; the command after `why` says so",
)
"""Sentences for the usual state, shown in turn."""

USUAL_SECONDS: Final = 10.0
"""Time for which each of them is shown."""


def status(now: Snapshot) -> StyledText:
    """Return the most urgent sentence about the present state."""
    candidates = (
        sentence(now)
        for sentence in (_checked, _ending, _waiting, _paused, _starting, _taken_over, _stuck, _other_phase)
    )
    return next((text for text in candidates if text is not None), _usual(now))


def worker_state(now: Snapshot) -> str:
    """Return the worker's state; a ready worker without partitions waits."""
    worker = now.worker
    return "waits" if worker.state == "ready" and now.group_waits_seconds is not None else worker.state


def _checked(now: Snapshot) -> StyledText | None:
    return ("the check is done", "bold") if now.phase == CHECKED else None


def _ending(now: Snapshot) -> StyledText | None:
    if not now.interrupts:
        return None
    wait_seconds, activity = now.group_waits_seconds, now.phase
    if now.lag_records:
        activity = f"{now.lag_records:,} records to go"
        activity += f", no worker for up to {wait_seconds:.0f} s" if wait_seconds is not None else ""
    return f"{activity}; Ctrl-C again skips the check", "yellow"


def _waiting(now: Snapshot) -> StyledText | None:
    if now.group_waits_seconds is None:
        return None
    seconds = now.group_waits_seconds
    until = f"within {seconds:.0f} s" if seconds >= 1 else "any moment now"
    owner = f"worker {now.dead_pid}" if now.dead_pid else "an earlier run"
    return f"no worker reads: Kafka frees the partitions of {owner} {until}", "bold red"


def _paused(now: Snapshot) -> StyledText | None:
    if not now.paused_topics:
        return None
    topic = now.paused_topics[0]
    return f"{topic} is paused (too many malformed records): goalworker topics resume {topic}", "bold red"


def _starting(now: Snapshot) -> StyledText | None:
    worker = now.worker
    if now.phase == STARTING and not worker.deaths:
        return "worker, API and insight are starting; counting starts when all are ready", "yellow"
    if worker.state == "ready":
        return None
    name = f"worker {worker.pid}" if worker.pid else "the worker"
    reason = f", because worker {now.dead_pid} died" if now.dead_pid else ""
    return f"{name} is {worker.state}{reason}", "yellow"


def _taken_over(now: Snapshot) -> StyledText | None:
    if now.took_over_seconds is None or now.took_over_seconds > TOOK_OVER_SECONDS:
        return None
    return f"worker {now.worker.pid} took over at the offsets that worker {now.dead_pid} had committed", "bold green"


def _stuck(now: Snapshot) -> StyledText | None:
    seconds = min(now.still.lag, now.still.exits)
    if not now.lag_records or seconds < STILL_SECONDS:
        return None
    return f"nothing has moved for {duration(seconds)}, {now.lag_records:,} records are waiting", "bold red"


def _other_phase(now: Snapshot) -> StyledText | None:
    if now.phase == TRAFFIC:
        return None
    return (f"{now.phase}, {now.lag_records:,} records to go" if now.lag_records else now.phase), "yellow"


def _usual(now: Snapshot) -> StyledText:
    return USUAL[int(now.seconds / USUAL_SECONDS) % len(USUAL)], "green"


def describe_exit(exit_: Exit) -> str:
    """Return a sentence such as: c-17 bought, left welcome after 41 ms."""
    took = f" after {latency(exit_.latency_seconds)}" if exit_.latency_seconds is not None else ""
    return f"{exit_.contact_id} {exit_.deed}, left {exit_.workflow_id}{took}"


def latency(seconds: float) -> str:
    """Return 7 ms or 2.1 s."""
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def milliseconds(value: float) -> str:
    """Return 7 ms or 2.1 s, from milliseconds."""
    return latency(value / 1000)


def duration(seconds: float) -> str:
    """Return 12 s, 3 min 5 s or 2 h 4 min."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
