"""Contract sections 1 and 2 once more, slow and plain, with nothing but the standard library: what decode must equal.

Where several things are wrong, the reason is the first of: size, first byte, batch, JSON, envelope, type, data, future,
test, stage.
"""

import base64
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from goalworker.decoding.limits import Limits
from goalworker.domain import events

FIELDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "contact.tag.added": (("contact_id",), ("tag_id", "tag_name", "correlation_id", "test")),
    "payment.completed": (
        ("contact_id", "payment_id", "amount", "currency"),
        ("product_ids", "correlation_id", "test"),
    ),
    "payment.refunded": (("contact_id", "payment_id"), ("refund_id", "amount", "currency", "test")),
    "payment.failed": (("contact_id", "payment_id"), ("test",)),
    "appointment.booked": (
        ("contact_id", "appointment_id"),
        ("calendar_id", "service_id", "starts_at", "replaces_appointment_id", "correlation_id", "test"),
    ),
    "appointment.cancelled": (("contact_id", "appointment_id"), ("test",)),
    "form.submitted": (("contact_id", "form_id"), ("submission_id", "correlation_id", "test")),
    "form.rejected": (("contact_id", "submission_id"), ("test",)),
    "pipeline.stage.changed": (
        ("contact_id", "pipeline_id", "stage_id"),
        ("previous_stage_id", "deal_id", "correlation_id", "test"),
    ),
    "workflow.enrollment.started": (
        ("workflow_id", "enrollment_id", "contact_id"),
        ("reason", "correlation_id", "started_by"),
    ),
    "workflow.enrollment.ended": (("workflow_id", "enrollment_id", "contact_id"), ("reason",)),
    "workflow.activated": (("workflow_id",), ()),
    "workflow.deactivated": (("workflow_id",), ()),
}
TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
NO_TEXTS = ("product_ids", "started_by", "amount")
ATTRIBUTES = ("specversion", "id", "source", "type", "time", "tenantid")


class Refused(Exception):  # noqa: N818 - it carries a reason, and does not belong to goalworker's errors
    pass


class Number(str):
    """A JSON number as it is written."""


def reference(
    kinds: Mapping[str, frozenset[str]],
    limits: Limits,
    topic: str,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    timestamp_ms: int,
    now: datetime,
    *,
    key: bytes | None = None,
    place: tuple[int, int] | None = None,
) -> events.Event | str | None:
    """Return the event, why it is refused or skipped, or None for a tombstone."""
    if value is None:
        return None
    try:
        record = Record(topic, value, named(headers), timestamp_ms, key, place)
        return event_of(kinds[topic], limits, record, now)
    except Refused as refused:
        return str(refused)


@dataclass
class Record:
    topic: str
    value: bytes
    headers: dict[str, bytes | None]
    timestamp_ms: int
    key: bytes | None
    place: tuple[int, int] | None


def named(pairs: Sequence[tuple[str, bytes | None]]) -> dict[str, bytes | None]:
    """Headers in any case and with either `ce_` or `ce-`, the last one of each name."""
    headers = {}
    for name, value in pairs:
        lower = name.lower()
        headers["ce_" + lower[3:] if lower[:3] in ("ce-", "ce_") else lower] = value
    return headers


def event_of(kinds: frozenset[str], limits: Limits, record: Record, now: datetime) -> events.Event:
    headers = record.headers
    require(len(record.value) <= limits.max_bytes, "too_large")
    require(record.value[:1] != b"\x00", "unsupported_wire_format")
    envelope = envelope_of(kinds, limits, record)
    for name in ("specversion", "id", "source", "type"):
        require(is_text(envelope.get(name)), "invalid_envelope")
    require(envelope["specversion"] == "1.0", "invalid_envelope")
    tenant_id = optional(envelope, "tenantid")
    if tenant_id is None:
        tenant_id = tenant_of(limits, record, envelope)
    if tenant_id is None:
        tenant_id = limits.default_tenant
    require(is_text(tenant_id), "invalid_envelope")
    time = time_of(optional(envelope, "time"), record.timestamp_ms)
    require(envelope["type"] in kinds, "foreign_type" if limits.foreign_types == "ignore" else "unexpected_type")
    data = data_of(envelope["type"], raw_data(envelope))
    require(time <= now + limits.max_future, "future_time")
    if isinstance(data, events.GoalData | events.ReversalData):
        require(data.test is None or limits.test_events == "count", "test")
    if isinstance(data, events.StageChanged):
        require(data.stage_id != data.previous_stage_id, "no_move")
    traces = [
        next(filter(None, map(trace, (headers.get(name), headers.get(f"ce_{name}"), utf8(envelope.get(name))))), None)
        for name in ("traceparent", "tracestate")
    ]
    return events.Event(str(tenant_id), envelope["source"], envelope["id"], envelope["type"], time, data, *traces)


