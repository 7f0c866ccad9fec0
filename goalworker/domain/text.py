"""Texts, amounts and times as senders write them, and the rules that each keeps (contract section 2)."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final

from msgspec import Meta, ValidationError, convert

TEXT_BYTES_MAX: Final = 255


AMOUNT_MAX: Final = Decimal(10**15)


AMOUNT_FRACTION_DIGITS_MAX: Final = 18


Text = Annotated[str, Meta(min_length=1, max_length=TEXT_BYTES_MAX)]
"""A text from outside, as far as a schema can say it; is_text says the rest."""


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


_PLAIN_DECIMAL: Final = re.compile(r"[0-9]{1,64}(\.[0-9]{1,18})?")


_JSON_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")


_NUMBER_LENGTH_MAX: Final = 128


def parse_amount(text: str) -> Decimal | None:
    """Return the exact amount that a plain decimal string stands for; None where it is none or out of range."""
    return _in_range(Decimal(text)) if _PLAIN_DECIMAL.fullmatch(text) else None


def parse_json_amount(number: str) -> Decimal | None:
    """Return the exact amount that a JSON number, as it is written, stands for; None where out of range."""
    if len(number) > _NUMBER_LENGTH_MAX or not _JSON_NUMBER.fullmatch(number):
        return None
    return _in_range(Decimal(number))


def parse_time(text: str) -> datetime | None:
    """Return the moment that an RFC 3339 time with an offset stands for, in UTC, rounded half up to the microsecond.

    Second 60 is the first of the next minute. None where it is none.
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


def format_decimal(amount: Decimal) -> str:
    """Return an amount as a plain decimal string with the digits that it came with."""
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
