"""Nasty records for settings that are not those by default: the tenant elsewhere, and values without an envelope."""

import json
from dataclasses import replace
from typing import Final

from msgspec.structs import replace as replace_struct

from goalworker.decoding.limits import Limits
from goalworker.domain import events
from tests.kit.hostile import DATA, EVENT, FORM, GOOD, GOOD_TIME, MARK, Record, ce_headers, headers, without


def tenant(name: str, outcome: str, tenant_from: str, record: Record, key: bytes | None = None) -> Record:
    """A record whose tenant is elsewhere."""
    limits = replace_struct(record.limits, tenant_from=tenant_from)
    return replace(record, name=f"{tenant_from}: {name}", outcome=outcome, limits=limits, key=key)


NOWHERE: Final = without("", "", "tenantid")
NO_HEADER: Final = headers("", "", ce_headers(tenantid=None), FORM)
H_TENANT: Final = "header:X-Tenant"


def with_headers(record: Record, *given: tuple[str, bytes | None]) -> Record:
    return replace(record, headers=record.headers + given)


def subject(token: bytes, record: Record = NOWHERE) -> Record:
    return replace(record, value=record.value.replace(b'"id"', b'"subject": ' + token + b', "id"'))


TENANTS: Final = (
    tenant("a text", "event", "subject", subject(b'"south"')),
    tenant("none", "invalid_envelope", "subject", NOWHERE),
    tenant("null", "invalid_envelope", "subject", subject(b"null")),
    tenant("empty", "invalid_envelope", "subject", subject(b'""')),
    tenant("a number", "invalid_envelope", "subject", subject(b"17")),
    tenant("a line feed", "invalid_envelope", "subject", subject(rb'"a\n"')),
    tenant("256 letters", "invalid_envelope", "subject", subject(b'"' + b"x" * 256 + b'"')),
    tenant("a wrong one beside a tenant", "event", "subject", subject(b"17", headers("", "", (), GOOD))),
    tenant("a header", "event", "subject", with_headers(NO_HEADER, ("ce_subject", b"south"))),
    tenant("a header of wrong bytes", "invalid_envelope", "subject", with_headers(NO_HEADER, ("ce-subject", b"\xff"))),
    tenant("a text", "event", H_TENANT, with_headers(NOWHERE, ("X-Tenant", b"south"))),
    tenant("another case", "event", H_TENANT, with_headers(NOWHERE, ("x-tenant", "süd".encode()))),
    tenant("the usual headers too", "event", H_TENANT, with_headers(NOWHERE, EVENT, ("x-TENANT", b"south"))),
    tenant("binary", "event", H_TENANT, with_headers(NO_HEADER, ("X-Tenant", b"south"))),
    tenant("twice", "event", H_TENANT, with_headers(NOWHERE, ("X-Tenant", b"\xff"), ("x-tenant", b"south"))),
    tenant("none", "invalid_envelope", H_TENANT, NOWHERE),
    tenant("empty", "invalid_envelope", H_TENANT, with_headers(NOWHERE, ("X-Tenant", b""))),
    tenant("null", "invalid_envelope", H_TENANT, with_headers(NOWHERE, ("X-Tenant", None))),
    tenant("wrong bytes", "invalid_envelope", H_TENANT, with_headers(NOWHERE, ("X-Tenant", b"\xff"))),
    tenant("NUL", "invalid_envelope", H_TENANT, with_headers(NOWHERE, ("X-Tenant", b"\x00"))),
    tenant("256 bytes", "invalid_envelope", H_TENANT, with_headers(NOWHERE, ("X-Tenant", b"x" * 256))),
    tenant("wrong bytes beside a tenant", "event", H_TENANT, headers("", "", (("X-Tenant", b"\xff"),))),
    tenant("a tenant", "event", "key-prefix", NOWHERE, b"south:c-1"),
    tenant("percent-encoded", "event", "key-prefix", NOWHERE, b"s%C3%BCd%3a1:c-1"),
    tenant("binary", "event", "key-prefix", NO_HEADER, b"south:"),
    tenant("a percent sign alone", "event", "key-prefix", NOWHERE, b"100%:%"),
    tenant("no key", "invalid_envelope", "key-prefix", NOWHERE),
    tenant("no colon", "invalid_envelope", "key-prefix", NOWHERE, b"south"),
    tenant("an empty prefix", "invalid_envelope", "key-prefix", NOWHERE, b":c-1"),
    tenant("an encoded NUL", "invalid_envelope", "key-prefix", NOWHERE, b"%00:c-1"),
    tenant("encoded wrong bytes", "invalid_envelope", "key-prefix", NOWHERE, b"%ff:c-1"),
    tenant("wrong bytes", "invalid_envelope", "key-prefix", NOWHERE, b"\xff:c-1"),
    tenant("a megabyte", "invalid_envelope", "key-prefix", NOWHERE, b"x" * 1_048_576 + b":"),
    tenant("wrong bytes beside a tenant", "event", "key-prefix", headers("", "", (), GOOD), b"\xff:"),
)

