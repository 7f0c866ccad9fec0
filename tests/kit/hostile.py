"""Hostile records, each with its expected outcome: `event`, a reason of contract section 4, or why it is skipped."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from goalworker.decoding.limits import Limits
from goalworker.domain import events

NOW: Final = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
TIMESTAMP_MS: Final = int(NOW.timestamp() * 1000)
GOOD_TIME: Final = "2026-05-01T11:59:59Z"

LIFECYCLE_TYPES: Final = frozenset(kind for kind in events.DATA_OF_TYPE if kind.startswith("workflow."))
KINDS: Final = {
    "tag-added": frozenset({"contact.tag.added"}),
    "payment-completed": frozenset({"payment.completed", "payment.refunded", "payment.failed"}),
    "appointment-booked": frozenset({"appointment.booked", "appointment.cancelled"}),
    "form-submitted": frozenset({"form.submitted", "form.rejected"}),
    "stage-changed": frozenset({"pipeline.stage.changed"}),
    "workflow-lifecycle": LIFECYCLE_TYPES,
}
TOPIC_OF_KIND: Final = {kind: topic for topic, kinds in KINDS.items() for kind in kinds}
DATA: Final[dict[str, dict[str, Any]]] = {
    "contact.tag.added": {"contact_id": "c-1", "tag_id": "t-1", "tag_name": "Customer", "correlation_id": "o-1"},
    "payment.completed": {
        "contact_id": "c-1",
        "payment_id": "p-1",
        "amount": "129.90",
        "currency": "EUR",
        "product_ids": ["sku-1", "sku-2"],
        "correlation_id": "o-1",
    },
    "payment.refunded": {
        "contact_id": "c-1",
        "payment_id": "p-1",
        "refund_id": "r-1",
        "amount": "129.90",
        "currency": "EUR",
    },
    "payment.failed": {"contact_id": "c-1", "payment_id": "p-1"},
    "appointment.booked": {
        "contact_id": "c-1",
        "appointment_id": "a-1",
        "calendar_id": "cal-1",
        "service_id": "s-1",
        "starts_at": "2026-06-01T09:00",
        "replaces_appointment_id": "a-0",
        "correlation_id": "o-1",
    },
    "appointment.cancelled": {"contact_id": "c-1", "appointment_id": "a-1"},
    "form.submitted": {"contact_id": "c-1", "form_id": "f-1", "submission_id": "s-1", "correlation_id": "o-1"},
    "form.rejected": {"contact_id": "c-1", "submission_id": "s-1"},
    "pipeline.stage.changed": {
        "contact_id": "c-1",
        "pipeline_id": "pl-1",
        "stage_id": "st-2",
        "previous_stage_id": "st-1",
        "deal_id": "d-1",
        "correlation_id": "o-1",
    },
    "workflow.enrollment.started": {
        "workflow_id": "w-1",
        "enrollment_id": "e-1",
        "contact_id": "c-1",
        "correlation_id": "o-1",
        "started_by": {"source": "/crm", "id": "1"},
    },
    "workflow.enrollment.ended": {"workflow_id": "w-1", "enrollment_id": "e-1", "contact_id": "c-1", "reason": "done"},
    "workflow.activated": {"workflow_id": "w-1"},
    "workflow.deactivated": {"workflow_id": "w-1"},
}

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True)
class Record:
    """Record with its expected outcome."""

    name: str
    outcome: str
    value: bytes
    kind: str = "form.submitted"
    headers: Headers = ()
    timestamp_ms: int = TIMESTAMP_MS
    key: bytes | None = None
    limits: Limits = field(default=Limits())

    @property
    def topic(self) -> str:
        return TOPIC_OF_KIND[self.kind]


def envelope(kind: str, data: object, **attributes: object) -> dict[str, Any]:
    """Return a valid envelope around data, with some attributes replaced."""
    good = {"specversion": "1.0", "id": "1", "source": "/crm", "type": kind, "time": GOOD_TIME, "tenantid": "north"}
    return {**good, **attributes, "data": data}


def structured(name: str, outcome: str, **attributes: object) -> Record:
    """Return a form.submitted with some attributes replaced."""
    value = envelope("form.submitted", DATA["form.submitted"], **attributes)
    return Record(name, outcome, json.dumps(value).encode())


def without(name: str, outcome: str, attribute: str, timestamp_ms: int = TIMESTAMP_MS) -> Record:
    """Return a form.submitted that lacks an attribute."""
    value = envelope("form.submitted", DATA["form.submitted"])
    del value[attribute]
    return Record(name, outcome, json.dumps(value).encode(), timestamp_ms=timestamp_ms)


def raw(name: str, outcome: str, old: bytes, new: bytes, kind: str = "form.submitted") -> Record:
    """Return a valid record in which some bytes are replaced."""
    value = json.dumps(envelope(kind, DATA[kind])).encode()
    if value.count(old) != 1:
        raise AssertionError(f"{old!r} must be there once for {name}")
    return Record(name, outcome, value.replace(old, new), kind)


def data(name: str, outcome: str, kind: str = "form.submitted", **fields: object) -> Record:
    """Return a valid record with other data fields."""
    return Record(name, outcome, json.dumps(envelope(kind, {**DATA[kind], **fields})).encode(), kind)


def amount(token: bytes, outcome: str) -> Record:
    """Return a payment with this text as its amount."""
    return raw(f"amount {token[:30].decode()}", outcome, b'"129.90"', token, "payment.completed")


def time(text: str, outcome: str) -> Record:
    """Return a form.submitted with this time."""
    return structured(f"time {text[:40]}", outcome, time=text)


def ce_headers(kind: str = "form.submitted", **others: bytes | None) -> Headers:
    """Return the headers of a valid binary event, with some attributes replaced."""
    attributes = envelope(kind, None)
    del attributes["data"]
    good = {name: str(text).encode() for name, text in attributes.items()}
    return tuple((f"ce_{name}", text) for name, text in {**good, **others}.items())


def headers(name: str, outcome: str, given: Headers, value: bytes | None = None) -> Record:
    """Return a valid structured record with these headers, or with this value."""
    good = json.dumps(envelope("form.submitted", DATA["form.submitted"])).encode()
    return Record(name, outcome, good if value is None else value, headers=given)


FORM: Final = json.dumps(DATA["form.submitted"]).encode()
GOOD: Final = json.dumps(envelope("form.submitted", DATA["form.submitted"])).encode()
MARK: Final = b"\xef\xbb\xbf"


def unknown(name: str, outcome: str, token: bytes) -> Record:
    """Return a valid record with one more attribute, written like this."""
    return raw(f"unknown attribute: {name}", outcome, b'"tenantid"', b'"unknown": ' + token + b', "tenantid"')


WIRE: Final = (
    headers("empty body", "invalid_json", (), b""),
    headers("blanks", "invalid_json", (), b" \n\t"),
    headers("half an object", "invalid_json", (), FORM[:-1]),
    headers("a null", "invalid_envelope", (), b"null"),
    headers("an array", "invalid_envelope", (), b"[]"),
    headers("half an array", "invalid_json", (), b"[1, 2"),
    headers("a number", "invalid_envelope", (), b"42"),
    headers("a string", "invalid_envelope", (), b'"form.submitted"'),
    headers("an empty object", "invalid_envelope", (), b"{}"),
    headers("a schema registry's prefix", "unsupported_wire_format", (), b"\x00\x00\x00\x00\x01" + FORM),
    headers("one zero byte", "unsupported_wire_format", (), b"\x00"),
    headers("a byte order mark and no envelope", "invalid_envelope", (), MARK + FORM),
    headers("UTF-16", "invalid_json", (), '{"a": 1}'.encode("utf-16-be")[1:]),
    headers("two values", "invalid_json", (), b"{} {}"),
    headers("100,000 brackets", "invalid_json", (), b"[" * 100_000),
    headers("100,000 braces", "invalid_json", (), b'{"a":' * 100_000),
    headers("a comment", "invalid_json", (), b"/* */ {}"),
    headers("single quotes", "invalid_json", (), b"{'a': 1}"),
    headers("2 MiB", "too_large", (), b'{"a": "' + b"x" * 2_097_152 + b'"}'),
    raw("a trailing comma", "invalid_json", b"}}", b"},}"),
    raw("Latin-1 in a text", "invalid_json", b'"c-1"', b'"M\xfcller"'),
    raw("an encoded surrogate in a text", "invalid_json", b'"c-1"', b'"\xed\xa0\x80"'),
    raw("an overlong NUL", "invalid_json", b'"c-1"', b'"\xc0\x80"'),
    raw("a bare line feed in a text", "invalid_json", b'"c-1"', b'"c\n1"'),
    raw("an unknown escape", "invalid_json", b'"c-1"', rb'"\x41"'),
)

IGNORED: Final = (
    unknown("null", "event", b"null"),
    unknown("1e400", "event", b"1e400"),
    unknown("beyond int64", "event", b"9223372036854775808"),
    unknown("5,000 digits", "event", b"9" * 5000),
    unknown("a number that is nearly none", "event", b"1e-999999999"),
    unknown("200 brackets", "event", b"[" * 200 + b"]" * 200),
    unknown("an escaped NUL", "event", rb'"\u0000"'),
    unknown("a control character", "event", rb'"\u001b[2J"'),
    unknown("Chinese", "event", '"客户"'.encode()),
    unknown("NaN", "invalid_json", b"NaN"),
    unknown("Infinity", "invalid_json", b"-Infinity"),
    unknown("a number with a leading zero", "invalid_json", b"007"),
    unknown("hexadecimal", "invalid_json", b"0x10"),
    unknown("wrong UTF-8", "invalid_json", b'"\xff"'),
    unknown("half a surrogate pair", "invalid_json", rb'"\ud83d"'),
    raw("a key in wrong UTF-8", "invalid_json", b'"tenantid"', b'"\xff": 1, "tenantid"'),
    raw("a key that comes twice, right at last", "event", b'"id": "1"', b'"id": 5, "id": "1"'),
    raw("a key that comes twice, wrong at last", "invalid_envelope", b'"id": "1"', b'"id": "1", "id": 5'),
    raw("data twice, right at last", "event", b'"data": ', b'"data": 7, "data": '),
    raw("a key that is escaped", "event", b'"id": "1"', rb'"\u0069d": "1"'),
    raw("a field of another type", "event", b'"w-1"', b'"w-1", "enrollment_id": 5', "workflow.activated"),
)

ENVELOPES: Final = (
    structured("specversion 0.3", "invalid_envelope", specversion="0.3"),
    structured("specversion 1", "invalid_envelope", specversion=1.0),
    without("no specversion", "invalid_envelope", "specversion"),
    without("no id", "invalid_envelope", "id"),
    without("no source", "invalid_envelope", "source"),
    without("no type", "invalid_envelope", "type"),
    without("no tenant", "invalid_envelope", "tenantid"),
    without("no data", "invalid_data", "data"),
    without("no time", "event", "time"),
    without("no time anywhere", "invalid_envelope", "time", timestamp_ms=-1),
    without("no time, and the record is ahead", "future_time", "time", timestamp_ms=TIMESTAMP_MS + 300_001),
    without("no time, and the record is beyond all calendars", "invalid_envelope", "time", timestamp_ms=2**63 - 1),
    structured("null id", "invalid_envelope", id=None),
    structured("empty id", "invalid_envelope", id=""),
    structured("numeric id", "invalid_envelope", id=1),
    structured("NUL in the id", "invalid_envelope", id="a\x00"),
    structured("DEL in the id", "invalid_envelope", id="a\x7f"),
    structured("a C1 control in the source", "invalid_envelope", source="a\x85"),
    structured("an emoji as tenant", "event", tenantid="\U0001f600"),
    structured("256 letters as id", "invalid_envelope", id="x" * 256),
    structured("255 letters as id", "event", id="x" * 255),
    structured("128 letters of two bytes as id", "invalid_envelope", id="é" * 128),
    structured("half a surrogate pair in the id", "invalid_json", id="\udc00"),
    structured("null tenant", "invalid_envelope", tenantid=None),
    structured("empty tenant", "invalid_envelope", tenantid=""),
    structured("another topic's type", "foreign_type", type="payment.completed"),
    structured("an upper-case type", "foreign_type", type="Form.Submitted"),
    structured("an empty type", "invalid_envelope", type=""),
    structured("null time", "event", time=None),
)

TIMES: Final = (
    time("2026-05-01T11:00:00+01:00", "event"),
    time("2026-05-01t11:00:00z", "event"),
    time("2026-05-01T11:00:00-00:00", "event"),
    time("2026-05-01T11:00:00." + "123456789" * 20 + "Z", "event"),
    time("2026-05-01T12:05:00Z", "event"),
    time("2026-05-01T12:05:00.0000004Z", "event"),
    time("2026-05-01T12:05:00.0000005Z", "future_time"),
    time("9999-12-31T23:59:59Z", "future_time"),
    time("0001-01-01T00:00:00Z", "event"),
    time("2026-05-01T11:00:00", "invalid_envelope"),
    time("2026-05-01 11:00:00Z", "invalid_envelope"),
    time("2026-05-01T11:00:00+0100", "invalid_envelope"),
    time("2026-05-01T11:00:00+01", "invalid_envelope"),
    time("2026-05-01T11:00:00,5Z", "invalid_envelope"),
    time("2026-05-01T11:00:00.Z", "invalid_envelope"),
    time("2026-05-01T11:00Z", "invalid_envelope"),
    time("2026-05-01", "invalid_envelope"),
    time("20260501T110000Z", "invalid_envelope"),
    time("2026-02-29T00:00:00Z", "invalid_envelope"),
    time("2026-05-01T24:00:00Z", "invalid_envelope"),
    time("2026-05-01T11:59:60Z", "event"),
    time("2026-04-30T23:59:60.9999999+00:00", "event"),
    time("2026-05-01T12:04:60Z", "event"),
    time("2026-05-01T12:04:60.000001Z", "future_time"),
    time("2026-05-01T11:00:61Z", "invalid_envelope"),
    time("2026-05-01T11:60:60Z", "invalid_envelope"),
    time("2026-05-01T11:00:60", "invalid_envelope"),
    time("9999-12-31T23:59:60Z", "invalid_envelope"),
    time("2026-05-01T11:00:00+24:00", "invalid_envelope"),
    time("0000-01-01T00:00:00Z", "invalid_envelope"),
    time("0001-01-01T00:00:00+00:01", "invalid_envelope"),
    time("9999-12-31T23:59:59-00:01", "invalid_envelope"),
    time("9999-12-31T23:59:59.9999999Z", "invalid_envelope"),
    time("٢٠٢٦-05-01T11:00:00Z", "invalid_envelope"),
    time(" 2026-05-01T11:00:00Z", "invalid_envelope"),
    time("now", "invalid_envelope"),
    time("", "event"),
    structured("time as a number", "invalid_envelope", time=1_777_632_000),
)

AMOUNTS: Final = (
    *(amount(token, "event") for token in (b"0", b"-0", b"-0.0", b"129.90", b"1e2", b"1E+15", b"0e9999")),
    *(amount(token, "event") for token in (b"1000000000000000", b"0.000000000000000001", b"1e-18", b'"007.50"')),
    *(amount(token, "event") for token in (b'"1000000000000000.000000000000000000"', rb'"\u0031"')),
    *(amount(token, "invalid_data") for token in (b"-1", b"1e16", b"1000000000000000.1", b"1e400", b"1e-19")),
    *(amount(token, "invalid_data") for token in (b"1e-999999999", b"1e999999999", b"9" * 5000, b"1." + b"0" * 19)),
    *(amount(token, "invalid_data") for token in (b'"NaN"', b'"Infinity"', b'"1_000"', b'"1e2"', b'"-1"', b'"+1"')),
    *(amount(token, "invalid_data") for token in (b'" 1"', b'"1 "', b'".5"', b'"5."', b'"1,5"', b'"0x1"', b'""')),
    *(amount(token, "invalid_data") for token in ('"١٢"'.encode(), rb'"1\u0000"', b"null", b"true", b"[1]", b"{}")),
    *(amount(token, "invalid_json") for token in (b"NaN", b"Infinity", b"01", b"1.", b".5", b"+1", b"1_000", b"1e")),
)

DATA_FIELDS: Final = (
    data("a null that is required", "invalid_data", contact_id=None),
    data("a null that is not", "event", submission_id=None),
    data("an empty text that is not required", "event", submission_id=""),
    data("an empty text that is required", "invalid_data", form_id=""),
    data("an empty tag and a name", "event", "contact.tag.added", tag_id=""),
    data("two empty texts of which one is required", "invalid_data", "contact.tag.added", tag_id="", tag_name=""),
    data("an empty text for products", "invalid_data", "payment.completed", product_ids=""),
    data("an integer for an id", "event", form_id=17),
    data("a list for a text", "invalid_data", form_id=["f-1"]),
    data("NUL in data", "invalid_data", form_id="a\x00b"),
    data("a line feed in data", "invalid_data", contact_id="c\n1"),
    data("256 bytes in data", "invalid_data", contact_id="é" * 128),
    data("254 bytes in data", "event", contact_id="é" * 127),
    data("half a surrogate pair in data", "invalid_json", contact_id="\ud800"),
    data("a whole surrogate pair in data", "event", contact_id="\U0001f600"),
    data("an unknown data field", "event", utm={"source": [1, None]}),
    raw("data as a string", "invalid_data", json.dumps(DATA["form.submitted"]).encode(), b'"{}"'),
    raw("data as a list", "invalid_data", json.dumps(DATA["form.submitted"]).encode(), b"[]"),
    raw("data null", "invalid_data", json.dumps(DATA["form.submitted"]).encode(), b"null"),
    data("a tag without id and name", "invalid_data", "contact.tag.added", tag_id=None, tag_name=None),
    data("a tag with a name only", "event", "contact.tag.added", tag_id=None),
    data("a lower-case currency", "event", "payment.completed", currency="eur"),
    data("a currency of two letters", "invalid_data", "payment.completed", currency="EU"),
    data("a currency with a digit", "invalid_data", "payment.completed", currency="EU1"),
    data("a full-width currency", "invalid_data", "payment.completed", currency="ＥＵＲ"),  # noqa: RUF001 - on purpose
    data("no products", "event", "payment.completed", product_ids=[]),
    data("1,000 products", "event", "payment.completed", product_ids=["p"] * 1000),
    data("1,001 products", "invalid_data", "payment.completed", product_ids=["p"] * 1001),
    data("an empty product", "invalid_data", "payment.completed", product_ids=["p", ""]),
    data("a null product", "event", "payment.completed", product_ids=[None]),
    data("a product with a tab", "invalid_data", "payment.completed", product_ids=["a\tb"]),
    data("products as a text", "invalid_data", "payment.completed", product_ids="sku-1"),
)

BATCH: Final = ("content-type", b"application/cloudevents-batch+json")
EVENT: Final = ("content-type", b"application/cloudevents+json")
HEADERS: Final = (
    headers("a batch", "invalid_envelope", (BATCH,), b"[]"),
    headers("one event that calls itself a batch", "invalid_envelope", (BATCH,)),
    headers("an upper-case batch", "invalid_envelope", (("content-type", b"Application/CloudEvents-Batch+JSON"),)),
    headers("structured, with ce_ headers", "event", (EVENT, *ce_headers(id=b""))),
    headers("structured, in upper case", "event", (("content-type", b"APPLICATION/CLOUDEVENTS"), *ce_headers())),
    headers("structured, with a parameter", "event", ((EVENT[0], EVENT[1] + b"; charset=utf-8"), *ce_headers())),
    headers("structured, for want of ce_specversion", "event", (("content-type", b"text/plain"), ("ce_id", b"\xff"))),
    headers("a content type of wrong bytes", "event", (("content-type", b"\xff\xfe"),)),
    headers("a null content type", "event", (("content-type", None),)),
    headers("unrelated bytes", "event", (("x", b"\xff\x00"), ("y", None), ("", b""), ("ce_other", b"\xff"))),
    headers("ten thousand headers", "event", tuple((f"x-{i}", b"\xff") for i in range(10_000))),
    headers("ten thousand times one header", "event", (("x", b"\xff"),) * 10_000),
    headers("trace headers of wrong bytes", "event", (("traceparent", b"\xff"), ("tracestate", b"a\nb"))),
    headers("binary", "event", ce_headers(), FORM),
    headers("binary, as JSON", "event", (("content-type", b"application/json"), *ce_headers()), FORM),
    headers("binary, without a body", "invalid_json", ce_headers(), b""),
    headers("binary, with half a body", "invalid_json", ce_headers(), FORM[:-1]),
    headers("binary, with two bodies", "invalid_json", ce_headers(), FORM + b"," + FORM),
    headers("binary, with a body that slips out", "invalid_json", ce_headers(), FORM + b', "id": "2"'),
    headers("binary, with a list", "invalid_data", ce_headers(), b"[]"),
    headers("binary, with null", "invalid_data", ce_headers(), b"null"),
    headers("binary, prefixed", "unsupported_wire_format", ce_headers(), b"\x00\x00\x00\x00\x01"),
    headers("binary, specversion 0.3", "invalid_envelope", ce_headers(specversion=b"0.3"), FORM),
    headers("binary, null specversion", "invalid_envelope", ce_headers(specversion=None), FORM),
    headers("binary, wrong UTF-8 in the id", "invalid_envelope", ce_headers(id=b"\xff"), FORM),
    headers("binary, NUL in the id", "invalid_envelope", ce_headers(id=b"a\x00"), FORM),
    headers("binary, a quote in the id", "event", ce_headers(id=b'"\\'), FORM),
    headers("binary, null id", "invalid_envelope", ce_headers(id=None), FORM),
    headers("binary, null time", "event", ce_headers(time=None), FORM),
    headers("binary, a bad time", "invalid_envelope", ce_headers(time=b"yesterday"), FORM),
    headers("binary, another topic's type", "foreign_type", ce_headers(type=b"payment.completed"), FORM),
    headers("binary, the last id counts", "event", (("ce_id", b"\xff"), *ce_headers()), FORM),
    headers("binary, the last id is wrong", "invalid_envelope", (*ce_headers(), ("ce_id", b"\xff")), FORM),
)

CORPUS: Final = WIRE + IGNORED + ENVELOPES + TIMES + AMOUNTS + DATA_FIELDS + HEADERS
"""Records for the settings as they are by default, each a document that its schema can judge."""
