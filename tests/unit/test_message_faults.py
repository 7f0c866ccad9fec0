"""Every fault of a message: as many as were made, at the places where they were made."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.admin import message_faults
from goalworker.cli import check_event
from goalworker.decoding import decoder, envelope
from goalworker.decoding.limits import Limits
from goalworker.domain import events

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TYPES = {kind: frozenset({kind}) for kind in events.DATA_OF_TYPE}
DECODER = decoder.Decoder(TYPES, Limits())
PAYMENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/shop",
    "type": "payment.completed",
    "time": "2026-05-01T00:00:00Z",
    "tenantid": "acme",
    "data": {"contact_id": "c", "payment_id": "p", "amount": "1.00", "currency": "EUR", "product_ids": ["a"]},
}
ENVELOPE = ("specversion", "id", "source", "time", "tenantid")
DATA = ("contact_id", "payment_id", "amount", "currency", "product_ids")


def faults(topic: str, value: bytes, headers: envelope.Pairs = ()) -> list[str]:
    def decoded(value: bytes, headers: envelope.Pairs) -> object:
        return DECODER.decode(topic, value, headers, 1_700_000_000_000, NOW)

    return [fault.pointer for fault in message_faults.faults(decoded, value, headers, [topic])]


@given(st.sets(st.sampled_from(ENVELOPE)), st.sets(st.sampled_from(DATA)), st.sampled_from([[], 7.5, True, "\x00"]))
def test_each_field_that_is_wrong_is_found_and_no_other(envelope: set[str], data: set[str], wrong: Any) -> None:
    event = {**PAYMENT, **dict.fromkeys(envelope, wrong)}
    # An amount may be a number, and products may be missing.
    event["data"] = {**PAYMENT["data"], **dict.fromkeys(data, "\x00")}
    found = faults("payment.completed", json.dumps(event).encode())
    assert sorted(found) == sorted([f"/{name}" for name in envelope] + [f"/data/{name}" for name in data])


@pytest.mark.parametrize("topic", TYPES)
def test_of_an_empty_object_every_required_field_is_named(topic: str) -> None:
    found = faults(topic, b"{}")
    assert found[:3] == ["/specversion", "/id", "/source"]
    assert {"/type", "/tenantid", "/data"} < set(found)
    assert any(pointer.startswith("/data/") for pointer in found)


def test_faults_of_the_binary_form_are_found_in_headers_and_value() -> None:
    headers = [("ce_specversion", b"2"), ("ce_id", b""), ("ce_source", b"/s"), ("ce_type", b"form.submitted")]
    found = faults("form.submitted", b'{"contact_id": 7.5}', headers)
    assert found == ["header ce_specversion", "header ce_id", "header ce_tenantid", "/contact_id", "/form_id"]


@pytest.mark.parametrize(
    ("started_by", "expected"),
    [(17, ["/data/started_by"]), ({"id": 1}, ["/data/started_by/source", "/data/started_by/id"])],
)
def test_the_faults_of_a_nested_field_are_found_where_they_are(started_by: object, expected: list[str]) -> None:
    ids = {"workflow_id": "w", "enrollment_id": "e", "contact_id": "c"}
    event = {**PAYMENT, "type": "workflow.enrollment.started", "data": {**ids, "started_by": started_by}}
    assert faults("workflow.enrollment.started", json.dumps(event).encode()) == expected


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b"\x00{}", b'{"a": NaN}'])
def test_what_is_no_json_object_is_one_fault(value: bytes) -> None:
    assert faults("form.submitted", value) == [""]


AN_HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("windows", "word"),
    [
        ([], "not_enrolled"),
        ([(None, NOW)], "not_enrolled"),
        ([(NOW, None)], "enrolled"),
        ([(NOW - AN_HOUR, NOW)], "after_end"),
        ([(NOW + AN_HOUR, None)], "before_enrollment"),
        ([(NOW + timedelta(milliseconds=999), None)], "enrolled"),  # the event's time has no fraction of a second
        ([(NOW + timedelta(milliseconds=999), NOW)], "after_end"),
        ([(NOW + timedelta(seconds=1), None)], "before_enrollment"),
        ([(NOW - AN_HOUR, NOW), (NOW, NOW + AN_HOUR)], "enrolled"),
        ([(NOW - AN_HOUR, NOW), (NOW + AN_HOUR, None)], "after_end"),
    ],
)
def test_an_event_counts_from_the_enrollment_on_and_before_its_end(
    windows: list[check_event.Window], word: str
) -> None:
    assert check_event.enrollment(NOW, windows) == word
