"""Decoding of records in tests that expect an event, or a fault."""

import json
from typing import Final

from goalworker.decoding.decoder import Decoder, Malformed, Outcome
from goalworker.decoding.limits import Limits
from goalworker.domain import events
from tests.kit import hostile
from tests.unit import hostile_fields, hostile_forms, hostile_settings, hostile_skipped

LIMITS: Final = Limits()
PLACE: Final = (3, 17)
REASONS: Final = {
    "invalid_json",
    "invalid_envelope",
    "invalid_data",
    "unexpected_type",
    "unsupported_wire_format",
    "too_large",
    "future_time",
}
SKIPPED: Final = {"test", "no_move", "foreign_type"}
Headers = hostile.Headers
ALL: Final = (
    hostile.CORPUS
    + hostile_fields.DOCUMENTS
    + hostile_forms.DOCUMENTS
    + hostile_forms.OTHERS
    + hostile_settings.CORPUS
    + hostile_skipped.CORPUS
)


def decoded(
    topic: str,
    value: bytes | None,
    headers: Headers = (),
    timestamp_ms: int = hostile.TIMESTAMP_MS,
    limits: Limits = LIMITS,
    key: bytes | None = None,
) -> Outcome | None:
    decoder = Decoder(hostile.KINDS, limits)
    return decoder.decode(topic, value, headers, timestamp_ms, hostile.NOW, 17, key=key, position=PLACE)


def good(kind: str, **attributes: object) -> bytes:
    return json.dumps(hostile.envelope(kind, hostile.DATA[kind], **attributes)).encode()


def event(outcome: Outcome | None) -> events.Event:
    assert isinstance(outcome, events.Event), outcome
    return outcome


def malformed(outcome: Outcome | None) -> Malformed:
    assert isinstance(outcome, Malformed), outcome
    return outcome
