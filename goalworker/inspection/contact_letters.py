"""Dead letters of one contact, by their key or by the contact that their value names."""

from collections.abc import Callable
from typing import Final

import aiokafka
import msgspec

from goalworker import config
from goalworker.domain import messages
from goalworker.domain.explanations import DeadLetter
from goalworker.inspection import dead_letter_reading, kafka_connection
from goalworker.pipeline import dead_letters

SCANNED_MAX: Final = 50_000
"""Dead letters that are looked at, at most: the newest of each partition."""


async def find(
    settings: config.Settings, tenant_id: str, contact_id: str, *, is_owner: bool = False
) -> tuple[DeadLetter, ...]:
    """Search the newest SCANNED_MAX dead letters for those of a contact; return them in the order of their offsets.

    is_owner: only letters that are certainly of this tenant, for an answer to the tenant itself.
    """
    has = (_owned if is_owner else _named)(settings, tenant_id, contact_id)
    async with kafka_connection.consumer(settings) as consumer:
        starts, ends = await dead_letter_reading.bounds(settings, consumer, settings.topics.dead_letters)
        newest = dead_letter_reading.newest(starts, ends, SCANNED_MAX)
        records = dead_letter_reading.between(consumer, newest, ends)
        return tuple([_letter(record) async for record in records if has(record)])


_Has = Callable[[aiokafka.ConsumerRecord], bool]


def _named(settings: config.Settings, tenant_id: str, contact_id: str) -> _Has:
    tenant_of, key = dead_letter_reading.tenants_of(settings), messages.key_of(tenant_id, contact_id)

    def has(record: aiokafka.ConsumerRecord) -> bool:
        return record.key == key or (_contact_of(record) == contact_id and tenant_of(record) == tenant_id)

    return has


def _owned(settings: config.Settings, tenant_id: str, contact_id: str) -> _Has:
    owner_of, is_named = dead_letter_reading.owners_of(settings), _named(settings, tenant_id, contact_id)

    def has(record: aiokafka.ConsumerRecord) -> bool:
        return is_named(record) and owner_of(record) == tenant_id

    return has


def _letter(record: aiokafka.ConsumerRecord) -> DeadLetter:
    headers = dead_letter_reading.headers_of(record)
    topic, reason = headers.get(dead_letters.ORIGINAL_TOPIC, ""), headers.get(dead_letters.ERROR_REASON, "")
    return DeadLetter(topic, record.partition, record.offset, reason)


class _Data(msgspec.Struct):
    contact_id: str | None = None


class _Value(msgspec.Struct):
    contact_id: str | None = None
    data: _Data | None = None


_VALUE: Final = msgspec.json.Decoder(_Value)


def _contact_of(record: aiokafka.ConsumerRecord) -> str | None:
    """Return the contact that a value names in the envelope's data or, in binary mode, by itself."""
    try:
        value = _VALUE.decode(record.value or b"")
    except (ValueError, RecursionError):
        return None
    return value.contact_id if value.data is None else value.data.contact_id
