"""Contract sections 1 and 2 once more, slow and plain, with nothing but the standard library: what decode must equal.

Where several things are wrong, the reason is the first of: size, first byte, batch, JSON, envelope, type, data, future.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from goalworker import decode, events

FIELDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "contact.tag.added": (("contact_id",), ("tag_id", "tag_name")),
    "payment.completed": (("contact_id", "payment_id", "amount", "currency"), ("product_ids",)),
    "appointment.booked": (("contact_id", "appointment_id"), ("calendar_id", "service_id", "starts_at")),
    "form.submitted": (("contact_id", "form_id"), ("submission_id",)),
    "pipeline.stage.changed": (("contact_id", "pipeline_id", "stage_id"), ("previous_stage_id", "deal_id")),
    "workflow.enrollment.started": (("workflow_id", "enrollment_id", "contact_id"), ("reason",)),
    "workflow.enrollment.ended": (("workflow_id", "enrollment_id", "contact_id"), ("reason",)),
    "workflow.activated": (("workflow_id",), ()),
    "workflow.deactivated": (("workflow_id",), ()),
}
TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
ATTRIBUTES = ("specversion", "id", "source", "type", "time", "tenantid")


class Refused(Exception):  # noqa: N818 - it carries a reason, and is none of goalworker's errors
    pass


class Number(str):
    """A JSON number as it is written."""


def reference(
    kinds: Mapping[str, frozenset[str]],
    limits: decode.Limits,
    topic: str,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    timestamp_ms: int,
    now: datetime,
) -> events.Event | str | None:
    """Return the event, the reason why there is none, or None for a tombstone."""
    if value is None:
        return None
    try:
        return event_of(kinds[topic], limits, value, dict(headers), timestamp_ms, now)
    except Refused as refused:
        return str(refused)


def event_of(
    kinds: frozenset[str],
    limits: decode.Limits,
    value: bytes,
    headers: Mapping[str, bytes | None],
    timestamp_ms: int,
    now: datetime,
) -> events.Event:
    require(len(value) <= limits.max_bytes, "too_large")
    require(value[:1] != b"\x00", "unsupported_wire_format")
    content_type = (headers.get("content-type") or b"").lower()
    require(not content_type.startswith(b"application/cloudevents-batch"), "invalid_envelope")
    parsed = parse(value)
    if content_type.startswith(b"application/cloudevents") or "ce_specversion" not in headers:
        require(isinstance(parsed, dict), "invalid_envelope")
        envelope = parsed
    else:
        envelope = {name: header_text(headers.get(f"ce_{name}")) for name in ATTRIBUTES} | {"data": parsed}
    for name in ("specversion", "id", "source", "type"):
        require(is_text(envelope.get(name)), "invalid_envelope")
    require(envelope["specversion"] == "1.0", "invalid_envelope")
    tenant_id = envelope.get("tenantid")
    if tenant_id is None:
        tenant_id = limits.default_tenant
    require(is_text(tenant_id), "invalid_envelope")
    time = time_of(envelope.get("time"), timestamp_ms)
    require(envelope["type"] in kinds, "unexpected_type")
    data = data_of(envelope["type"], envelope.get("data"))
    require(time <= now + limits.max_future, "future_time")
    return events.Event(
        tenant_id=tenant_id,
        source=envelope["source"],
        id=envelope["id"],
        type=envelope["type"],
        time=time,
        data=data,
        traceparent=trace(headers.get("traceparent")),
        tracestate=trace(headers.get("tracestate")),
    )


def require(holds: bool, reason: str) -> None:
    if not holds:
        raise Refused(reason)


def parse(value: bytes) -> Any:
    """Return what JSON says, numbers as they are written; half a surrogate pair anywhere is no JSON here."""
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
    digits = (parts[6] or ".")[1:].ljust(7, "0")
    microseconds = int(digits[:6]) + (digits[6] >= "5")
    time = datetime(year, month, day, hour, minute, second, tzinfo=UTC) + timedelta(microseconds=microseconds)
    offset = parts[7] or "Z"
    if offset in "Zz":
        return time
    ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6]))
    return time - ahead if offset[0] == "+" else time + ahead


def data_of(kind: str, data: object) -> events.GoalData | events.LifecycleData:
    if not isinstance(data, dict):
        raise Refused("invalid_data")
    required, optional = FIELDS[kind]
    present = {name: data[name] for name in required + optional if data.get(name) is not None}
    require(present.keys() >= set(required), "invalid_data")
    if kind == "contact.tag.added":
        require(len(present) > 1, "invalid_data")
    return events.DATA_OF_TYPE[kind](**{name: field_of(name, value) for name, value in present.items()})


def field_of(name: str, value: object) -> Any:
    if name == "amount":
        return amount_of(value)
    if name == "product_ids":
        require(isinstance(value, list) and len(value) <= 1000 and all(map(is_text, value)), "invalid_data")
        return tuple(value) if isinstance(value, list) else None
    require(is_text(value), "invalid_data")
    if name == "currency":
        require(re.fullmatch("[A-Za-z]{3}", str(value)) is not None, "invalid_data")
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
