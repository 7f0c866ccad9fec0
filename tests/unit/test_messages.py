"""Outgoing messages, byte for byte: consumers and replays rely on bytes that never change."""

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib import parse
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.domain import events, facts, ids, messages

GOAL, OTHER = UUID("0198c0de-0000-7000-8000-000000000001"), UUID("0198c0de-0000-7000-8000-000000000002")
ENROLLED_AT = datetime(2026, 1, 1, tzinfo=UTC)
ACHIEVED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = datetime(2026, 1, 2, 3, 4, 6, 70, tzinfo=UTC)

ENROLLMENT = facts.Enrollment("acme:eu", "enr/1", "wf|1", "kontakt ü", ENROLLED_AT)
TRIGGER = facts.Trigger(
    "/crm",
    "evt-1",
    ACHIEVED_AT,
    '{"contact_id":"kontakt ü","payment_id":"p1","amount":"100.00","currency":"EUR"}'.encode(),
    "00-trace-01",
    "state=1",
)
ACHIEVEMENT = facts.Achievement(GOAL, 3, ENROLLED_AT, TRIGGER, 1)
REVOKED = facts.Achievement(GOAL, 3, ENROLLED_AT, TRIGGER, 2, revoked=True)
EXIT = facts.Exit(GOAL, "all", ACHIEVED_AT, (OTHER, GOAL), "00-trace-01", "state=1")
DESCRIPTION = {
    "workflow_id": "wf|1",
    "goal_type": "purchase_made",
    "criteria": {"min_amount": "100", "currency": "EUR"},
    "is_active": False,
}

ACHIEVED = messages.achieved(ENROLLMENT, "purchase_made", ACHIEVEMENT)
REVOCATION = messages.revoked(ENROLLMENT, "purchase_made", REVOKED, "after_end", NOW)
COMMAND = messages.exit_goal(ENROLLMENT, "purchase_made", EXIT)
CONFIGURED = messages.configured("acme:eu", GOAL, 2, "updated", NOW, DESCRIPTION)

CONTACT_KEY = b"acme%3Aeu:kontakt%20%C3%BC"

GOLDEN = [
    (
        ACHIEVED,
        "goal_achieved",
        CONTACT_KEY,
        '{"specversion":"1.0","id":"7b75b3b9-6b9d-512d-ba59-651953e6c6e4","source":"/goalworker",'
        '"type":"workflow.goal.achieved","subject":"enr/1","time":"2026-01-02T03:04:05Z","tenantid":"acme:eu",'
        '"datacontenttype":"application/json","data":{"achievement_id":"ac1d0f7d-abbc-56ea-bcc9-9398be6e6696",'
        '"revision":1,"workflow_id":"wf|1","enrollment_id":"enr/1","contact_id":"kontakt ü",'
        '"goal_id":"0198c0de-0000-7000-8000-000000000001","goal_version":3,"goal_type":"purchase_made",'
        '"enrolled_at":"2026-01-01T00:00:00Z","achieved_at":"2026-01-02T03:04:05Z",'
        '"trigger_event":{"id":"evt-1","source":"/crm","type":"payment.completed","time":"2026-01-02T03:04:05Z",'
        '"data":{"contact_id":"kontakt ü","payment_id":"p1","amount":"100.00","currency":"EUR"}}}}',
    ),
    (
        REVOCATION,
        "goal_achieved",
        CONTACT_KEY,
        '{"specversion":"1.0","id":"88095c46-4613-5e1e-b2b0-4b747c1f84b7","source":"/goalworker",'
        '"type":"workflow.goal.revoked","subject":"enr/1","time":"2026-01-02T03:04:06.000070Z","tenantid":"acme:eu",'
        '"datacontenttype":"application/json","data":{"achievement_id":"ac1d0f7d-abbc-56ea-bcc9-9398be6e6696",'
        '"revision":2,"workflow_id":"wf|1","enrollment_id":"enr/1","contact_id":"kontakt ü",'
        '"goal_id":"0198c0de-0000-7000-8000-000000000001","goal_type":"purchase_made","reason":"after_end"}}',
    ),
    (
        COMMAND,
        "workflow_exit",
        CONTACT_KEY,
        '{"specversion":"1.0","id":"dc7c7b29-bd7c-5ea0-a111-d4c38e403cf5","source":"/goalworker",'
        '"type":"workflow.exit.goal","subject":"enr/1","time":"2026-01-02T03:04:05Z","tenantid":"acme:eu",'
        '"datacontenttype":"application/json","data":{"exit_id":"dc7c7b29-bd7c-5ea0-a111-d4c38e403cf5",'
        '"workflow_id":"wf|1","enrollment_id":"enr/1","contact_id":"kontakt ü","exit_reason":"goal_achieved",'
        '"logic":"all","goal_id":"0198c0de-0000-7000-8000-000000000001","goal_type":"purchase_made",'
        '"achievement_ids":["f737ad60-034b-5f20-afa4-a34daf7d611a","ac1d0f7d-abbc-56ea-bcc9-9398be6e6696"],'
        '"achieved_at":"2026-01-02T03:04:05Z"}}',
    ),
    (
        CONFIGURED,
        "goal_configured",
        b"acme%3Aeu:0198c0de-0000-7000-8000-000000000001",
        '{"specversion":"1.0","id":"5eb229cd-6ba8-5273-acb1-ae62c74df570","source":"/goalworker",'
        '"type":"workflow.goal.configured","subject":"0198c0de-0000-7000-8000-000000000001",'
        '"time":"2026-01-02T03:04:06.000070Z","tenantid":"acme:eu","datacontenttype":"application/json",'
        '"data":{"action":"updated","goal_id":"0198c0de-0000-7000-8000-000000000001","version":2,'
        '"workflow_id":"wf|1","goal_type":"purchase_made","criteria":{"min_amount":"100","currency":"EUR"},'
        '"is_active":false}}',
    ),
]


