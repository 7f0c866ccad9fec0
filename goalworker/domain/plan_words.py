"""Words about the results of plans, in the form of JSON, which the shell and the console share."""

from collections.abc import Mapping
from typing import Any, Final

from goalworker.domain.faults import printable
from goalworker.domain.phrases import counted
from goalworker.domain.text import parse_time

_HOURS_PER_DAY: Final = 24
_MINUTES_PER_HOUR: Final = 60


def judged(result: Mapping[str, Any]) -> str:
    """Return how many enrollments and events a plan judged."""
    sampled = result["sampled"]
    drawn = f" of {sampled['of']:,}" if sampled else ""
    return f"{counted(result['enrollments'], 'enrollment')}{drawn}, {counted(result['events'], 'kept event')}"


def covered(coverage: Mapping[str, Any]) -> str:
    """Return which span of time a plan could see."""
    if coverage["history_from"] is None:
        return "no history: goalworker insight keeps no events here, so only what is stored was judged"
    since = f"history since {day(coverage['history_from'])}"
    if coverage["history_until"] is not None:
        return f"{since}, but nothing that arrived after {_minute(coverage['history_until'])}: history is behind"
    return since if coverage["complete"] else f"{since}, which is later than this plan counts from"


def span(hours: float) -> str:
    """Return a time in the unit that suits it."""
    minutes = hours * _MINUTES_PER_HOUR
    if minutes <= 1:
        return "a minute"
    if hours <= 1:
        return f"{minutes:.0f} minutes"
    return f"{hours:.0f} hours" if hours < 2 * _HOURS_PER_DAY else f"{hours / _HOURS_PER_DAY:.0f} days"


def missed(near: Mapping[str, Any], noun: str) -> str:
    """Return how many events missed a goal by one criterion only, and by which value."""
    criterion, actual = near["pointer"].removeprefix("/"), near["example"]["actual"]
    found = f"{counted(near['count'], noun)} missed `{criterion}`"
    if actual is None:
        return f"{found}, most of them without any"
    shown = printable(actual if isinstance(actual, str) else ", ".join(actual))[:64]
    return f"{found}, {'nearest' if criterion == 'min_amount' else 'most often'} {shown}"


def day(text: str) -> str:
    """Return the day of a time in words."""
    time = parse_time(text)
    return text if time is None else f"{time:%-d %B %Y}"


def _minute(text: str) -> str:
    time = parse_time(text)
    return text if time is None else f"{time:%-d %B %Y %H:%M} UTC"
