"""Rules of texts, amounts, durations and times from outside, each stated once (contract sections 1 to 3)."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final

from msgspec import Meta, ValidationError, convert

TEXT_BYTES_MAX: Final = 255
AMOUNT_MAX: Final = Decimal(10**15)
AMOUNT_FRACTION_DIGITS_MAX: Final = 18
DURATION_SECONDS_MAX: Final = 365 * 86_400

# Rules in the words in which a faulty value is refused; each follows the name of a field.
TEXT_RULE: Final = f"must be text of 1 to {TEXT_BYTES_MAX} bytes without control characters"
MAJOR_UNITS: Final = "in major units such as 49.90"
AMOUNT_RULE: Final = (
    f"must be a JSON number or plain decimal string from 0 to 10^15 with at most 18 decimals, {MAJOR_UNITS}"
)
CURRENCY_RULE: Final = "must be three ASCII letters, such as EUR"
DURATION_RULE: Final = (
    "must be an ISO 8601 duration of weeks, days, hours, minutes and whole seconds up to P365D; use P30D for a month"
)
TIME_RULE: Final = "must be an RFC 3339 time with an offset, such as 2026-05-01T12:00:00Z"

Text = Annotated[str, Meta(min_length=1, max_length=TEXT_BYTES_MAX)]
"""A text from outside, as far as a schema can state its rule; is_valid_text checks the rest."""

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


def is_valid_text(value: str) -> bool:
    """Say whether a text from outside is 1 to 255 bytes of UTF-8 without control characters (contract section 1)."""
    if value.isascii() and value.isprintable():
        return 0 < len(value) <= TEXT_BYTES_MAX
    try:
        size_bytes = len(value.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return 0 < size_bytes <= TEXT_BYTES_MAX and not _CONTROL.search(value)


def is_currency(text: str) -> bool:
    """Say whether a text can be the code of a currency, in capitals or not."""
    return len(text) == 3 and text.isascii() and text.isalpha()


_PLAIN_DECIMAL: Final = re.compile(r"[0-9]{1,64}(\.[0-9]{1,18})?")
_JSON_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
_NUMBER_LENGTH_MAX: Final = 128
"""Characters of a JSON number; a longer one is refused, because parsing takes time that grows with its square."""


def parse_amount(text: str) -> Decimal | None:
    """Return the exact amount of a plain decimal string, None for any other text and for an amount out of range."""
    return _in_range(Decimal(text)) if _PLAIN_DECIMAL.fullmatch(text) else None


def parse_json_amount(number: str) -> Decimal | None:
    """Return the exact amount of a JSON number as it is written, None for one that is too long or out of range."""
    if len(number) > _NUMBER_LENGTH_MAX or not _JSON_NUMBER.fullmatch(number):
        return None
    return _in_range(Decimal(number))


def parse_time(text: str) -> datetime | None:
    """Return the moment of an RFC 3339 time with an offset, in UTC, rounded half up to the microsecond.

    Second 60 is the first of the next minute. Any other text gives None.
    """
    try:
        if text[16:19] == ":60":
            before = parse_time(f"{text[:17]}59{text[19:]}")
            return before and before + timedelta(seconds=1)
        # msgspec takes two more forms: a blank for the T, and an offset without its colon.
        if text[10] in "Tt" and (text[-1] in "Zz" or text[-3] == ":"):
            time = convert(text, datetime)
            if time.tzinfo is not None:
                return time if time.tzinfo is UTC else time.astimezone(UTC)
    except (ValidationError, LookupError, OverflowError):
        pass
    return None


_DURATION: Final = re.compile(
    r"P(?=.)(?:([0-9]{1,9})W)?(?:([0-9]{1,9})D)?(?:T(?=.)(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})S)?)?"
)
_UNITS_SECONDS: Final = (604_800, 86_400, 3_600, 60, 1)


def parse_duration(text: str) -> int | None:
    """Return the seconds of an ISO 8601 duration of weeks, days, hours, minutes and seconds, None for any other text.

    There may be no fraction, and no months or years, which have no fixed length.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    return sum(int(count) * unit for count, unit in zip(found.groups("0"), _UNITS_SECONDS, strict=True))


def parse_positive_duration(value: object) -> int | None:
    """Return the seconds of an ISO 8601 duration above zero and up to P365D, None for anything else."""
    seconds = parse_duration(value) if isinstance(value, str) else None
    return seconds if seconds and seconds <= DURATION_SECONDS_MAX else None


def format_duration(seconds: int) -> str:
    """Return seconds as an ISO 8601 duration, each number as small as it can be, without weeks: PT36H is P1DT12H."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    date = f"{day}D" if day else ""
    time = "".join(f"{count}{unit}" for count, unit in ((hour, "H"), (minute, "M"), (second, "S")) if count)
    if not date and not time:
        return "PT0S"
    return f"P{date}{'T' if time else ''}{time}"


def format_decimal(amount: Decimal) -> str:
    """Return an amount as a plain decimal string with all its digits."""
    return format(amount, "f")


def format_money(amount: Decimal) -> str:
    """Return an amount as a plain decimal string, exact, without trailing zeros beyond two decimals."""
    whole, point, fraction = format_decimal(amount).partition(".")
    return whole + point + fraction[:2] + fraction[2:].rstrip("0")


def _in_range(amount: Decimal) -> Decimal | None:
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -AMOUNT_FRACTION_DIGITS_MAX or not 0 <= amount <= AMOUNT_MAX:
        return None
    if amount.is_zero():
        amount = amount.copy_abs()
    return amount.quantize(Decimal(1)) if exponent > 0 else amount
