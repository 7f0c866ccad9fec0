"""Dependencies that go away and come back: a line for each, and a reminder a minute in between (contract section 6)."""

import contextvars
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple, Protocol

from goalworker import logs

log = logs.get("outages")

REMIND_SECONDS: Final = 60.0
# Outages of one dependency that may begin within REMIND_SECONDS; one beyond them is logged once it lasts that long.
BEGINS_MAX: Final = 3
# A restart of the server may refuse a login that is right; for as long as this it is given the benefit of the doubt.
REFUSED_SECONDS: Final = 120.0
# Refusals further apart are not one run of them.
REFUSALS_APART_SECONDS: Final = 20.0


Kind = Literal["away", "refused", "missing", "behind", "unjoined"]
"""Why a dependency cannot be used; it is a part of the event's name."""


class Report(Protocol):
    """Takes in how a dependency is: None is fine, otherwise a sentence says what is wrong."""

    def __call__(self, name: str, problem: str | None, kind: Kind = "away", /) -> None: ...


class Notice(NamedTuple):
    """What is to be logged of a dependency; seconds is how long it could not be used."""

    state: Literal["begins", "goes_on", "is_over"]
    seconds: float


class Outage:
    """The state of one dependency: it decides when there is something to be said."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._said_at = 0.0
        self._said: set[Kind] = set()
        self._begun_at: list[float] = []

    def look(self, kind: Kind | None, now: float) -> Notice | None:
        """Take in how the dependency is now, None being fine, and return what is to be said of it."""
        if kind is None:
            since, self._since = self._since, None
            was_said, self._said = bool(self._said), set()
            return Notice("is_over", now - since) if since is not None and was_said else None
        if self._since is None:
            self._since = now
        if kind not in self._said:  # each kind once, however often they take turns
            return self._begin(kind, now, self._since)
        if now - self._said_at < REMIND_SECONDS:
            return None
        self._said_at = now
        return Notice("goes_on", now - self._since)

    def _begin(self, kind: Kind, now: float, since: float) -> Notice | None:
        self._begun_at = [at for at in self._begun_at if now - at < REMIND_SECONDS]
        if len(self._begun_at) >= BEGINS_MAX:
            return None
        self._begun_at.append(now)
        self._said.add(kind)
        self._said_at = now
        return Notice("begins", now - since)


class Journal:
    """Logs the outages of dependencies by name, and quiets the client libraries that would tell the same story."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._outages: dict[str, Outage] = {}
        self._problems: dict[str, tuple[str, Kind]] = {}
        self._tried_at: dict[str, float] = {}

    def report(self, name: str, problem: str | None, kind: Kind = "away", /) -> None:
        """Note how a dependency is: None is fine, otherwise a sentence says what cannot be used and why."""
        if problem is None:
            self._problems.pop(name, None)
        else:
            self._problems[name] = (problem, kind)
        self._tried_at[name] = self._clock()
        self._look(name, problem, kind)

    def _look(self, name: str, problem: str | None, kind: Kind) -> None:
        notice = self._outages.setdefault(name, Outage()).look(None if problem is None else kind, self._clock())
        if notice is not None:
            # Outside the context of the request that noticed it: its id and its tenant have nothing to do with it.
            contextvars.Context().run(self._write, name, notice, problem, kind)

    def remind(self) -> None:
        """Write the reminders that are due for dependencies that nobody uses meanwhile."""
        for name, (problem, kind) in list(self._problems.items()):
            self._look(name, problem, kind)

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
        """Return a field for a dependency that nobody has used for long: it may be back without our knowing."""
        seconds = self._clock() - self._tried_at[name]
        return {"last_tried_seconds_ago": round(seconds)} if seconds >= REMIND_SECONDS else {}


def _held(messages: int) -> dict[str, int]:
    return {"held_back": messages} if messages else {}


class Refusals:
    """Decides when a server has refused our credentials for so long that waiting is over."""

    def __init__(self) -> None:
        self._first_at: float | None = None
        self._last_at = 0.0

    def look(self, refused: bool | None, now: float) -> bool:
        """Take in whether we were refused (None: the server did not answer), and say whether it is time to give up."""
        if refused is False:
            self._first_at = None
        if not refused:
            return False
        if self._first_at is None or now - self._last_at > REFUSALS_APART_SECONDS:
            self._first_at = now
        self._last_at = now
        return now - self._first_at >= REFUSED_SECONDS