def envelope_of(kinds: frozenset[str], limits: Limits, record: Record) -> dict[str, Any]:
    """The attributes and the data of a record in any form."""
    content_type = (record.headers.get("content-type") or b"").lower()
    says_so = content_type.startswith(b"application/cloudevents")
    parsed = parse(record.value[3:] if record.value[:3] == b"\xef\xbb\xbf" else record.value)
    if "ce_specversion" in record.headers and not says_so:
        attributes = (*ATTRIBUTES, *(["subject"] if limits.tenant_from == "subject" else []))
        return {name: header_text(record.headers.get(f"ce_{name}")) for name in attributes} | {"data": parsed}
    if isinstance(parsed, list):
        require(len(parsed) == 1, "invalid_envelope")
        (parsed,) = parsed
    else:
        require(not content_type.startswith(b"application/cloudevents-batch"), "invalid_envelope")
    goal_kind = next((kind for kind in FIELDS if kind in kinds and not kind.startswith("workflow.")), None)
    is_bare = not says_so and not any(name.startswith("ce_") for name in record.headers)
    if limits.plain_json and is_bare and goal_kind is not None:
        return plain_envelope(unwrapped(parsed), goal_kind, limits, record)
    if not isinstance(parsed, dict):
        raise Refused("invalid_envelope")
    return parsed


def unwrapped(parsed: Any) -> Any:
    """Return the content of Connect's wrapper, and of a text that holds JSON."""
    if isinstance(parsed, dict) and parsed.keys() == {"schema", "payload"}:
        parsed = parsed["payload"]
    if isinstance(parsed, str) and not isinstance(parsed, Number):
        try:
            parsed = parse(parsed.encode())
        except Refused:
            raise Refused("invalid_data") from None
    return parsed


def plain_envelope(parsed: Any, kind: str, limits: Limits, record: Record) -> dict[str, Any]:
    if not isinstance(parsed, dict):
        raise Refused("invalid_data")
    if parsed.get("specversion") is not None:
        return parsed
    found: Any = header_text(record.headers.get(limits.plain_id.lower()) or None)
    if found is None:
        found = optional(parsed, "id")
    found = decimal_text(found)
    if found is None and record.place is not None:
        found = f"{record.topic}/{record.place[0]}/{record.place[1]}"
    ours = {"specversion": "1.0", "id": found, "source": f"kafka:{record.topic}", "type": kind}
    return parsed | ours | {"data": parsed}


def optional(values: Mapping[str, Any], name: str) -> Any:
    """An optional value, None where it is absent, null or an empty text."""
    value = values.get(name)
    return None if value == "" else value


def tenant_of(limits: Limits, record: Record, envelope: Mapping[str, Any]) -> str | None:
    """Return the tenant from the source that the settings name; anything but text there is refused."""
    found: Any = None
    if limits.tenant_from == "subject":
        found = optional(envelope, "subject")
    elif limits.tenant_from == "key-prefix":
        if record.key is not None and b":" in record.key:
            prefix = record.key[: record.key.index(b":")]
            found = header_text(re.sub(rb"%([0-9A-Fa-f]{2})", lambda pair: bytes([int(pair[1], 16)]), prefix))
    elif limits.tenant_from.startswith("header:"):
        found = header_text(record.headers.get(limits.tenant_from[7:].lower()))
    found = found or None
    require(found is None or is_text(found), "invalid_envelope")
    return None if found is None else str(found)


def raw_data(envelope: Mapping[str, Any]) -> Any:
    """The data, or what `data_base64` holds."""
    coded = optional(envelope, "data_base64")
    if envelope.get("data") is not None or coded is None:
        return envelope.get("data")
    require(isinstance(coded, str) and not isinstance(coded, Number), "invalid_data")
    try:
        decoded = base64.b64decode(coded, validate=True)
        return parse(decoded[3:] if decoded[:3] == b"\xef\xbb\xbf" else decoded)
    except (ValueError, Refused):
        raise Refused("invalid_data") from None


def utf8(value: object) -> bytes | None:
    return value.encode() if isinstance(value, str) and not isinstance(value, Number) else None


def require(holds: bool, reason: str) -> None:
    if not holds:
        raise Refused(reason)


def parse(value: bytes) -> Any:
    """Return decoded JSON with numbers as they are written; half a surrogate pair makes it invalid here."""
    try:
        text = value.decode("utf-8")
        parsed = json.loads(text, parse_int=Number, parse_float=Number, parse_constant=refuse_constant)
        for literal in re.findall(r'"(?:[^"\\]|\\.)*"', text):
            json.loads(literal).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Refused("invalid_json") from error
    return parsed


