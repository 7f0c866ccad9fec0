"""Records that can't work go to the DLQ, byte for byte, with headers that say why (contract section 4)."""

from typing import Final

from aiokafka import ConsumerRecord
from msgspec import Struct

from goalworker import kafka

ORIGINAL_TOPIC: Final = "x-original-topic"
ORIGINAL_PARTITION: Final = "x-original-partition"
ORIGINAL_OFFSET: Final = "x-original-offset"
ORIGINAL_TIMESTAMP: Final = "x-original-timestamp"
ORIGINAL_GROUP: Final = "x-original-group"
ERROR_REASON: Final = "x-error-reason"
ERROR_MESSAGE: Final = "x-error-message"
REDRIVE_COUNT: Final = "x-redrive-count"

_ORIGIN: Final = (
    ORIGINAL_TOPIC,
    ORIGINAL_PARTITION,
    ORIGINAL_OFFSET,
    ORIGINAL_TIMESTAMP,
    ORIGINAL_GROUP,
    REDRIVE_COUNT,
)


class DeadLetter(Struct, frozen=True):
    """A record that can't work, and why; message is a sentence without anything of the payload."""

    record: ConsumerRecord
    reason: str
    message: str


def original_topic(record: ConsumerRecord) -> str | None:
    """Return the topic that a redriven record was first read from."""
    for name, value in record.headers:
        if name == ORIGINAL_TOPIC:
            return str(value, "utf-8", "replace")
    return None


def record_of(letter: DeadLetter, topic: str, group_id: str, *, redriven: bool) -> kafka.Record:
    """Return the dead letter as a record: original key, value and headers, and ours (contract section 4).

    What is redriven keeps where it first came from, and its count.
    """
    record = letter.record
    ours = {
        ORIGINAL_TOPIC: record.topic,
        ORIGINAL_PARTITION: str(record.partition),
        ORIGINAL_OFFSET: str(record.offset),
        ORIGINAL_TIMESTAMP: str(record.timestamp),
        ORIGINAL_GROUP: group_id,
        ERROR_REASON: letter.reason,
        ERROR_MESSAGE: letter.message,
        REDRIVE_COUNT: "0",
    }
    if redriven:
        known = {name for name, _ in record.headers}
        ours = {name: text for name, text in ours.items() if name not in _ORIGIN or name not in known}
    return kafka.Record(topic, record.key, record.value, _merged(record.headers, ours))


def _merged(headers: kafka.Headers, ours: dict[str, str]) -> list[tuple[str, bytes]]:
    """Replace ours in place where they were there already, and add the others behind."""
    merged: list[tuple[str, bytes]] = []
    written: set[str] = set()
    for name, value in headers:
        if name not in ours:
            merged.append((name, value))
        elif name not in written:
            merged.append((name, ours[name].encode()))
            written.add(name)
    return merged + [(name, text.encode()) for name, text in ours.items() if name not in written]
