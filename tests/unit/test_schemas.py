"""Exported schemas: the files match the code, and every message in and out matches them."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiokafka
import jsonschema_rs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from goalworker import metrics, schemas
from goalworker.cli.schema import documents
from goalworker.config import Settings
from goalworker.decoding import decoder, envelope
from goalworker.decoding.limits import Limits
from goalworker.domain import clauses, events, facts, gates, ids, messages
from goalworker.domain.criteria import Criteria, criteria_to_json, settings_of
from goalworker.domain.text import MAJOR_UNITS, TEXT_BYTES_MAX, is_valid_text, parse_amount
from goalworker.pipeline import dead_letters
from goalworker.stores import api_keys
from tests.kit import hostile, strategies
from tests.kit.examples import examples
from tests.unit import hostile_fields, hostile_forms, hostile_skipped, near_misses

COPIES: Final = Path(__file__).parents[2] / "deploy" / "schemas"
DOCUMENTS: Final = documents(Settings())
ASYNCAPI: Final = json.loads(DOCUMENTS["asyncapi.json"])
OPENAPI: Final = json.loads(DOCUMENTS["openapi.json"])
SCHEMAS: Final = schemas.message_schemas()
VALIDATORS: Final = {
    kind: jsonschema_rs.Draft202012Validator(schema, validate_formats=True) for kind, schema in SCHEMAS.items()
}
DATA_VALIDATORS: Final = {
    kind: jsonschema_rs.Draft202012Validator({"$ref": "#/$defs/data", "$defs": schema["$defs"]})
    for kind, schema in SCHEMAS.items()
}
DECODER: Final = decoder.Decoder(hostile.KINDS, Limits())


def exact(value: bytes | str) -> Any:
    """Return JSON with its numbers as they are written."""
    return json.loads(value, parse_float=Decimal, parse_int=Decimal)


# --- the files ---


def test_the_copies_are_what_the_code_says() -> None:
    copies = {str(path.relative_to(COPIES)): path.read_bytes() for path in COPIES.rglob("*") if path.is_file()}
    differing = {name for name in copies.keys() | DOCUMENTS.keys() if copies.get(name) != DOCUMENTS.get(name)}
    assert not differing, "delete what is not exported any more, then run `goalworker schema export deploy/schemas`"


def test_every_description_of_an_amount_says_that_it_is_in_major_units() -> None:
    paid = SCHEMAS["payment.completed"]["$defs"]["data"]["properties"]["amount"]
    _, part = SCHEMAS["payment.refunded"]["$defs"]["data"]["anyOf"]
    criteria = [
        schema["properties"][name]
        for title, schema in OPENAPI["components"]["schemas"].items()
        for name in ("min_amount", "total_amount")
        if "Criteria" in title and name in schema.get("properties", {})
    ]
    assert len(criteria) == 4  # of drafts and of stored goals
    for schema in (*paid["anyOf"], *part["properties"]["amount"]["anyOf"], *criteria):
        assert MAJOR_UNITS in schema.get("description", ""), schema


def test_there_is_a_schema_for_every_type_in_and_out() -> None:
    out = {"workflow.goal.achieved", "workflow.goal.revoked", "workflow.exit.goal", "workflow.goal.configured"}
    assert SCHEMAS.keys() == events.DATA_OF_TYPE.keys() | out
    assert {name for name in DOCUMENTS if "/" in name} == {f"messages/{kind}.json" for kind in SCHEMAS}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_schema_is_one_and_a_draft_7_tool_reads_it_too(kind: str) -> None:
    schema = SCHEMAS[kind]
    assert schema["$id"] == f"urn:goalworker:schema:{kind}"
    jsonschema_rs.meta.validate(schema)
    jsonschema_rs.meta.validate(schema | {"$schema": "http://json-schema.org/draft-07/schema#"})
    for node in nodes(schema):
        assert "$ref" not in node or len(node) == 1  # draft 7 ignores what stands beside it


# --- messages in ---


NO_IDS: Final = ("1e3", "1E0", "-0.0", "1e400", "9" * 20, "-" + "9" * 19)
CANNOT_SAY: Final = {
    "128 letters of two bytes as id": "bytes, not characters",
    "256 bytes in data": "bytes, not characters",
    "amount 1e-19": "digits of a number",
    "amount 1e-999999999": "digits of a number",
    "amount 1.0000000000000000000": "digits of a number",
    "refund: amount 1e-19": "digits of a number",
    "1,001 products": "how many are not null",
    "products: 1,001 and a null": "how many are not null",
    "products: 1,001 integers": "how many are not null",
    "products: a float": "digits of a number",
    "products: an exponent": "digits of a number",
    "products: 256 digits": "digits of a number",
    **{f"form.submitted: form_id {token}": "digits of a number" for token in NO_IDS},
    **{f"{kind}: {name} 1.0": "digits of a number" for kind, name, _ in hostile_fields.ID_FIELDS},
    "time 9999-12-31T23:59:60Z": "a year that no clock of ours has",
    "time 0000-01-01T00:00:00Z": "a year that no clock of ours has",
    "time 0001-01-01T00:00:00+00:01": "a year that no clock of ours has",
    "time 9999-12-31T23:59:59-00:01": "a year that no clock of ours has",
    "time 9999-12-31T23:59:59.9999999Z": "a year that no clock of ours has",
    "no time anywhere": "the record's timestamp",
    "no time, and the record is beyond all calendars": "the record's timestamp",
}
"""What is refused though it is as the schema says, and what a schema can't say there."""


