"""Nasty records that are skipped, or nearly so: tests, stages that stay, foreign types (contract section 2)."""

import json
from dataclasses import replace
from typing import Final

from goalworker.decoding.limits import Limits
from tests.kit.hostile import DATA, FORM, GOOD, GOOD_TIME, Record, ce_headers, data, headers, raw
from tests.unit.hostile_fields import DEEP, GOAL_KINDS, REVERSAL_KINDS

TESTABLE_KINDS: Final = (*GOAL_KINDS, *REVERSAL_KINDS)

TIMELESS: Final = GOOD.replace(b'"%s"' % GOOD_TIME.encode(), b"null")
LATE: Final = GOOD.replace(GOOD_TIME.encode(), b"2036-05-01T12:00:00Z")
# Values of `test` that make no test: an unknown field may hold anything.
NO_TESTS: Final = (
    *(b"null", b"false", b"0", b"1", b"-0.0", b"1e400", b"9" * 5000, b'""', b'"true"', b'"yes"', b'"\xc3\xa9"'),
    *(rb'"\u0000"', b"[true]", b'{"test": true}', DEEP, b"[]", b"{}", b'true, "test": false', b'true, "test": null'),
)
COUNTED: Final = Limits(test_events="count")
REFUSED: Final = Limits(foreign_types="dead_letter")


def flagged(kind: str, token: bytes, outcome: str) -> Record:
    """A good record that says so whether it is a test."""
    good = f'"contact_id": "{DATA[kind]["contact_id"]}"'.encode()
    return raw(f"{kind}: test {token[:20]!r}", outcome, good, good + b', "test": ' + token, kind)


def stage(name: str, outcome: str, **fields: object) -> Record:
    """A good stage event with other fields."""
    return data(f"stage: {name}", outcome, "pipeline.stage.changed", **fields)


def foreign(name: str, type_: str, value: bytes = GOOD, outcome: str = "foreign_type") -> Record:
    """A form, or another value, that says that it is of this type."""
    return headers(f"type {name}", outcome, (), value.replace(b'"form.submitted"', json.dumps(type_).encode()))


TESTS: Final = (
    *(flagged(kind, b"true", "test") for kind in TESTABLE_KINDS),
    *(replace(flagged(kind, b"true", "event"), limits=COUNTED) for kind in TESTABLE_KINDS),
    *(replace(flagged(kind, b"false", "event"), limits=COUNTED) for kind in TESTABLE_KINDS),
    *(flagged(kind, token, "event") for kind in TESTABLE_KINDS for token in NO_TESTS),
    flagged("form.submitted", b'1, "test": true', "test"),
    flagged("form.submitted", b'true, "contact_id": null', "invalid_data"),
    flagged("form.submitted", b'true, "form_id": 17', "test"),
    flagged("form.submitted", rb'null, "\u0074est": true', "test"),
    flagged("form.submitted", b"TRUE", "invalid_json"),
    flagged("form.submitted", rb'"\ud83d"', "invalid_json"),
    flagged("workflow.enrollment.started", b"true", "event"),
    headers("a test without time", "test", (), TIMELESS.replace(b'"form_id"', b'"test": true, "form_id"')),
    headers("a test in the future", "future_time", (), LATE.replace(b'"form_id"', b'"test": true, "form_id"')),
    headers("binary, a test", "test", ce_headers(), FORM.replace(b"}", b', "test": true}')),
    stage("a test that stays", "test", test=True, stage_id="st-1"),
    replace(stage("a counted test that stays", "no_move", test=True, stage_id="st-1"), limits=COUNTED),
)

STAGES: Final = (
    stage("it stays", "no_move", stage_id="st-1"),
    stage("it stays, in letters of two bytes", "no_move", stage_id="é", previous_stage_id="é"),
    stage("it stays, as integers", "no_move", stage_id=7, previous_stage_id=7),
    stage("it stays, as integer and text", "no_move", stage_id=7, previous_stage_id="7"),
    stage("it stays, with a test that is false", "no_move", stage_id="st-1", test=False),
    stage("another letter case", "event", stage_id="ST-1"),
    stage("no stage before", "event", previous_stage_id=None),
    stage("an empty stage before", "event", previous_stage_id=""),
    stage("it stays, and is faulty", "invalid_data", stage_id="st-1", deal_id={}),
)

FOREIGN: Final = (
    foreign("of another topic", "payment.completed"),
    foreign("in upper case", "Form.Submitted"),
    foreign("with a blank", "form.submitted "),
    foreign("in letters of two bytes", "bestellung.zurückgegeben"),
    foreign("of 255 bytes", "x" * 255),
    foreign("of the lifecycle", "workflow.activated"),
    foreign("without data", "order.placed", GOOD.replace(FORM, b"null")),
    foreign("with data as a text", "order.placed", GOOD.replace(FORM, b'"\\u0000"')),
    foreign("with bad base64", "order.placed", GOOD.replace(b'"data": ' + FORM, b'"data_base64": 17')),
    foreign("with control characters in data", "order.placed", GOOD.replace(b'"c-1"', rb'"\u0000\u007f"')),
    foreign("of the far future", "order.placed", LATE),
    raw("a type twice, foreign at last", "foreign_type", b'"form.submitted"', b'"form.submitted", "type": "a"'),
    raw("a type twice, foreign at first", "event", b'"form.submitted"', b'"a", "type": "form.submitted"'),
    replace(foreign("refused", "order.placed", outcome="unexpected_type"), limits=REFUSED),
    replace(foreign("refused, whatever its data", "a", GOOD.replace(FORM, b"7"), "unexpected_type"), limits=REFUSED),
    headers("binary, another topic's type", "foreign_type", ce_headers(type=b"payment.completed"), FORM),
    headers("binary, a type of wrong bytes", "invalid_envelope", ce_headers(type=b"\xff"), FORM),
    headers("binary, an empty type", "invalid_envelope", ce_headers(type=b""), FORM),
    headers("binary, a foreign type of garbage", "invalid_json", ce_headers(type=b"order.placed"), b"{"),
    foreign("with NUL", "a\0", outcome="invalid_envelope"),
    foreign("of 256 bytes", "é" * 128, outcome="invalid_envelope"),
    foreign("foreign, with a bad id", "a", GOOD.replace(b'"id": "1"', b'"id": "\\u0001"'), "invalid_envelope"),
    foreign("foreign, without a tenant", "a", GOOD.replace(b'"north"', b"null"), "invalid_envelope"),
    foreign("foreign, with a bad time", "a", GOOD.replace(b'59Z"', b'59"'), "invalid_envelope"),
    foreign("foreign, of another version", "a", GOOD.replace(b'"1.0"', b'"0.3"'), "invalid_envelope"),
    foreign("foreign, with half a surrogate pair", "a", GOOD.replace(b'"c-1"', rb'"\ud83d"'), "invalid_json"),
    foreign("foreign, with wrong UTF-8", "a", GOOD.replace(b'"c-1"', b'"\xff"'), "invalid_json"),
    foreign("foreign, cut off", "a", GOOD[:-1], "invalid_json"),
)


CORPUS: Final = TESTS + STAGES + FOREIGN
