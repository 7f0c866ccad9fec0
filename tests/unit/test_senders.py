"""Messages of other SDKs and tools are accepted, or refused with a remedy."""

import json
from datetime import UTC, datetime
from typing import Final

import pytest

from goalworker.decoding.decoder import Decoder, Malformed
from goalworker.decoding.limits import Limits
from goalworker.domain import events
from tests import vectors
from tests.kit import hostile

NOON: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)
DATA: Final = events.FormSubmitted("c-17", "newsletter")
KEY_PREFIX: Final = Limits(tenant_from="key-prefix")
PLAIN: Final = Limits(tenant_from="key-prefix", plain_json=True)
HAS_DEFAULT: Final = Limits(plain_json=True, default_tenant="acme")


def decoded(vector: vectors.Vector, limits: Limits) -> object:
    timestamp_ms = int(NOON.timestamp() * 1000)
    decoder = Decoder(hostile.KINDS, limits)
    return decoder.decode(
        vector.topic, vector.value, vector.headers, timestamp_ms, NOON, key=vector.key, position=(3, 17)
    )


def taken(vector: vectors.Vector, limits: Limits) -> events.Event:
    found = decoded(vector, limits)
    assert isinstance(found, events.Event), (vector.form, found)
    assert (found.tenant_id, found.type, found.time, found.data) == ("acme", "form.submitted", NOON, DATA)
    return found


def refusal(vector: vectors.Vector, limits: Limits) -> str:
    found = decoded(vector, limits)
    assert isinstance(found, Malformed), (vector.form, found)
    return found.detail


def forms(source: str) -> dict[str, vectors.Vector]:
    return {vector.form: vector for vector in vectors.of(source)}


def of_sdk(language: str) -> list[events.Event]:
    found = [taken(vector, Limits()) for vector in vectors.of(f"CloudEvents SDK for {language} ")]
    assert {(event.source, event.id) for event in found} == {("/crm", "1")}
    return found


@pytest.mark.real_world("CloudEvents SDK for Python 2.2.0", "both modes of both its APIs, objects and bytes")
def test_events_of_the_python_sdk_are_taken() -> None:
    assert len(of_sdk("Python")) == 7


@pytest.mark.real_world("CloudEvents SDK for JavaScript 10.0.0", "both modes, objects and buffers")
def test_events_of_the_javascript_sdk_are_taken() -> None:
    assert len(of_sdk("JavaScript")) == 4


@pytest.mark.real_world("CloudEvents SDK for Go 2.16.2", "both modes, objects, bytes, and empty texts for absent ones")
def test_events_of_the_go_sdk_are_taken() -> None:
    assert len(of_sdk("Go")) == 6


@pytest.mark.real_world("CloudEvents SDK for Java 4.0.1", "both modes, JSON and bytes, traceparent as an extension")
def test_events_of_the_java_sdk_are_taken_with_their_trace() -> None:
    traces = [event.traceparent for event in of_sdk("Java")]
    assert traces == ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] * 4


@pytest.mark.real_world("CloudEvents SDK for Rust 0.8", "structured mode, JSON and bytes")
def test_events_of_the_rust_sdk_are_taken() -> None:
    assert len(of_sdk("Rust")) == 2


def test_the_bytes_of_every_sdk_are_in_base64_in_structured_mode() -> None:
    coded = [vector for vector in vectors.of("CloudEvents SDK") if vector.form == "structured bytes"]
    assert len({vector.source for vector in coded}) >= 5
    assert all("data_base64" in json.loads(vector.value) for vector in coded)


@pytest.mark.real_world("Kafka Connect JsonConverter 3.9.1", "its wrapper of schema and payload, on by default")
def test_the_wrapper_of_connect_is_unwrapped_or_named_with_its_remedy() -> None:
    by_form = forms("Kafka Connect")
    for vector in by_form.values():
        assert taken(vector, HAS_DEFAULT).source == "kafka:form-submitted"
    said = refusal(by_form["schemas.enable=true"], Limits(default_tenant="acme"))
    assert "value.converter.schemas.enable=false" in said
    assert "GOALWORKER_EVENTS__PLAIN_JSON=true" in said


@pytest.mark.real_world("Debezium EventRouter 2.7.4", "envelope in ce_ headers by additional.placement")
def test_debezium_with_ce_headers_sends_binary_events() -> None:
    vector = forms("Debezium")["ce headers"]
    event = taken(vector, Limits())
    assert (event.source, event.id) == ("/crm", "6f1c8a2e-0000-4000-8000-000000000001")


@pytest.mark.real_world("Debezium EventRouter 2.7.4", "its default, where the payload is JSON in a text")
@pytest.mark.parametrize("form", ["default", "default schemas.enable=false", "StringConverter", "expanded"])
def test_debeziums_defaults_are_taken_without_an_envelope(form: str) -> None:
    event = taken(forms("Debezium")[form], PLAIN)
    assert event.id == "6f1c8a2e-0000-4000-8000-000000000001"
    assert "GOALWORKER_EVENTS__PLAIN_JSON" in refusal(forms("Debezium")["expanded"], KEY_PREFIX)


@pytest.mark.real_world("Spring Kafka JsonSerializer 3.3.6", "a bare object with the header __TypeId__")
def test_springs_default_is_taken_without_an_envelope() -> None:
    (vector,) = vectors.of("Spring Kafka JsonSerializer")
    assert taken(vector, PLAIN).id == "form-submitted/3/17"


@pytest.mark.real_world("Spring Kafka JsonMessageConverter 3.3.6", "a message whose id is in a header of its own")
def test_a_message_of_spring_has_the_id_of_its_header() -> None:
    (vector,) = vectors.of("Spring Kafka JsonMessageConverter")
    limits = Limits(tenant_from="key-prefix", plain_json=True, plain_id="Event-Id")
    assert taken(vector, limits).id == "e-1"


@pytest.mark.real_world("Dapr", "its envelope has no tenantid, and an empty tracestate")
@pytest.mark.parametrize("tenant_from", ["key-prefix", "header:tenant"])
def test_dapr_says_its_tenant_by_key_or_header(tenant_from: str) -> None:
    vector = forms("Dapr")["wrapped"]
    event = taken(vector, Limits(tenant_from=tenant_from))
    assert event.traceparent == "00-113ad9c4e42b27583ae98ba698d54255-e3743e35ff56f219-01"
    assert event.tracestate is None
    assert "no default tenant" in refusal(vector, Limits())
    assert taken(forms("Dapr")["rawPayload"], Limits(tenant_from=tenant_from, plain_json=True))


def test_every_vector_belongs_to_a_test() -> None:
    tested = ("CloudEvents SDK", "Kafka Connect", "Debezium", "Spring Kafka", "Dapr")
    assert all(vector.source.startswith(tested) for vector in vectors.read())
