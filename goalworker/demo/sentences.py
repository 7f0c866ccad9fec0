"""Sentences: what is going on at the moment, and what each exit was about."""

from typing import Final

from goalworker.demo.snapshot import Exit, Snapshot

STILL_SECONDS: Final = 3.0
"""A figure that does not change for this long is said to stand still."""

TOOK_OVER_SECONDS: Final = 15.0
"""For how long a new worker is introduced."""

StyledText = tuple[str, str]
"""A sentence and its style."""


STARTING: Final = "starting"
TRAFFIC: Final = "traffic"
CHECKED: Final = "checked"
"""Phases of the demo; between the last two, others."""

USUAL: Final[StyledText] = ("events go in, exits come out; late, double and malformed ones are among them", "green")


def status(now: Snapshot) -> StyledText:
    """Return what is going on, the most urgent of it."""
    found = (tell(now) for tell in (_checked, _ending, _waiting, _paused, _starting, _taken_over, _stuck, _other_phase))
    return next((told for told in found if told is not None), USUAL)


def worker_state(now: Snapshot) -> str:
    """Return the worker's state; one without partitions is not called ready."""
    worker = now.worker
    return "waits" if worker.state == "ready" and now.group_waits_seconds is not None else worker.state


def _checked(now: Snapshot) -> StyledText | None:
    return ("the check is done", "bold") if now.phase == CHECKED else None


def _ending(now: Snapshot) -> StyledText | None:
    if not now.interrupts:
        return None
    waits, rest = now.group_waits_seconds, f"{now.lag_records:,} records to go"
    reason = now.phase if not now.lag_records else rest if waits is None else f"{rest}, no worker for {waits:.0f} s"
    return f"{reason}; Ctrl-C again ends it without the check", "yellow"


def _waiting(now: Snapshot) -> StyledText | None:
    if now.group_waits_seconds is None:
        return None
    seconds = now.group_waits_seconds
    until = f"in at most {seconds:.0f} s" if seconds >= 1 else "any moment now"
    whose = f"{now.dead_pid}'s" if now.dead_pid else "an earlier one's"
    return f"no worker: the group gives {whose} partitions away {until}", "bold red"


def _paused(now: Snapshot) -> StyledText | None:
    if not now.paused_topics:
        return None
    topic = now.paused_topics[0]
    return f"{topic} is paused, too much was malformed: goalworker topics resume {topic}", "bold red"


def _starting(now: Snapshot) -> StyledText | None:
    worker = now.worker
    if now.phase == STARTING and not worker.deaths:
        return "worker and API are starting; counting begins when both are ready", "yellow"
    if worker.state == "ready":
        return None
    which = f"worker {worker.pid}" if worker.pid else "the worker"
    then = f" in place of {now.dead_pid}, which died" if now.dead_pid else ""
    return f"{which} is {worker.state}{then}", "yellow"


def _taken_over(now: Snapshot) -> StyledText | None:
    if now.took_over_seconds is None or now.took_over_seconds > TOOK_OVER_SECONDS:
        return None
    return f"worker {now.worker.pid} took over, and reads on where {now.dead_pid} committed last", "bold green"


def _stuck(now: Snapshot) -> StyledText | None:
    seconds = min(now.still.lag, now.still.exits)
    if not now.lag_records or seconds < STILL_SECONDS:
        return None
    return f"nothing has moved for {duration(seconds)}: {now.lag_records:,} records wait", "bold red"


def _other_phase(now: Snapshot) -> StyledText | None:
    return None if now.phase == TRAFFIC else (f"{now.phase}, {now.lag_records:,} records to go", "yellow")


def describe_exit(left: Exit) -> str:
    """Return an exit in a sentence: c-17 bought, left welcome after 41 ms."""
    took = f" after {latency(left.latency_seconds)}" if left.latency_seconds is not None else ""
    return f"{left.contact_id} {left.deed}, left {left.workflow_id}{took}"


def latency(seconds: float) -> str:
    """Return a time as a person reads it: 7 ms, 2.1 s."""
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def milliseconds(value: float) -> str:
    """Return milliseconds, or seconds where that is shorter."""
    return latency(value / 1000)


def duration(seconds: float) -> str:
    """Return 12 s, 3 min 5 s or 2 h 4 min."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
