"""Dependencies that go away and come back: a line for each, and a reminder a minute in between (contract section 6)."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

from goalworker import logs

log = logs.get("outages")

REMIND_SECONDS: Final = 60.0
# A restart of the server may refuse a login that is right; for as long as this it is given the benefit of the doubt.
REFUSED_SECONDS: Final = 120.0
# Refusals further apart are not one run of them.
REFUSALS_APART_SECONDS: Final = 20.0


class Notice(NamedTuple):
    """What is to be logged of a dependency; seconds is how long it has been away, or was."""

    state: Literal["away", "still_away", "back"]
    seconds: float


class Outage:
    """The state of one dependency: it decides when there is something to be said."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._said_at = 0.0

    def look(self, is_away: bool, now: float) -> Notice | None:
        """Take in how the dependency is now, and return what is to be said of it."""
        if not is_away:
            since, self._since = self._since, None
            return None if since is None else Notice("back", now - since)
        if self._since is None:
            self._since = self._said_at = now
            return Notice("away", 0.0)
        if now - self._said_at < REMIND_SECONDS:
            return None
        self._said_at = now
        return Notice("still_away", now - self._since)


class Journal:
    """Logs the outages of dependencies by name, and quiets the client libraries that would tell the same story."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._outages: dict[str, Outage] = {}
        self._problems: dict[str, str] = {}

    def report(self, name: str, problem: str | None) -> None:
        """Note how a dependency is: None is fine, otherwise a sentence says what cannot be reached and why."""
        if problem is None:
            self._problems.pop(name, None)
        else:
            self._problems[name] = problem
        notice = self._outages.setdefault(name, Outage()).look(problem is not None, self._clock())
        if notice is not None:
            self._write(name, notice, problem)

    def remind(self) -> None:
        """Write the reminders that are due for dependencies that nobody uses meanwhile."""
        for name, problem in list(self._problems.items()):
            self.report(name, problem)

    def _write(self, name: str, notice: Notice, problem: str | None) -> None:
        since = (datetime.now(UTC) - timedelta(seconds=notice.seconds)).isoformat(timespec="seconds")
        event, seconds = f"{name}_{notice.state}", round(notice.seconds, 1)
        match notice.state:
            case "away":
                logs.REPEATS.silence(name)
                log.error(event, problem=problem, since=since)
            case "still_away":
                log.error(event, problem=problem, since=since, away_seconds=seconds, **_held(logs.REPEATS.held(name)))
            case "back":
                logs.REPEATS.resume(name)
                log.info(event, away_seconds=seconds, **_held(logs.REPEATS.take_held(name)))


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
