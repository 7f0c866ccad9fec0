"""Columns of rows as parameters: an array costs ten times as much, as asyncpg looks at each element three times."""

from collections.abc import Sequence
from typing import Final

from msgspec import json

# No text from outside has a control character.
_SEPARATOR: Final = "\x1f"
_ENCODER: Final = json.Encoder()


def texts(column: Sequence[str]) -> str:
    """Return texts that are not empty as one text; ValueError where it would come apart otherwise."""
    joined = _SEPARATOR.join(column)
    if joined.count(_SEPARATOR) != max(len(column) - 1, 0) or (column and not joined):
        raise ValueError("a text that is empty or has a control character")
    return joined


def arrays(first: int, last: int) -> str:
    """Return SQL for the arrays of texts that these parameters are."""
    # A planner that knew how many there are would read the whole table rather than look them up, up to some 100,000.
    return ", ".join([f"string_to_array((SELECT ${number}), '{_SEPARATOR}')" for number in range(first, last + 1)])


def array(column: Sequence[object]) -> str:
    """Return what has no control characters as PostgreSQL reads an array: as JSON, but for the brackets."""
    return f"{{{_ENCODER.encode(column)[1:-1].decode()}}}"
