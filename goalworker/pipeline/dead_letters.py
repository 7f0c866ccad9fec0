"""Dead letters: records that can't be processed, byte for byte, with headers that say why (contract section 4)."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Final

from aiokafka import ConsumerRecord, TopicPartition
from msgspec import Struct

from goalworker.decoding.record import RECORD_BYTES_MAX, FetchedRecord, OversizedRecord
from goalworker.kafka import records

ORIGINAL_TOPIC: Final = "x-original-topic"
ORIGINAL_PARTITION: Final = "x-original-partition"
ORIGINAL_OFFSET: Final = "x-original-offset"
ORIGINAL_TIMESTAMP: Final = "x-original-timestamp"
ORIGINAL_GROUP: Final = "x-original-group"
ERROR_REASON: Final = "x-error-reason"
ERROR_MESSAGE: Final = "x-error-message"
REDRIVE_COUNT: Final = "x-redrive-count"

# Bytes of a key or a header that a letter keeps if it is too large for its topic; longer ones are left out.
PART_BYTES_MAX: Final = 4 * 1024

_ORIGIN: Final = (
    ORIGINAL_TOPIC,
    ORIGINAL_PARTITION,
    ORIGINAL_OFFSET,
    ORIGINAL_TIMESTAMP,
    ORIGINAL_GROUP,
    REDRIVE_COUNT,
)


class DeadLetter(Struct, frozen=True):
    """A record that can't be processed, and why; message is a sentence that quotes nothing of the payload.

    tenant_id is None where it cannot be told.
    """

    record: ConsumerRecord
    reason: str
    message: str
    tenant_id: str | None = None


def letter(
    partition: TopicPartition, record: FetchedRecord, reason: str, message: str, tenant_id: str | None = None
) -> DeadLetter:
    """Return a dead letter of a record that was fetched from a partition."""
    key, value = record.key, record.value
    whole = ConsumerRecord(
        partition.topic,
        partition.partition,
        record.offset,
        record.timestamp,
        record.timestamp_type,
        key,
        value,
        None,
        len(key or b""),
        len(value or b""),
        tuple(record.headers),
    )
    return DeadLetter(whole, reason, message, tenant_id)


def shortened(letter: DeadLetter) -> DeadLetter:
    """Return a letter that fits into its topic: without the value, and without the headers of the original record.

    It is never redriven, since its value is missing.
    """
    record = letter.record
    size = record.serialized_value_size
    key = record.key if len(record.key or b"") <= PART_BYTES_MAX else None
    origin = tuple((name, value) for name, value in record.headers if name in _ORIGIN and len(value) <= PART_BYTES_MAX)
    without = dataclasses.replace(record, key=key, value=None, headers=origin)
    message = f"{letter.message} (its value of {size} bytes is left out: the DLQ takes less than that)"
    return DeadLetter(without, letter.reason, message, letter.tenant_id)


def letter_without_value(partition: TopicPartition, record: OversizedRecord) -> DeadLetter:
    """Return a dead letter of a record whose value is too large to be kept: it says where the value is."""
    sentence = (
        f"has {record.size} bytes, and no record of more than {RECORD_BYTES_MAX} is kept: "
        "its value is in the original topic only"
    )
    letter_of = letter(partition, record, "too_large", sentence)
    return DeadLetter(dataclasses.replace(letter_of.record, value=None), letter_of.reason, letter_of.message)


def original_topic(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """Return the topic that a redriven record was first read from."""
    return _text(headers, ORIGINAL_TOPIC)


def original_place(headers: Iterable[tuple[str, bytes | None]]) -> tuple[int, int] | None:
    """Return the partition and the offset that a redriven record was first read from."""
    found = [_text(headers, name) or "" for name in (ORIGINAL_PARTITION, ORIGINAL_OFFSET)]
    if not all(re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) for text in found):
        return None
    return int(found[0]), int(found[1])


def record_of(letter: DeadLetter, topic: str, group_id: str, *, redriven: bool) -> records.Record:
    """Return the dead letter as a record: original key, value and headers, and ours (contract section 4).

    A redriven record keeps its first origin and its count.
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
    return records.Record(topic, record.key, record.value, _merged(record.headers, ours))


def redriven(record: ConsumerRecord, topic: str) -> records.Record | None:
    """Return the record that redrives a dead letter (contract section 6); None if another program wrote the letter.

    The record has the timestamp of the original one, so that an event without a time gets the same time again.
    """
    if record.value is None or original_topic(record.headers) is None:
        return None
    headers = _merged(record.headers, {REDRIVE_COUNT: str((_number(record, REDRIVE_COUNT) or 0) + 1)})
    timestamp_ms = _number(record, ORIGINAL_TIMESTAMP)
    return records.Record(
        topic, record.key, record.value, headers, record.timestamp if timestamp_ms is None else timestamp_ms
    )


def _number(record: ConsumerRecord, header: str) -> int | None:
    text = _text(record.headers, header)
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,15}", text) else None


def _text(headers: Iterable[tuple[str, bytes | None]], header: str) -> str | None:
    return next((str(value or b"", "utf-8", "replace") for name, value in headers if name == header), None)


def _merged(headers: records.Headers, ours: dict[str, str]) -> list[tuple[str, bytes]]:
    """Return the headers with ours: those that exist already are replaced, the others appended."""
    merged: list[tuple[str, bytes]] = []
    written: set[str] = set()
    for name, value in headers:
        if name not in ours:
            merged.append((name, value))
        elif name not in written:
            merged.append((name, ours[name].encode()))
            written.add(name)
    return merged + [(name, text.encode()) for name, text in ours.items() if name not in written]