@pytest.mark.parametrize(
    ("message", "topic", "key", "value"), GOLDEN, ids=["achieved", "revoked", "exit", "configured"]
)
def test_a_message_is_these_bytes_for_ever(message: messages.Message, topic: str, key: bytes, value: str) -> None:
    assert message.value.decode() == value
    assert (message.topic, message.key) == (topic, key)


def _read(message: messages.Message) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(message.value)
    return read


def test_the_triggers_trace_is_carried_over_to_achieved_and_exit() -> None:
    trace = ("00-trace-01", "state=1")
    assert [(message.traceparent, message.tracestate) for message in (ACHIEVED, COMMAND)] == [trace, trace]
    assert [(message.traceparent, message.tracestate) for message in (REVOCATION, CONFIGURED)] == [(None, None)] * 2


def test_enrolled_at_is_null_where_enrollments_are_not_tracked() -> None:
    untracked = facts.Achievement(GOAL, 3, None, TRIGGER, 1)
    assert _read(messages.achieved(ENROLLMENT, "purchase_made", untracked))["data"]["enrolled_at"] is None


def test_a_later_revision_has_another_message_id_and_the_same_achievement_id() -> None:
    first, second = _read(ACHIEVED), _read(REVOCATION)
    assert first["id"] != second["id"]
    assert first["data"]["achievement_id"] == second["data"]["achievement_id"]


@pytest.mark.parametrize(
    ("goal_type", "event_type"), [(row.name, row.event_type) for row in events.GOAL_TYPE_TABLE.values()]
)
def test_the_trigger_is_named_by_its_event_type(goal_type: str, event_type: str) -> None:
    message = messages.achieved(ENROLLMENT, goal_type, ACHIEVEMENT)
    assert _read(message)["data"]["trigger_event"]["type"] == event_type


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_rfc_3339_in_utc_and_exact_to_the_microsecond(moment: datetime) -> None:
    time = _read(messages.configured("t", GOAL, 1, "created", moment, {}))["time"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", time)
    assert datetime.fromisoformat(time) == moment


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@given(tenant=texts, contact=texts, enrollment=texts, workflow=texts)
def test_ids_from_outside_come_through_unharmed(tenant: str, contact: str, enrollment: str, workflow: str) -> None:
    message = messages.exit_goal(facts.Enrollment(tenant, enrollment, workflow, contact), "form_submitted", EXIT)
    read = _read(message)
    assert (read["tenantid"], read["subject"]) == (tenant, enrollment)
    assert (read["data"]["workflow_id"], read["data"]["contact_id"]) == (workflow, contact)


# --- ids ---


def test_the_namespace_is_the_contracts() -> None:
    assert uuid.uuid5(uuid.NAMESPACE_URL, "urn:goalworker:v1") == ids.NAMESPACE


@given(st.lists(st.one_of(st.text(), st.from_regex(r"[\w.~%/:|-]*")), max_size=3))
def test_parts_are_percent_encoded(parts: list[str]) -> None:
    assert ids.joined("|", *parts) == "|".join(parse.quote(part, safe="") for part in parts)


@pytest.mark.parametrize(
    ("made", "text", "golden"),
    [
        (ids.achievement_id("t", "e", GOAL), f"achievement|t|e|{GOAL}", "9e2231a1-3d58-5e21-945e-5fa33af5c505"),
        (ids.exit_id("t", "e"), "exit|t|e", "254dc58b-5caf-521c-8dd7-3b8d8f920a59"),
        (ids.achieved_message_id("t", "e", GOAL, 1), f"achieved|t|e|{GOAL}|1", "2294ef7a-75da-51f1-8ef8-d765c5079550"),
        (ids.revoked_message_id("t", "e", GOAL, 2), f"revoked|t|e|{GOAL}|2", "88c703da-df20-5367-b473-f47c5d7dff39"),
        (ids.configured_message_id("t", GOAL, 3), f"configured|t|{GOAL}|3", "abab7d60-4944-53aa-b400-fbe9291993da"),
        (ids.exit_id("a|b ü/", "~"), "exit|a%7Cb%20%C3%BC%2F|~", "8d0d5b4a-d687-50d4-bfe1-b99d1a1036ad"),
    ],
)
def test_an_id_is_the_contracts_uuid5(made: UUID, text: str, golden: str) -> None:
    assert made == uuid.uuid5(UUID("94bece46-2ea0-598c-bf30-462d26b8d233"), text)
    assert str(made) == golden


def test_an_untracked_enrollments_id_is_made_of_workflow_and_contact() -> None:
    assert ids.contact_enrollment_id("w:1", "c 1") == "contact:w%3A1:c%201"


parts = st.lists(st.text(st.sampled_from("a|:%27C/ é"), max_size=4), min_size=1, max_size=4)


@given(one=parts, other=parts, separator=st.sampled_from("|:"))
def test_no_two_inputs_make_the_same_joined_text(one: list[str], other: list[str], separator: str) -> None:
    assert (ids.joined(separator, *one) == ids.joined(separator, *other)) == (one == other)


@given(whole=st.text(st.sampled_from("a|:%"), min_size=2, max_size=8), separator=st.sampled_from("|:"), data=st.data())
def test_where_one_part_ends_and_the_next_begins_makes_a_difference(
    whole: str, separator: str, data: st.DataObject
) -> None:
    cut, other = data.draw(st.lists(st.integers(0, len(whole)), min_size=2, max_size=2, unique=True))
    assert ids.joined(separator, whole[:cut], whole[cut:]) != ids.joined(separator, whole[:other], whole[other:])
