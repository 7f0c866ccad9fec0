"""Malformed records, each with the reason for which it must be dead-lettered (contract section 4), and skipped ones."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from goalworker.demo import plans, records
from goalworker.demo.scenario_builder import ScenarioBuilder

MAX_BYTES: Final = 65_536
"""Limit of the demo's worker: far below the default, so that a record can be too large and yet small."""

_FOREIGN_TYPES: Final = ("contact.tag.removed", "contact.tag.added", "Form.Submitted", "payment.authorized")

Headers = tuple[tuple[str, bytes], ...]
Shaped = tuple[str, bytes, Headers]
"""(reason, value, headers)."""

Shape = Callable[[ScenarioBuilder, plans.SourceEvent], Shaped]


def malformed(builder: ScenarioBuilder) -> plans.Step:
    """Return a malformed record of a random shape."""
    (shape,) = builder.rng.choices(SHAPES, _WEIGHTS)
    return in_shape(shape, builder)


def in_shape(shape: Shape, builder: ScenarioBuilder) -> plans.Step:
    """Return a malformed record with a key that no other record has."""
    builder.contact_id = f"malformed-{builder.number}"
    event = builder.rng.choice((_form, _payment))(builder)
    reason, value, headers = shape(builder, event)
    topic, key = records.TOPIC_OF_TYPE[event.type], records.key_of(event)
    letter = plans.DeadLetter(topic, key, reason)
    return plans.Step((plans.PlannedRecord(topic, key, value, headers),), plans.Outcome(dead_letters=(letter,)))


def tombstone(builder: ScenarioBuilder) -> plans.Step:
    """Return a record without a value, which is skipped and not dead-lettered."""
    form = _form(builder)
    return plans.Step((plans.PlannedRecord(records.TOPIC_OF_TYPE[form.type], records.key_of(form), None),))


def foreign_type(builder: ScenarioBuilder) -> plans.Step:
    """Return a record of a type that its topic does not list, which is skipped too."""
    event, type_ = builder.rng.choice((_form, _payment))(builder), builder.rng.choice(_FOREIGN_TYPES)
    value = _value(event, type=type_)
    return plans.Step((plans.PlannedRecord(records.TOPIC_OF_TYPE[event.type], records.key_of(event), value),))


def _form(builder: ScenarioBuilder) -> plans.SourceEvent:
    return builder.form("signup", 0)


def _payment(builder: ScenarioBuilder) -> plans.SourceEvent:
    return builder.payment("99", "EUR", ["pro-plan"], 0)


# --- invalid_json ---


def _cut_off(_builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    return "invalid_json", _value(event)[:-3], ()


def _no_text(_builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    return "invalid_json", b'\xff\xfe{"data"', _binary(event)


def _nested_too_deeply(_builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    return "invalid_json", b"[" * 20_000, _binary(event)


# --- invalid_envelope ---


def _without(attribute: str) -> Shape:
    def shape(builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
        attributes = records.attributes_of(event)
        del attributes[attribute]
        if builder.rng.random() < 0.5:
            return "invalid_envelope", records.structured(attributes, event.data), ()
        return "invalid_envelope", _data(event), (records.JSON, *records.binary_headers(attributes))

    return shape


def _other_version(_builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    return "invalid_envelope", _value(event, specversion="0.3"), ()


def _time_without_offset(_builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    return "invalid_envelope", _value(event, time=event.time.replace(tzinfo=None).isoformat()), ()


def _batch(_builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    content_type = ("content-type", b"application/cloudevents-batch+json")
    another = _value(event, id=f"{event.id}/another")
    return "invalid_envelope", b"[" + _value(event) + b"," + another + b"]", (content_type,)


# --- invalid_data ---


def _no_contact(_builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    return "invalid_data", _value(_with(event, contact_id=None)), ()


def _wrong_type(_builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    field = "form_id" if "form_id" in event.data else "amount"
    return "invalid_data", _value(_with(event, **{field: {"is": "an object"}})), ()


def _strange_text(builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    contact_id = builder.rng.choice(("", "x" * 256, "a\x00b", "line\nbreak"))
    return "invalid_data", _data(_with(event, contact_id=contact_id)), _binary(event)


def _strange_amount(builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    if "amount" not in event.data:
        return _no_contact(builder, event)
    amount = builder.rng.choice(("NaN", "Infinity", "-1", "1_000", "1e2", "٤٢", "9" * 5_000, -0.01, True))
    return "invalid_data", _value(_with(event, amount=amount)), ()


# --- other reasons ---


def _schema_registry(_builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    return "unsupported_wire_format", b"\x00\x00\x00\x00\x2a" + _data(event), _binary(event)


def _large(_builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    return "too_large", _value(_with(event, notes="x" * MAX_BYTES)), ()


def _from_the_future(_builder: ScenarioBuilder, event: plans.SourceEvent) -> Shaped:
    return "future_time", _value(event, time=_in(event.time, days=30)), ()


SHAPES: Final[tuple[Shape, ...]] = (
    _cut_off, _no_text, _nested_too_deeply,
    _without("tenantid"), _without("id"), _without("source"), _without("type"),
    _other_version, _time_without_offset, _batch,
    _no_contact, _wrong_type, _strange_text, _strange_amount,
    _schema_registry, _large, _from_the_future,
)  # fmt: skip
_WEIGHTS: Final = [1 if shape in (_large, _nested_too_deeply) else 4 for shape in SHAPES]


def _value(event: plans.SourceEvent, **attributes: str) -> bytes:
    return records.structured({**records.attributes_of(event), **attributes}, event.data)


def _data(event: plans.SourceEvent) -> bytes:
    return json.dumps(event.data, default=str).encode()


def _binary(event: plans.SourceEvent) -> Headers:
    return (records.JSON, *records.binary_headers(records.attributes_of(event)))


def _with(event: plans.SourceEvent, **fields: Any) -> plans.SourceEvent:
    return plans.SourceEvent(
        event.tenant_id,
        event.source,
        event.id,
        event.type,
        event.time,
        {**event.data, **fields},
    )


def _in(time: datetime, *, days: int) -> str:
    return (time + timedelta(days=days)).isoformat()