def refuse_constant(name: str) -> None:
    raise ValueError(name)


def header_text(header: bytes | None) -> str | None:
    try:
        return None if header is None else header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("invalid_envelope") from error


def is_text(value: object) -> bool:
    return (
        isinstance(value, str)
        and not isinstance(value, Number)
        and 1 <= len(value.encode("utf-8")) <= 255
        and all(unicodedata.category(character) != "Cc" for character in value)
    )


def time_of(text: object, timestamp_ms: int) -> datetime:
    try:
        if text is None:
            require(timestamp_ms >= 0, "invalid_envelope")
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=timestamp_ms)
        require(is_text(text), "invalid_envelope")
        match = TIME.fullmatch(str(text))
        if match is None:
            raise Refused("invalid_envelope")
        return exact_time(*match.groups())
    except (ValueError, OverflowError) as error:
        raise Refused("invalid_envelope") from error


def exact_time(*parts: str | None) -> datetime:
    year, month, day, hour, minute, second = (int(part or "") for part in parts[:6])
    leap = second == 60
    second -= leap
    digits = (parts[6] or ".")[1:].ljust(7, "0")
    microseconds = int(digits[:6]) + (digits[6] >= "5")
    time = datetime(year, month, day, hour, minute, second, tzinfo=UTC) + timedelta(
        seconds=leap, microseconds=microseconds
    )
    offset = parts[7] or "Z"
    if offset in "Zz":
        return time
    ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6]))
    return time - ahead if offset[0] == "+" else time + ahead


def data_of(kind: str, data: object) -> events.GoalData | events.ReversalData | events.LifecycleData:
    if not isinstance(data, dict):
        raise Refused("invalid_data")
    required, may = FIELDS[kind]
    present = {name: data[name] for name in required + may if data.get(name) is not None}
    if not is_text(present.get("starts_at")):
        present.pop("starts_at", None)
    if present.get("test") is not True:
        present.pop("test", None)
    present = {name: value for name, value in present.items() if value != "" or name in required or name in NO_TEXTS}
    require(present.keys() >= set(required), "invalid_data")
    if kind == "contact.tag.added":
        require("tag_id" in present or "tag_name" in present, "invalid_data")
    if kind == "payment.refunded":
        require(("amount" in present) == ("currency" in present), "invalid_data")
    return events.DATA_OF_TYPE[kind](**{name: field_of(name, value) for name, value in present.items()})


def field_of(name: str, value: object) -> Any:
    if name == "amount":
        return amount_of(value)
    if name == "product_ids":
        require(isinstance(value, list), "invalid_data")
        some = [decimal_text(entry) for entry in (value if isinstance(value, list) else []) if entry is not None]
        require(len(some) <= 1000 and all(map(is_text, some)), "invalid_data")
        return tuple(some)
    if name.endswith("_id"):
        value = decimal_text(value)
    if name == "test":
        return True
    if name == "started_by":
        require(isinstance(value, dict), "invalid_data")
        inner = value if isinstance(value, dict) else {}
        require(is_text(inner.get("source")) and is_text(inner.get("id")), "invalid_data")
        return events.EventReference(inner["source"], inner["id"])
    require(is_text(value), "invalid_data")
    if name == "currency":
        require(re.fullmatch("[A-Za-z]{3}", str(value)) is not None, "invalid_data")
    return value


def decimal_text(value: object) -> object:
    """Return the text of an integer, which has no fraction and no exponent, and any other value as it is."""
    if isinstance(value, Number) and re.fullmatch("-?[0-9]+", value):
        return "0" if value == "-0" else "".join(value)
    return value


def amount_of(value: object) -> Decimal:
    """A plain decimal string has at most 64 digits before the point, a number 128 characters, 4 of them exponent."""
    require(isinstance(value, str), "invalid_data")
    written = str(value)
    if isinstance(value, Number):
        exponent = re.search(r"[eE][+-]?([0-9]+)", written)
        require(len(written) <= 128 and (exponent is None or len(exponent[1]) <= 4), "invalid_data")
    else:
        require(re.fullmatch(r"[0-9]{1,64}(\.[0-9]{1,18})?", written) is not None, "invalid_data")
    amount = abs(Decimal(written)) if Decimal(written) == 0 else Decimal(written)
    decimals = -int(amount.as_tuple().exponent)
    require(0 <= amount <= 10**15 and decimals <= 18, "invalid_data")
    return amount if decimals >= 0 else Decimal(int(amount))


def trace(header: bytes | None) -> str | None:
    if not header or len(header) > 512 or any(not 0x20 <= byte <= 0x7E for byte in header):
        return None
    return header.decode("ascii")