LEAP_SECONDS: Final = {"time 2026-05-01T11:59:60Z", "time 2026-05-01T12:04:60Z"}
"""Times that are taken, which the format knows at midnight in UTC only."""


def corpus(*outcomes: str) -> Iterator[tuple[hostile.Record, bool]]:
    """Records in JSON with such an outcome, each with what its schema says of it."""
    for record in hostile.CORPUS + hostile_fields.DOCUMENTS + hostile_forms.DOCUMENTS + hostile_skipped.CORPUS:
        if record.outcome in outcomes:
            is_binary = envelope.mode_of(envelope.headers_of(record.headers)) == "binary"
            validators = DATA_VALIDATORS if is_binary else VALIDATORS
            yield record, validators[record.kind].is_valid(exact(record.value))


def test_every_good_record_is_as_its_schema_says() -> None:
    good = corpus("event", "test", "no_move")
    assert {record.name for record, is_valid in good if not is_valid} == LEAP_SECONDS


def test_every_refused_record_is_not_but_for_what_no_schema_can_say() -> None:
    refused = ("invalid_envelope", "invalid_data", "unexpected_type", "foreign_type")
    # Of a binary record and a batch it is the headers that are refused, and no schema sees into base64.
    found = [
        (record, is_valid)
        for record, is_valid in corpus(*refused)
        if not (record.headers or record.name.startswith("base64"))
    ]
    assert len(found) > 80
    assert {record.name for record, is_valid in found if is_valid} == CANNOT_SAY.keys()


@settings(max_examples=examples(300))
@given(near_misses.records())
def test_whatever_is_taken_is_as_its_schema_says(record: tuple[str, bytes, hostile.Headers, int]) -> None:
    topic, value, headers, timestamp_ms = record
    assume(b":60" not in value)
    event = DECODER.decode(topic, value, headers, timestamp_ms, hostile.NOW)
    if isinstance(event, events.Event):
        is_binary = envelope.mode_of(dict(headers)) == "binary"
        (DATA_VALIDATORS if is_binary else VALIDATORS)[event.type].validate(exact(value))


