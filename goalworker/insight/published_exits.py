"""Exits as they stand in their topic: which were published, and when (contract section 7)."""

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple
from uuid import UUID

from msgspec import DecodeError, Struct, json

from goalworker.decoding.record import FetchedRecord
from goalworker.domain.text import is_valid_text


class PublishedExit(NamedTuple):
    """An exit of a tenant, and the timestamp of its record in epoch milliseconds."""

    tenant_id: str
    exit_id: UUID
    timestamp_ms: int


class _Exit(Struct, frozen=True, gc=False):
    """The fields of domain/messages.py that name an exit; its message has its id."""

    id: UUID
    type: Literal["workflow.exit.goal"]
    tenantid: str


_EXIT: Final = json.Decoder(_Exit)


def read(records: Iterable[FetchedRecord]) -> tuple[list[PublishedExit], Counter[str]]:
    """Return the exits among records of their topic, and the number of other records by outcome."""
    found: list[PublishedExit] = []
    outcomes: Counter[str] = Counter()
    for record in records:
        if record.value is None:
            outcomes["tombstone"] += 1
            continue
        try:
            message = _EXIT.decode(record.value)
        except (DecodeError, UnicodeDecodeError, RecursionError):
            outcomes["malformed"] += 1
            continue
        if is_valid_text(message.tenantid):
            found.append(PublishedExit(message.tenantid, message.id, record.timestamp))
        else:
            outcomes["malformed"] += 1
    return found, outcomes
