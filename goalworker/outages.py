"""Outages of dependencies: a log line for each begin and end, and a reminder a minute between (contract section 6)."""

import contextvars
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple, Protocol

from goalworker import logs

log = logs.get("outages")

# Seconds between two reminders of an outage.
REMIND_SECONDS: Final = 60.0
# Begins of one dependency's outages that are logged within REMIND_SECONDS; a further outage is logged if it lasts until
# one of these begins is older.
BEGINS_MAX: Final = 3
# Seconds of refused logins after which waiting ends: a server that restarts may refuse valid credentials for a while.
REFUSED_SECONDS: Final = 120.0
# Seconds between two refusals above which the second one starts a new series.
REFUSALS_APART_SECONDS: Final = 20.0


Kind = Literal["away", "refused", "missing", "behind", "unjoined"]
"""Reason why a dependency cannot be used; a part of the log event's name."""


class Report(Protocol):
    """Function that receives a dependency's state: its problem in a sentence, or None while it works."""

    def __call__(self, name: str, problem: str | None, kind: Kind = "away", /) -> None: ...


class Notice(NamedTuple):
    """Change to log about a dependency; seconds is the duration of its outage until now."""

    state: Literal["begins", "goes_on", "is_over"]
    seconds: float


class Outage:
    """State of one dependency; it decides when a line is logged."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._logged_at = 0.0
        self._logged: set[Kind] = set()
        self._begun_at: list[float] = []

    def update(self, kind: Kind | None, now: float) -> Notice | None:
        """Set the dependency's state, None while it works, and return what to log, if anything."""
        if kind is None:
            since, self._since = self._since, None
            was_logged, self._logged = bool(self._logged), set()
            return Notice("is_over", now - since) if since is not None and was_logged else None
        if self._since is None:
            self._since = now
        if kind not in self._logged:  # each kind once in an outage, however often they alternate
            return self._begin(kind, now, self._since)
        if now - self._logged_at < REMIND_SECONDS:
            return None
        self._logged_at = now
        return Notice("goes_on", now - self._since)

    def _begin(self, kind: Kind, now: float, since: float) -> Notice | None:
        self._begun_at = [at for at in self._begun_at if now - at < REMIND_SECONDS]
        if len(self._begun_at) >= BEGINS_MAX:
            return None
        self._begun_at.append(now)
        self._logged.add(kind)
        self._logged_at = now
        return Notice("begins", now - since)


class Journal:
    """Log of outages by dependency; during one it silences the client library, whose lines would repeat it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._outages: dict[str, Outage] = {}
        self._problems: dict[str, tuple[str, Kind]] = {}
        self._tried_at: dict[str, float] = {}

    def report(self, name: str, problem: str | None, kind: Kind = "away", /) -> None:
        """Set a dependency's state: a sentence that says what cannot be used and why, or None while it works."""
        if problem is None:
            self._problems.pop(name, None)
        else:
            self._problems[name] = (problem, kind)
        self._tried_at[name] = self._clock()
        self._update(name, problem, kind)

    def _update(self, name: str, problem: str | None, kind: Kind) -> None:
        notice = self._outages.setdefault(name, Outage()).update(None if problem is None else kind, self._clock())
        if notice is not None:
            # Without the log context of the request that noticed the outage: it is not about its id and its tenant.
            contextvars.Context().run(self._write, name, notice, problem, kind)

    def remind(self) -> None:
        """Log the reminders that are due although no caller has tried the dependency again."""
        for name, (problem, kind) in list(self._problems.items()):
            self._update(name, problem, kind)

    def _write(self, name: str, notice: Notice, problem: str | None, kind: Kind) -> None:
        since = (datetime.now(UTC) - timedelta(seconds=notice.seconds)).isoformat(timespec="seconds")
        seconds = round(notice.seconds, 1)
        match notice.state:
            case "begins":
                logs.REPEATS.silence(name)
                log.error(f"{name}_{kind}", problem=problem, since=since)
            case "goes_on":
                more = self._last_tried(name) | _held(logs.REPEATS.held(name))
                log.error(f"{name}_still_{kind}", problem=problem, since=since, away_seconds=seconds, **more)
            case "is_over":
                logs.REPEATS.resume(name)
                log.info(f"{name}_back", away_seconds=seconds, **_held(logs.REPEATS.take_held(name)))

    def _last_tried(self, name: str) -> dict[str, int]:
        """Return a field if no caller has tried the dependency for long: it may work again unnoticed."""
        seconds = self._clock() - self._tried_at[name]
        return {"last_tried_seconds_ago": round(seconds)} if seconds >= REMIND_SECONDS else {}


def _held(messages: int) -> dict[str, int]:
    return {"held_back": messages} if messages else {}


class Refusals:
    """Series of refused logins, which decides when to stop waiting."""

    def __init__(self) -> None:
        self._first_at: float | None = None
        self._last_at = 0.0

    def update(self, refused: bool | None, now: float) -> bool:
        """Record whether a login was refused (None: no answer), and say whether to give up."""
        if refused is False:
            self._first_at = None
        if not refused:
            return False
        if self._first_at is None or now - self._last_at > REFUSALS_APART_SECONDS:
            self._first_at = now
        self._last_at = now
        return now - self._first_at >= REFUSED_SECONDS
