"""Every fault of a message: as many as were made, at the places where they were made."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.admin import message_faults
from goalworker.cli import check_event
from goalworker.decoding import decoder, envelope
from goalworker.decoding.limits import Limits
from goalworker.domain import events, facts, goals
from goalworker.domain.criteria import Criteria

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
HIT = facts.Hit("north", "w1", "c1", UUID(int=1), 1, facts.Trigger("/crm", "f1", NOW, b'{"correlation_id":"k1"}'))


def run(enrolled_at: datetime | None, ended_at: datetime | None = None, **fields: Any) -> facts.Enrollment:
    return facts.Enrollment("north", "e1", "w1", "c1", enrolled_at, ended_at, **fields)


FOUNDED = run(NOW, started_by_source="/crm", started_by_id="f1")


@pytest.mark.parametrize(
    ("runs", "wanted", "word"),
    [
        ([], Criteria(), "not_enrolled"),
        ([run(None, NOW)], Criteria(), "not_enrolled"),
        ([run(NOW)], Criteria(), "enrolled"),
        ([run(NOW - AN_HOUR, NOW)], Criteria(), "after_end"),
        ([run(NOW + AN_HOUR)], Criteria(), "before_enrollment"),
        # The event's time has no fraction of a second.
        ([run(NOW + timedelta(milliseconds=999))], Criteria(), "enrolled"),
        ([run(NOW + timedelta(milliseconds=999), NOW)], Criteria(), "after_end"),
        ([run(NOW + timedelta(seconds=1))], Criteria(), "before_enrollment"),
        ([run(NOW - AN_HOUR, NOW), run(NOW, NOW + AN_HOUR)], Criteria(), "enrolled"),
        ([run(NOW - AN_HOUR, NOW), run(NOW + AN_HOUR)], Criteria(), "after_end"),
        ([run(NOW - AN_HOUR)], Criteria(deadline=3_600), "enrolled"),
        ([run(NOW - AN_HOUR)], Criteria(deadline=3_599), "after_deadline"),
        ([FOUNDED], Criteria(), "founding_event"),
        ([FOUNDED, run(NOW - AN_HOUR)], Criteria(), "enrolled"),
        ([run(NOW, correlation_id="k1")], Criteria(correlate_by="correlation_id"), "enrolled"),
        ([run(NOW, correlation_id="k2")], Criteria(correlate_by="correlation_id"), "not_correlated"),
    ],
)
def test_an_event_stands_to_its_enrollments_as_the_judge_says(
    runs: list[facts.Enrollment], wanted: Criteria, word: str
) -> None:
    version = goals.GoalVersion(1, wanted, True, NOW - 9 * AN_HOUR)
    goal = goals.Goal("north", HIT.goal_id, "w1", "form_submitted", version.active_from, (version,))
    assert check_event.relation(HIT, goals.Workflow((goal,)), runs) == word