@given(st.from_regex(r"[0-9]{0,66}(\.[0-9]{0,19})?") | st.sampled_from(["0" * 48 + "1" + "0" * 15, "1" + "0" * 15]))
def test_an_amount_is_a_text_to_the_schema_where_it_is_one_to_the_decoder(text: str) -> None:
    data = hostile.DATA["payment.completed"] | {"amount": text}
    assert DATA_VALIDATORS["payment.completed"].is_valid(data) == (parse_amount(text) is not None)


@given(near_misses.TEXTS.filter(lambda text: len(text.encode(errors="replace")) == len(text)))
def test_a_text_is_one_to_the_schema_where_it_is_one_to_the_decoder(text: str) -> None:
    is_valid = DATA_VALIDATORS["workflow.activated"].is_valid({"workflow_id": text})
    assert is_valid == is_valid_text(text)


# --- messages out ---

GOAL_IDS: Final = st.integers(1, 9).map(lambda number: UUID(int=number))
TEXTS: Final = near_misses.GOOD_TEXTS
MOMENTS: Final = st.datetimes(timezones=st.just(UTC))
UNTRACKED: Final = st.builds(ids.contact_enrollment_id, TEXTS, TEXTS.map(lambda text: text * 12))
RUNS: Final = st.builds(facts.Enrollment, TEXTS, TEXTS | UNTRACKED, TEXTS, TEXTS, MOMENTS, st.none() | MOMENTS)
TYPES: Final = st.sampled_from(events.GOAL_TYPES)


def referring(data: events.GoalData, id_: str | None, test: bool | None) -> events.GoalData:
    """Return data with the fields that refer to something else."""
    fields: dict[str, Any] = {"correlation_id": id_, "test": test}
    if isinstance(data, events.AppointmentBooked):
        fields["replaces_appointment_id"] = id_
    return structs.replace(data, **fields)


HAPPENED: Final = TYPES.flatmap(
    lambda goal_type: st.tuples(
        st.just(goal_type),
        st.builds(
            events.Event,
            TEXTS,
            TEXTS,
            TEXTS,
            st.just(events.GOAL_TYPE_TABLE[goal_type].event_type),
            MOMENTS,
            st.builds(
                referring, strategies.goal_data(goal_type, "c1"), st.none() | TEXTS, st.sampled_from([None, True])
            ),
        ),
    )
)
REASONS: Final = st.sampled_from(["superseded", "after_end", "reversed"])


def check(message: messages.Message) -> None:
    """Hold a message to its schema, to the order of its keys, and to what AsyncAPI says of its topic."""
    body = json.loads(message.value)
    kind = body["type"]
    VALIDATORS[kind].validate(body)
    schema = SCHEMAS[kind]
    assert list(body) == list(schema["properties"])
    fields = schema["$defs"]["data"]
    assert list(body["data"]) == [
        name for name in fields["properties"] if name in fields["required"] or name in body["data"]
    ]
    assert kind in ASYNCAPI["channels"][message.topic]["messages"]
    told = ASYNCAPI["components"]["messages"][kind]
    jsonschema_rs.validate(told["bindings"]["kafka"]["key"], message.key.decode())
    carries_trace = "traceparent" in told["headers"]["properties"]
    assert carries_trace or message.traceparent is None


@given(RUNS, HAPPENED, GOAL_IDS, st.integers(1, 9), st.none() | MOMENTS)
def test_every_achieved_is_as_its_schema_says(
    run: facts.Enrollment,
    happened: tuple[str, events.Event],
    goal_id: UUID,
    number: int,
    enrolled_at: datetime | None,
) -> None:
    goal_type, event = happened
    achievement = facts.Achievement(goal_id, number, enrolled_at, facts.trigger_of(event), number)
    check(messages.achieved(run, goal_type, achievement))
    for total in (None, Decimal("0.10")):
        counted = facts.Counted(number, total, number > 1)
        check(messages.achieved(run, goal_type, structs.replace(achievement, counted=counted)))


