"""Dead letters as an operator sees them: lists, counts, and one letter in full."""

import base64
import enum
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import aiokafka

from goalworker import config
from goalworker.inspection import dead_letter_reading, kafka_connection, kafka_topics, open_letters
from goalworker.pipeline import dead_letters


class By(enum.StrEnum):
    """The groups in which dead letters are counted."""

    REASON = "reason"
    TENANT = "tenant"


async def list_letters(settings: config.Settings, selection: dead_letter_reading.Selection) -> list[dict[str, Any]]:
    """Return the selected dead letters, oldest first, each with its position, origin and reason."""
    rows = [dead_letter_reading.describe(record) async for record in dead_letter_reading.read(settings, selection)]
    return sorted(rows, key=lambda row: (row["time"], row["partition"], row["offset"]))


async def count_letters(
    settings: config.Settings, selection: dead_letter_reading.Selection, by: By = By.REASON
) -> list[dict[str, Any]]:
    """Count the selected dead letters by topic and reason, or by tenant: all, open and redriven."""
    async with kafka_connection.admin(settings) as client:
        has_redrive_topic = settings.topics.redrive in await kafka_topics.topics(client)
    sent = await open_letters.already_sent(settings) if has_redrive_topic else set()
    counts: open_letters.Counts = Counter()
    redriven: open_letters.Counts = Counter()
    tenant_of = dead_letter_reading.tenants_of(settings)
    async for record in dead_letter_reading.read(settings, selection):
        group = (tenant_of(record),) if by is By.TENANT else open_letters.kind_of(record)
        counts[group] += 1
        copy = dead_letters.redriven(record, settings.topics.redrive)
        redriven[group] += copy is not None and open_letters.fingerprint_of(copy) in sent
    names = ("tenant_id",) if by is By.TENANT else KIND
    return [
        {**row, "open": row["records"] - redriven_records, "redriven": redriven_records}
        for row in rank(counts, names)
        for redriven_records in [redriven[tuple(row[name] for name in names)]]
    ]


KIND: Final = ("topic", "reason")


def rank(counts: open_letters.Counts, names: Sequence[str] = KIND) -> list[dict[str, Any]]:
    """Return a row for each group, whose parts have these names, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return [{**dict(zip(names, group, strict=True)), "records": count} for group, count in ordered]


def document(record: aiokafka.ConsumerRecord) -> dict[str, Any]:
    """Return all of a dead letter for JSON: bytes that are not text are base64."""
    return {
        **dead_letter_reading.describe(record),
        "key": _text_or_base64(record.key),
        "headers": [{"name": name, **_text_or_base64(value)} for name, value in record.headers],
        "value": _text_or_base64(record.value),
    }


def printable_value(value: bytes | None) -> str:
    """Return a key, header or value for a terminal: as text where that is safe, otherwise as base64."""
    if value is None:
        return "null"
    text = _text(value)
    return text if text is not None else f"base64 {base64.b64encode(value).decode()}"


def _text_or_base64(value: bytes | None) -> dict[str, str | None]:
    text = _text(value)
    return {"text": text} if value is None or text is not None else {"base64": base64.b64encode(value).decode()}


def _text(value: bytes | None) -> str | None:
    """Return bytes as text if a terminal can show it, otherwise None."""
    try:
        text = None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
    return text if text is not None and re.sub(r"[\n\t]", "", text).isprintable() else None
