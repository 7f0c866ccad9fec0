"""Records that are no events, each with the reason for which it must be dead-lettered (contract section 4)."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from goalworker.demo import plans, records
from goalworker.demo.scene import Scene

MAX_BYTES: Final = 65_536
"""What the demo's worker takes, so that a record may be too large without being large."""

Headers = tuple[tuple[str, bytes], ...]
Shaped = tuple[str, bytes, Headers]
"""The reason, the value, the headers."""

Shape = Callable[[Scene, plans.Happening], Shaped]


def malformed(scene: Scene) -> plans.Step:
    """One record that is no event, in a shape drawn by lot."""
    (shape,) = scene.rng.choices(SHAPES, _WEIGHTS)
    return in_shape(shape, scene)


def in_shape(shape: Shape, scene: Scene) -> plans.Step:
    """One record that is no event, with a key that no other record has."""
    scene.contact_id = f"malformed-{scene.number}"
    happening = scene.rng.choice((_form, _payment))(scene)
    reason, value, headers = shape(scene, happening)
    topic, key = records.TOPIC_OF_TYPE[happening.type], records.key_of(happening)
    letter = plans.DeadLetter(topic, key, reason)
    return plans.Step((plans.Send(topic, key, value, headers),), plans.Outcome(dead_letters=(letter,)))


def tombstone(scene: Scene) -> plans.Step:
    """A null value: skipped, and no dead letter."""
    form = _form(scene)
    return plans.Step((plans.Send(records.TOPIC_OF_TYPE[form.type], records.key_of(form), None),))


def _form(scene: Scene) -> plans.Happening:
    return scene.form("signup", 0)


def _payment(scene: Scene) -> plans.Happening:
    return scene.payment("99", "EUR", ["pro-plan"], 0)


# --- invalid_json ---


def _cut_off(_scene: Scene, happening: plans.Happening) -> Shaped:
    return "invalid_json", _value(happening)[:-3], ()


def _no_text(_scene: Scene, happening: plans.Happening) -> Shaped:
    return "invalid_json", b'\xff\xfe{"data"', _binary(happening)


def _nested_too_deeply(_scene: Scene, happening: plans.Happening) -> Shaped:
    return "invalid_json", b"[" * 20_000, _binary(happening)


# --- invalid_envelope ---


def _without(attribute: str) -> Shape:
    def shape(scene: Scene, happening: plans.Happening) -> Shaped:
        attributes = records.attributes_of(happening)
        del attributes[attribute]
        if scene.rng.random() < 0.5:
            return "invalid_envelope", records.structured(attributes, happening.data), ()
        return "invalid_envelope", _data(happening), (records.JSON, *records.binary_headers(attributes))

    return shape


def _other_version(_scene: Scene, happening: plans.Happening) -> Shaped:
    return "invalid_envelope", _value(happening, specversion="0.3"), ()


def _time_without_offset(_scene: Scene, happening: plans.Happening) -> Shaped:
    return "invalid_envelope", _value(happening, time=happening.time.replace(tzinfo=None).isoformat()), ()


def _batch(_scene: Scene, happening: plans.Happening) -> Shaped:
    content_type = ("content-type", b"application/cloudevents-batch+json")
    another = _value(happening, id=f"{happening.id}/another")
    return "invalid_envelope", b"[" + _value(happening) + b"," + another + b"]", (content_type,)


# --- invalid_data ---


def _no_contact(_scene: Scene, happening: plans.Happening) -> Shaped:
    return "invalid_data", _value(_with(happening, contact_id=None)), ()


def _wrong_type(_scene: Scene, happening: plans.Happening) -> Shaped:
    field = "form_id" if "form_id" in happening.data else "amount"
    return "invalid_data", _value(_with(happening, **{field: {"is": "an object"}})), ()


def _strange_text(scene: Scene, happening: plans.Happening) -> Shaped:
    contact_id = scene.rng.choice(("", "x" * 256, "a\x00b", "line\nbreak"))
    return "invalid_data", _data(_with(happening, contact_id=contact_id)), _binary(happening)


def _strange_amount(scene: Scene, happening: plans.Happening) -> Shaped:
    if "amount" not in happening.data:
        return _no_contact(scene, happening)
    amount = scene.rng.choice(("NaN", "Infinity", "-1", "1_000", "1e2", "٤٢", "9" * 5_000, -0.01, True))
    return "invalid_data", _value(_with(happening, amount=amount)), ()


# --- the others ---


def _unknown_type(scene: Scene, happening: plans.Happening) -> Shaped:
    type_ = scene.rng.choice(("contact.tag.removed", "contact.tag.added", "Form.Submitted"))
    return "unexpected_type", _value(happening, type=type_), ()


def _schema_registry(_scene: Scene, happening: plans.Happening) -> Shaped:
    return "unsupported_wire_format", b"\x00\x00\x00\x00\x2a" + _data(happening), _binary(happening)


def _large(_scene: Scene, happening: plans.Happening) -> Shaped:
    return "too_large", _value(_with(happening, notes="x" * MAX_BYTES)), ()


def _from_the_future(_scene: Scene, happening: plans.Happening) -> Shaped:
    return "future_time", _value(happening, time=_in(happening.time, days=30)), ()


SHAPES: Final[tuple[Shape, ...]] = (
    _cut_off, _no_text, _nested_too_deeply,
    _without("tenantid"), _without("id"), _without("source"), _without("type"),
    _other_version, _time_without_offset, _batch,
    _no_contact, _wrong_type, _strange_text, _strange_amount,
    _unknown_type, _schema_registry, _large, _from_the_future,
)  # fmt: skip
_WEIGHTS: Final = [1 if shape in (_large, _nested_too_deeply) else 4 for shape in SHAPES]


def _value(happening: plans.Happening, **attributes: str) -> bytes:
    return records.structured({**records.attributes_of(happening), **attributes}, happening.data)


def _data(happening: plans.Happening) -> bytes:
    return json.dumps(happening.data, default=str).encode()


def _binary(happening: plans.Happening) -> Headers:
    return (records.JSON, *records.binary_headers(records.attributes_of(happening)))


def _with(happening: plans.Happening, **fields: Any) -> plans.Happening:
    return plans.Happening(
        happening.tenant_id,
        happening.source,
        happening.id,
        happening.type,
        happening.time,
        {**happening.data, **fields},
    )


def _in(time: datetime, *, days: int) -> str:
    return (time + timedelta(days=days)).isoformat()