@given(RUNS, HAPPENED, GOAL_IDS, REASONS, MOMENTS)
def test_every_revoked_is_as_its_schema_says(
    run: facts.Enrollment,
    happened: tuple[str, events.Event],
    goal_id: UUID,
    reason: str,
    now: datetime,
) -> None:
    goal_type, event = happened
    trigger = facts.trigger_of(event)
    check(messages.revoked(run, goal_type, facts.Achievement(goal_id, 1, None, trigger, 2), reason, now))


@given(RUNS, TYPES, st.lists(GOAL_IDS, min_size=1), st.sampled_from(["any", "all"]), MOMENTS)
def test_every_exit_is_as_its_schema_says(
    run: facts.Enrollment, goal_type: str, goal_ids: list[UUID], logic: str, at: datetime
) -> None:
    check(messages.exit_goal(run, goal_type, facts.Exit(goal_ids[0], logic, at, tuple(goal_ids), "00-1", "a=1")))


CHANGES: Final = TYPES.flatmap(lambda goal_type: st.tuples(st.just(goal_type), strategies.criteria(goal_type)))


@given(TEXTS, GOAL_IDS, st.sampled_from(["created", "updated", "deleted"]), MOMENTS, CHANGES, st.booleans())
def test_every_configured_is_as_its_schema_says(
    tenant_id: str,
    goal_id: UUID,
    action: str,
    now: datetime,
    change: tuple[str, Criteria],
    is_active: bool,
) -> None:
    goal_type, criteria = change
    shown = criteria_to_json(goal_type, criteria)
    description = {"workflow_id": "w", "goal_type": goal_type, "criteria": shown, "is_active": is_active}
    check(messages.configured(tenant_id, goal_id, 1, action, now, description))


@given(RUNS, MOMENTS, st.sampled_from([events.ENROLLMENT_STARTED, events.ENROLLMENT_ENDED]))
def test_what_the_intake_sends_is_as_the_schema_of_what_comes_in_says(
    run: facts.Enrollment, at: datetime, kind: str
) -> None:
    if len(run.enrollment_id) <= TEXT_BYTES_MAX:
        VALIDATORS[kind].validate(json.loads(messages.lifecycle(kind, run, at).value))


@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        ("workflow.goal.achieved", ("data", "trigger_event", "data", "amount"), 100),
        ("workflow.goal.achieved", ("data", "trigger_event", "data", "product_ids"), None),
        ("workflow.goal.achieved", ("data", "trigger_event", "type"), "form.submitted"),
        ("workflow.goal.achieved", ("data", "revision"), 0),
        ("workflow.goal.achieved", ("data", "enrolled_at"), "yesterday"),
        ("workflow.goal.configured", ("data", "goal_type"), "form_submitted"),
        ("workflow.goal.configured", ("data", "criteria"), {}),
        ("workflow.goal.configured", ("data", "criteria"), {"any_purchase": True, "currency": "EUR"}),
        ("workflow.goal.configured", ("data", "criteria"), {"min_amount": 100}),
        ("workflow.goal.configured", ("data", "criteria"), {"product_id": ["p1"]}),
        ("workflow.goal.configured", ("data", "criteria"), {"product_id": ["p1", "p1"]}),
        ("workflow.goal.configured", ("data", "criteria"), {"product_id": [f"p{number}" for number in range(51)]}),
        ("workflow.goal.configured", ("id",), "17"),
    ],
)
def test_what_never_goes_out_is_not_as_the_schema_says(kind: str, path: tuple[str, ...], wrong: object) -> None:
    body = json.loads(GOOD[kind].value)
    VALIDATORS[kind].validate(body)
    place = body
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = wrong
    assert not VALIDATORS[kind].is_valid(body)


