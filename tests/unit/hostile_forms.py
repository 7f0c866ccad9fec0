"""Nasty records in the forms that senders use beside those by the book, each with what must come of it."""

import base64
import json
from collections.abc import Callable
from typing import Final

from tests.kit.hostile import BATCH, EVENT, FORM, GOOD, MARK, Headers, Record, ce_headers, headers, raw

DATA_TOKEN: Final = b'"data": ' + FORM


def coded(name: str, outcome: str, token: bytes) -> Record:
    """A good record whose data is in base64, written so."""
    return raw(f"base64: {name}", outcome, DATA_TOKEN, b'"data_base64": ' + token)


def base64_of(value: bytes) -> bytes:
    return b'"' + base64.b64encode(value) + b'"'


BASE64: Final = (
    coded("JSON", "event", base64_of(FORM)),
    coded("JSON with a byte order mark", "event", base64_of(MARK + FORM)),
    coded("with escapes", "event", base64_of(FORM).replace(b"/", rb"\/").replace(b"e", rb"\u0065")),
    coded("beside data", "event", base64_of(b"{}") + b", " + DATA_TOKEN),
    coded("beside data, and wrong", "event", b"17, " + DATA_TOKEN),
    coded("beside null", "event", base64_of(FORM) + b', "data": null'),
    coded("empty", "invalid_data", b'""'),
    coded("null", "invalid_data", b"null"),
    coded("a number", "invalid_data", b"17"),
    coded("an object", "invalid_data", FORM),
    coded("without padding", "invalid_data", base64_of(FORM + b" ").replace(b"=", b"")),
    coded("padding in the middle", "invalid_data", b'"e30=e30="'),
    coded("of URLs", "invalid_data", base64_of(b'{"a": "\xc3\xbf\xc3\xbf\xc3\xbf>>>???"}').replace(b"/", b"_")),
    coded("a line feed in it", "invalid_data", base64_of(FORM).replace(b"b", b"b\\n", 1)),
    coded("not ASCII", "invalid_data", '"客户客户"'.encode()),
    coded("no JSON", "invalid_data", base64_of(b"contact_id=c-1")),
    coded("half an object", "invalid_data", base64_of(FORM[:-1])),
    coded("wrong UTF-8", "invalid_data", base64_of(b'{"\xff": 1}')),
    coded("JSON twice", "invalid_data", base64_of(FORM + FORM)),
    coded("base64 in base64", "invalid_data", base64_of(base64_of(FORM))),
    coded("Avro", "invalid_data", base64_of(b"\x00\x00\x00\x00\x01abc")),
    coded("100,000 brackets", "invalid_data", base64_of(b"[" * 100_000)),
    coded("a field is missing", "invalid_data", base64_of(b'{"contact_id": "c-1"}')),
    coded("an array of one", "invalid_data", base64_of(b"[" + FORM + b"]")),
    headers("base64, binary", "invalid_data", ce_headers(data_base64=base64_of(FORM)), b"null"),
)


def respelled(change: Callable[[str], str]) -> Headers:
    """Return the headers of a good binary event in another spelling."""
    return tuple((change(name), text) for name, text in ce_headers())


def upper(name: str) -> str:
    return name.upper()


def dashed(name: str) -> str:
    return name.replace("_", "-")


SPELLINGS: Final = (
    headers("binary, in upper case", "event", respelled(upper), FORM),
    headers("binary, in title case", "event", respelled(str.title), FORM),
    headers("binary, with dashes", "event", respelled(dashed), FORM),
    headers("binary, with dashes in upper case", "event", respelled(lambda name: dashed(name).upper()), FORM),
    headers("binary, mixed", "event", (*ce_headers()[:3], *respelled(dashed)[3:]), FORM),
    headers("binary, with dots", "invalid_envelope", respelled(lambda name: name.replace("_", ".")), FORM),
    headers("binary, the last spelling counts", "event", (*ce_headers(id=b"\xff"), ("CE-ID", b"9")), FORM),
    headers("binary, the last spelling is wrong", "invalid_envelope", (*ce_headers(), ("Ce_Id", b"\xff")), FORM),
    headers("binary, the first one again", "event", (("ce_id", b"1"), ("CE_ID", b"\xff"), *ce_headers()), FORM),
    headers("structured, and binary in another spelling", "invalid_data", respelled(dashed)),
    headers("structured, in another spelling", "event", (("Content-Type", EVENT[1]), *ce_headers(id=b""))),
    headers("a batch in another spelling", "invalid_envelope", (("Content-Type", BATCH[1]),)),
    headers("binary, empty time and tenant", "invalid_envelope", ce_headers(time=b"", tenantid=b""), FORM),
    headers("binary, empty time", "event", ce_headers(time=b""), FORM),
    headers("binary, empty id", "invalid_envelope", ce_headers(id=b""), FORM),
    headers("binary, a byte order mark", "event", ce_headers(), MARK + FORM),
    headers("binary, an array of one", "invalid_data", ce_headers(), b"[" + FORM + b"]"),
    headers("a name of 100,000 letters", "event", (("X" * 100_000, b""), *ce_headers()), FORM),
)

