"""Rows of messages: the columns that outbox and refused_messages share."""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import structs

from goalworker.domain.messages import Message

NAMES: Final = tuple(field.name for field in structs.fields(Message))
COLUMNS: Final = ", ".join(NAMES)


def row_of(message: Message) -> tuple[Any, ...]:
    """Return a message as the values of its columns."""
    return structs.astuple(message)


def message_of(row: Iterable[Any]) -> Message:
    """Return the message that the values of the columns are."""
    return Message(*row)