PAID: Final = events.PaymentCompleted("c", "p", Decimal(100), "EUR")
TRIGGER: Final = facts.trigger_of(events.Event("t", "/s", "1", "payment.completed", hostile.NOW, PAID))
GOOD: Final = {
    "workflow.goal.achieved": messages.achieved(
        facts.Enrollment("t", "e", "w", "c"), "purchase_made", facts.Achievement(UUID(int=1), 1, None, TRIGGER, 1)
    ),
    "workflow.goal.configured": messages.configured(
        "t",
        UUID(int=1),
        1,
        "created",
        hostile.NOW,
        {"workflow_id": "w", "goal_type": "purchase_made", "criteria": {"currency": "EUR"}, "is_active": True},
    ),
}


@pytest.mark.parametrize("reason", metrics.REASONS)
def test_the_headers_of_a_dead_letter_are_as_the_document_says(reason: str) -> None:
    original = aiokafka.ConsumerRecord("form-submitted", 3, 17, -1, 0, b"k", b"{", None, 1, 1, ())
    letter = dead_letters.DeadLetter(original, reason, "is not JSON")
    record = dead_letters.record_of(letter, "goalworker.dlq", "goalworker", redriven=False)
    headers = {name: value.decode() for name, value in record.headers}
    told = ASYNCAPI["components"]["messages"]["dead_letter"]["headers"]
    jsonschema_rs.validate(told, headers)
    assert list(headers) == list(told["properties"]) == told["required"]


# --- AsyncAPI and OpenAPI ---


def nodes(document: Any) -> Iterator[dict[str, Any]]:
    """Every object of a document."""
    if isinstance(document, dict):
        yield document
        document = list(document.values())
    for node in document if isinstance(document, list) else ():
        yield from nodes(node)


def resolved(name: str, reference: str) -> Any:
    """Return what a reference in an exported file leads to, another exported file perhaps."""
    path, _, pointer = reference.partition("#")
    found = json.loads(DOCUMENTS[path.removeprefix("./") or name])
    for part in pointer.split("/")[1:]:
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_reference_leads_somewhere(name: str) -> None:
    references = [node["$ref"] for node in nodes(json.loads(DOCUMENTS[name])) if "$ref" in node]
    assert references
    for reference in references:
        assert resolved(name, reference) is not None


def test_asyncapi_has_what_it_requires() -> None:
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= ASYNCAPI["info"].keys()
    for operation in ASYNCAPI["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        # An operation's messages are references into its own channel, not to the components.
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])
    for message in ASYNCAPI["components"]["messages"].values():
        assert {"name", "contentType", "headers", "payload", "bindings"} <= message.keys()
        jsonschema_rs.meta.validate(message["headers"])
        jsonschema_rs.meta.validate(message["bindings"]["kafka"]["key"])


def test_every_topic_is_a_channel_that_is_used_and_every_message_is_in_one() -> None:
    channels = ASYNCAPI["channels"]
    assert {which: channel["address"] for which, channel in channels.items()} == dict(Settings().topics)
    assert {operation["channel"]["$ref"] for operation in ASYNCAPI["operations"].values()} == {
        f"#/channels/{which}" for which in channels
    }
    assert {kind for channel in channels.values() for kind in channel["messages"]} == {*SCHEMAS, "dead_letter"}


def test_a_channel_has_the_name_of_its_topic_here() -> None:
    elsewhere = Settings.model_validate({"topics": {"tag_added": "crm.tags"}})
    channels = json.loads(documents(elsewhere)["asyncapi.json"])["channels"]
    assert channels["tag_added"]["address"] == "crm.tags"
    assert list(channels["tag_added"]["messages"]) == ["contact.tag.added"]


