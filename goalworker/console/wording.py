"""Filters of templates: numbers, amounts, times and durations as people read them."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
from markupsafe import Markup

from goalworker.domain import phrases
from goalworker.domain.text import format_money

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def count(number: int) -> str:
    """Return a number with separators: 1,234."""
    return f"{number:,}"


def money(amount: Decimal | float, currency: str = "") -> str:
    """Return an amount with separators and at least two decimals, and perhaps its currency: 1,234.50 EUR."""
    whole, _, fraction = format_money(Decimal(str(amount))).partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}.{fraction.ljust(2, '0')}" + (f" {currency}" if currency else "")


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal: 0.1234 is 12.3 %."""
    return f"{share * 100:.1f} %"


def when(moment: datetime) -> Markup:
    """Return a moment as an element with its text in UTC, to the second."""
    moment = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M:%S} UTC</time>').format(_written(moment), moment)


def since(moment: datetime, now: datetime | None = None) -> Markup:
    """Return the time since a moment as an element that a script keeps right: 3 min ago."""
    passed = (now or datetime.now(UTC)) - moment
    words = f"in {_largest(-passed)}" if passed < timedelta(seconds=-1) else f"{_largest(passed)} ago"
    return Markup('<time datetime="{0}" data-since="{0}" title="{1:%Y-%m-%d %H:%M:%S} UTC">{2}</time>').format(
        _written(moment), moment.astimezone(UTC), words
    )


def duration(length: timedelta | float) -> str:
    """Return a duration in its two largest units: 1 d 2 h."""
    seconds = int(length.total_seconds() if isinstance(length, timedelta) else length)
    numbers = []
    for unit, size in _UNITS:
        number, seconds = divmod(seconds, size)
        numbers.append((number, unit))
    first = next((place for place, (number, _) in enumerate(numbers) if number), len(_UNITS) - 1)
    return " ".join(f"{number} {unit}" for number, unit in numbers[first : first + 2] if number) or "0 s"


def _largest(length: timedelta) -> str:
    seconds = max(0, int(length.total_seconds()))
    number, unit = next(((seconds // size, unit) for unit, size in _UNITS if seconds >= size), (0, "s"))
    return f"{number} {unit}"


def _written(moment: datetime) -> str:
    text: str = msgspec.to_builtins(moment.astimezone(UTC))
    return text


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "count": count,
    "counted": phrases.counted,
    "money": money,
    "percent": percent,
    "when": when,
    "since": since,
    "duration": duration,
}