MARKED: Final = (
    headers("a byte order mark", "event", (), MARK + GOOD),
    headers("two byte order marks", "invalid_json", (), MARK + MARK + GOOD),
    headers("half a byte order mark", "invalid_json", (), MARK[:2] + GOOD),
    headers("a byte order mark alone", "invalid_json", (), MARK),
    headers("a byte order mark in a text", "event", (), GOOD.replace(b'"c-1"', b'"' + MARK + b'c-1"')),
    headers("a byte order mark and a schema registry's prefix", "invalid_json", (), MARK + b"\x00\x00\x00\x00\x01"),
    headers("an array of one event", "event", (), b" [ " + GOOD + b" ] "),
    headers("an array of one event, in base64", "event", (), b"[" + BASE64[0].value + b"]"),
    headers("an array of one event that calls itself a batch", "event", (BATCH,), b"[" + GOOD + b"]"),
    headers("an array of one event that calls itself one", "event", (EVENT,), b"[" + GOOD + b"]"),
    headers("an array of two events", "invalid_envelope", (), b"[" + GOOD + b"," + GOOD + b"]"),
    headers("a batch of two events", "invalid_envelope", (BATCH,), b"[" + GOOD + b"," + GOOD + b"]"),
    headers("an array in an array", "invalid_envelope", (), b"[[" + GOOD + b"]]"),
    headers("an array of one number", "invalid_envelope", (), b"[7]"),
    headers("an array of one event and a comma", "invalid_json", (), b"[" + GOOD + b",]"),
    headers("an array of 30,000 nulls", "invalid_envelope", (), b"[" + b"null," * 30_000 + b"null]"),
    headers("a batch that is not JSON", "invalid_json", (BATCH,), b"["),
    headers("Connect's wrapper", "invalid_envelope", (), b'{"schema": {}, "payload": ' + FORM + b"}"),
    headers("Connect's wrapper around an event", "invalid_envelope", (), b'{"schema": {}, "payload": ' + GOOD + b"}"),
    headers("binary, in Connect's wrapper", "invalid_data", ce_headers(), b'{"payload": {}, "schema": null}'),
    headers("a text with an event in it", "invalid_envelope", (), json.dumps(GOOD.decode()).encode()),
)

TRACES: Final = tuple(
    headers(f"trace: {name}", "event", given, GOOD.replace(b'"tenantid"', attributes + b'"tenantid"'))
    for name, given, attributes in (
        ("attributes", (), b'"traceparent": "00-a", "tracestate": "a=1", '),
        ("attributes that are null or empty", (), b'"traceparent": null, "tracestate": "", '),
        ("attributes of other types", (), b'"traceparent": 17, "tracestate": ["a=1"], '),
        ("attributes out of bounds", (), b'"traceparent": "' + b"x" * 513 + rb'", "tracestate": "\u0000", '),
        ("attributes with half a surrogate's neighbour", (), b'"traceparent": "\xf0\x9f\x98\x80", '),
        ("1e400", (), b'"traceparent": 1e400, "tracestate": ' + b"9" * 5000 + b", "),
        ("header before attribute", (("traceparent", b"00-h"),), b'"traceparent": "00-a", "tracestate": "a=1", '),
        ("ce_ header before attribute", (("ce_traceparent", b"00-c"),), b'"traceparent": "00-a", '),
        ("header before ce_ header", (("ce_traceparent", b"00-c"), ("traceparent", b"00-h")), b""),
        ("a bad header, then ce_", (("ce-traceparent", b"00-c"), ("Traceparent", b"\xff")), b""),
        ("an empty header, then ce_", (("CE_tracestate", b"a=1"), ("tracestate", b"")), b""),
        ("bad headers, then an attribute", (("traceparent", b"\n"), ("ce_traceparent", None)), b'"traceparent": "a", '),
    )
)

DOCUMENTS: Final = BASE64 + SPELLINGS + TRACES
"""Each a document that its schema can judge."""

OTHERS: Final = MARKED
"""Forms that no schema tells of."""