def test_the_schemas_in_openapi_are_schemas() -> None:
    assert OPENAPI["openapi"].startswith("3.1")
    for schema in OPENAPI["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


@pytest.mark.parametrize(
    ("component", "kind"), [("Achievement", "workflow.goal.achieved"), ("Exit", "workflow.exit.goal")]
)
def test_what_the_api_shows_has_the_fields_of_the_message(component: str, kind: str) -> None:
    shown, sent = OPENAPI["components"]["schemas"][component], SCHEMAS[kind]["$defs"]["data"]
    assert list(shown["properties"]) == list(sent["properties"])
    assert shown["required"] == sent["required"]


def union(name: str) -> dict[str, str]:
    """Return the schemas that a discriminated union tells apart, by goal_type."""
    schema = OPENAPI["components"]["schemas"][name]
    assert schema["discriminator"]["propertyName"] == "goal_type"
    mapping: dict[str, str] = schema["discriminator"]["mapping"]
    assert {each["$ref"] for each in schema["oneOf"]} == set(mapping.values())
    return mapping


@pytest.mark.parametrize("name", ["Goal", "GoalDraft", "GoalState"])
def test_criteria_are_told_apart_by_goal_type_and_have_its_fields(name: str) -> None:
    mapping = union(name)
    assert set(mapping) == set(events.GOAL_TYPES)
    for goal_type, reference in mapping.items():
        goal = resolved("openapi.json", reference)
        assert goal["properties"]["goal_type"]["const"] == goal_type
        criteria = resolved("openapi.json", goal["properties"]["criteria"]["$ref"])
        row = events.GOAL_TYPE_TABLE[goal_type]
        flags = [row.any_flag] if row.any_flag else []
        assert list(criteria["properties"]) == [*row.criteria, *flags, *settings_of(row)]


def test_the_words_of_explanations_are_closed_lists_in_openapi() -> None:
    found = OPENAPI["components"]["schemas"]
    explanation = found["Explanation"]["properties"]
    assert explanation["reason"]["enum"] == list(gates.REASONS)
    assert explanation["answer"]["enum"] == list(gates.ANSWERS)
    assert found["GateResult"]["properties"]["gate"]["enum"] == list(gates.GATES)
    assert found["Clause"]["properties"]["op"]["enum"] == list(clauses.OPS)


def test_no_object_in_openapi_has_alternatives_beside_its_properties() -> None:
    mixed = [node for node in nodes(OPENAPI["components"]["schemas"]) if "properties" in node]
    assert len(mixed) > 30
    assert [node for node in mixed if node.keys() & {"anyOf", "oneOf", "allOf"}] == []


def test_no_field_in_openapi_defaults_to_null_and_every_number_has_a_format() -> None:
    found = list(nodes(OPENAPI))
    numbers = [node for node in found if node.get("type") in ("integer", "number")]
    assert len(numbers) > 10
    assert {node.get("format") for node in numbers} == {"int64", "double"}
    assert [node for node in found if "default" in node and node["default"] is None] == []


def test_every_operation_has_an_id_a_title_and_a_tag_that_people_can_read() -> None:
    operations = [operation for path in OPENAPI["paths"].values() for operation in path.values()]
    named = [operation["operationId"] for operation in operations]
    assert len(set(named)) == len(named)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", name) for name in named)
    tags = {tag["name"]: tag["description"] for tag in OPENAPI["tags"]}
    assert {tag for operation in operations for tag in operation["tags"]} == set(tags)
    assert all(name.istitle() and description.endswith(".") for name, description in tags.items())
    titles = [operation["summary"] for operation in operations]
    assert len(set(titles)) == len(titles)
    made_up = [title for title, name in zip(titles, named, strict=True) if title == name.replace("_", " ").title()]
    assert made_up == []


def test_openapi_names_every_scope_per_operation_and_in_its_security_schemes() -> None:
    needed = set()
    for operation in (operation for path in OPENAPI["paths"].values() for operation in path.values()):
        (scope,) = operation["security"][0]["token"]
        assert f"`{scope}`" in operation["description"]
        needed.add(scope)
    assert needed == set(api_keys.SCOPES)
    for scheme in OPENAPI["components"]["securitySchemes"].values():
        assert all(f"`{scope}`" in scheme["description"] for scope in api_keys.SCOPES)
