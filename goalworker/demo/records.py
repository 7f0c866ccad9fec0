"""Forms that an event can have as a Kafka record (contract section 2); all of them mean the same."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from msgspec import json

from goalworker import config
from goalworker.demo import plans
from goalworker.domain import events, ids

TOPICS: Final = config.Topics()

TOPIC_OF_TYPE: Final[Mapping[str, str]] = {
    event_type: topic for topic, event_types in TOPICS.event_types.items() for event_type in event_types
}

JSON: Final = ("content-type", b"application/json")
CLOUDEVENT: Final = ("content-type", b"application/cloudevents+json; charset=utf-8")

# Amounts are JSON numbers or strings; both are exact.
_ENCODERS: Final = (json.Encoder(decimal_format="number"), json.Encoder(decimal_format="string"))
_OFFSETS: Final = (UTC, timezone(timedelta(hours=2)), timezone(-timedelta(hours=3, minutes=30)))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def encode(
    event: plans.SourceEvent, rng: random.Random, needed_by: tuple[plans.EnrollmentKey, ...] = ()
) -> plans.PlannedRecord:
    """Return an event as a record, in a random form."""
    timestamp_ms = None
    attributes = attributes_of(event)
    if event.time.microsecond % 1000 == 0 and rng.random() < 0.5:
        timestamp_ms = (event.time - _EPOCH) // timedelta(milliseconds=1)
        del attributes["time"]
    else:
        attributes["time"] = _rfc3339(event.time, rng)
    data = event.data
    if rng.random() < 0.1:
        data = {"unknown_field": {"nested": [1, None, "ü"]}, **data}
    to_json = rng.choice(_ENCODERS).encode
    if rng.random() < 0.5:
        value, headers = to_json(data), [JSON, *binary_headers(attributes)]
    else:
        value, headers = to_json(attributes | {"data": data}), [CLOUDEVENT] if rng.random() < 0.5 else []
    if rng.random() < 0.1:
        headers.append(("x-unrelated", b"\xff\x00\xfe"))
    return plans.PlannedRecord(
        TOPIC_OF_TYPE[event.type], key_of(event), value, tuple(headers), timestamp_ms, needed_by, _concerned(event)
    )


def _concerned(event: plans.SourceEvent) -> plans.Concerned | None:
    data = event.data
    stays = "stage_id" in data and data["stage_id"] == data.get("previous_stage_id")
    is_start = event.type == events.ENROLLMENT_STARTED
    if data.get("test") or stays or (event.type in events.LIFECYCLE_TYPES and not is_start):
        return None
    return plans.Concerned((event.tenant_id, data["contact_id"]), event.source, event.id, is_start)


def attributes_of(event: plans.SourceEvent) -> dict[str, Any]:
    """Return the CloudEvents attributes of an event, with its time in UTC."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": event.time.isoformat(),
        "tenantid": event.tenant_id,
    }


def binary_headers(attributes: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Return attributes as headers of the binary mode."""
    return [(f"ce_{name}", value.encode()) for name, value in attributes.items()]


def structured(attributes: Mapping[str, Any], data: Mapping[str, Any]) -> bytes:
    """Return a value of the structured mode."""
    return _ENCODERS[1].encode({**attributes, "data": data})


def key_of(event: plans.SourceEvent) -> bytes:
    """Return the key that the contract recommends; no outcome may depend on it."""
    subject = event.data.get("contact_id") or event.data["workflow_id"]
    return ids.joined(":", event.tenant_id, subject).encode()


def _rfc3339(time: datetime, rng: random.Random) -> str:
    text = time.astimezone(rng.choice(_OFFSETS)).isoformat()
    return text.replace("+00:00", "Z") if rng.random() < 0.5 else text