PLAIN_LIMITS: Final = Limits(plain_json=True, default_tenant="south", plain_id="Event-Id")


def plain(
    name: str, outcome: str, value: bytes, *given: tuple[str, bytes | None], kind: str = "form.submitted"
) -> Record:
    """A value without an envelope."""
    return Record(f"plain: {name}", outcome, value, kind, given, limits=PLAIN_LIMITS)


def says(**fields: object) -> bytes:
    """A good value without an envelope that says more than its data."""
    return json.dumps(DATA["form.submitted"] | fields).encode()


def wrapped(payload: bytes) -> bytes:
    return b'{"schema": {"type": "struct"}, "payload": ' + payload + b"}"


def as_text(value: bytes) -> bytes:
    return json.dumps(value.decode()).encode()


PLAIN: Final = (
    plain("an object", "event", FORM),
    *(
        plain(f"every goal type: {kind}", "event", json.dumps(DATA[kind]).encode(), kind=kind)
        for kind in events.GOAL_EVENT_TYPES
    ),
    plain(
        "a lifecycle topic",
        "invalid_envelope",
        json.dumps(DATA["workflow.activated"]).encode(),
        kind="workflow.activated",
    ),
    plain("an event all the same", "event", GOOD),
    plain("an event of another version", "invalid_envelope", GOOD.replace(b'"1.0"', b'"0.3"')),
    plain("an event without specversion", "invalid_data", GOOD.replace(b'"specversion": "1.0", ', b"")),
    plain("binary", "event", FORM, *ce_headers()),
    plain("binary, for want of ce_specversion", "invalid_envelope", FORM, ("ce_id", b"1")),
    plain("an unknown ce_ header", "invalid_envelope", FORM, ("CE-other", None)),
    plain("calls itself an event", "invalid_envelope", FORM, EVENT),
    plain("calls itself JSON", "event", FORM, ("content-type", b"application/json")),
    plain("a byte order mark", "event", MARK + FORM),
    plain("an array of one", "event", b"[" + FORM + b"]"),
    plain("an array of two", "invalid_envelope", b"[" + FORM + b"," + FORM + b"]"),
    plain("a number", "invalid_data", b"17"),
    plain("a null", "invalid_data", b"null"),
    plain("not JSON", "invalid_json", FORM[:-1]),
    plain("a schema registry's prefix", "unsupported_wire_format", b"\x00\x00\x00\x00\x01" + FORM),
    plain("2 MiB", "too_large", b'{"a": "' + b"x" * 2_097_152 + b'"}'),
    plain("a field is missing", "invalid_data", b'{"contact_id": "c-1"}'),
    plain("an id", "event", says(id="a-1")),
    plain("an integer as id", "event", says(id=-4711)),
    plain("300 digits as id", "invalid_envelope", says(id=10**300)),
    plain("5,000 digits as id", "invalid_envelope", b'{"id": ' + b"9" * 5000 + b"," + FORM[1:]),
    plain("a fraction as id", "invalid_envelope", says(id=1.5)),
    plain("an exponent as id", "invalid_envelope", b'{"id": 1e3,' + FORM[1:]),
    plain("true as id", "invalid_envelope", says(id=True)),
    plain("an object as id", "invalid_envelope", says(id={"$oid": "1"})),
    plain("an empty id", "event", says(id="")),
    plain("a null id", "event", says(id=None)),
    plain("NUL in the id", "invalid_envelope", says(id="\x00")),
    plain("a header as id", "event", says(id={}), ("event-id", b"h-1")),
    plain("a header as id, in its case", "event", FORM, ("Event-Id", b"h-1")),
    plain("an empty header as id", "event", says(id="a-1"), ("event-id", b"")),
    plain("wrong bytes as id", "invalid_envelope", says(id="a-1"), ("event-id", b"\xff")),
    plain("NUL in the header", "invalid_envelope", says(id="a-1"), ("event-id", b"\x00")),
    plain("another header named id", "event", FORM, ("id", b"\xff")),
    plain("a time", "event", says(time=GOOD_TIME)),
    plain("second 60", "event", says(time="2026-05-01T11:00:60Z")),
    plain("an empty time", "event", says(time="")),
    plain("a bad time", "invalid_envelope", says(time="noon")),
    plain("a time as a number", "invalid_envelope", says(time=1_777_632_000)),
    plain("a time to come", "future_time", says(time="2026-05-01T13:00:00Z")),
    plain("a tenant", "event", says(tenantid="north")),
    plain("a tenant as a number", "invalid_envelope", says(tenantid=1)),
    plain("a trace", "event", says(traceparent="00-a", tracestate=7), ("tracestate", b"a=1")),
    plain("a source and a type", "event", says(source="\x00", type=7)),
    plain("data_base64", "event", says(data_base64="e30=")),
    plain("data in data", "invalid_data", b'{"data": ' + FORM + b"}"),
    plain("Connect's wrapper", "event", wrapped(FORM)),
    plain("Connect's wrapper without a schema", "event", b'{"payload": ' + FORM + b', "schema": null}'),
    plain("Connect's wrapper and more", "invalid_data", wrapped(FORM)[:-1] + b', "x": 1}'),
    plain("Connect's wrapper around null", "invalid_data", wrapped(b"null")),
    plain("Connect's wrapper around a wrapper", "invalid_data", wrapped(wrapped(FORM))),
    plain("Connect's wrapper around a text", "event", wrapped(as_text(FORM))),
    plain("Connect's wrapper around an event", "event", wrapped(GOOD)),
    plain("Connect's wrapper around an event in a text", "event", wrapped(as_text(GOOD))),
    plain("Connect's wrapper around no event", "invalid_envelope", wrapped(as_text(GOOD.replace(b'"/crm"', b"7")))),
    plain("Connect's wrapper in binary", "invalid_data", wrapped(FORM), *ce_headers()),
    plain("a text", "event", as_text(FORM)),
    plain("a text that is not JSON", "invalid_data", b'"form"'),
    plain("an empty text", "invalid_data", b'""'),
    plain("a text in a text", "invalid_data", as_text(as_text(FORM))),
    plain("a text of 100,000 brackets", "invalid_data", as_text(b"[" * 100_000)),
    plain("a text with a list", "invalid_data", as_text(b"[" + FORM + b"]")),
    *(
        tenant(f"plain {name}", outcome, place, plain("", "", says(**fields), *given), key)
        for name, outcome, place, fields, given, key in (
            ("with a subject", "event", "subject", {"subject": "west"}, (), None),
            ("with a bad subject", "invalid_envelope", "subject", {"subject": 7}, (), None),
            ("with a header", "event", H_TENANT, {}, (("x-tenant", b"west"),), None),
            ("with a key", "event", "key-prefix", {}, (), b"west:c-1"),
            ("without a key, by default", "event", "key-prefix", {}, (), None),
        )
    ),
)

CORPUS: Final = TENANTS + PLAIN
"""Records for settings that are not those by default."""
