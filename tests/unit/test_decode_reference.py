"""The decoder does what a second one says that was written from the contract alone, whatever comes."""

import base64
import json
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.decoding.skipping import Skipped
from goalworker.domain import events, facts
from tests.kit import hostile
from tests.kit.examples import examples
from tests.unit import near_misses, reference_decoder
from tests.unit.decoding import ALL, LIMITS, PLACE, REASONS, SKIPPED, Headers, decoded, event, good, malformed


def agree(
    topic: str,
    value: bytes,
    headers: Headers,
    timestamp_ms: int,
    limits: Limits = LIMITS,
    key: bytes | None = None,
) -> events.Event | str:
    """Compare decode with the reference, digit by digit, and return the outcome."""
    expected = reference_decoder.reference(
        hostile.KINDS, limits, topic, value, headers, timestamp_ms, now=hostile.NOW, key=key, place=PLACE
    )
    outcome = decoded(topic, value, headers, timestamp_ms, limits, key)
    careful = Decoder(hostile.KINDS, limits)
    careful._fast = dict.fromkeys(
        hostile.KINDS, lambda records, *_: ([], records, [])
    )  # nothing is decoded the fast way
    assert careful.decode(topic, value, headers, timestamp_ms, hostile.NOW, 17, key=key, position=PLACE) == outcome
    if isinstance(expected, events.Event):
        assert outcome == expected
        assert facts.trigger_of(event(outcome)).data == facts.trigger_of(expected).data
        return expected
    found = outcome.outcome if isinstance(outcome, Skipped) else malformed(outcome).reason
    assert found == expected, outcome
    return found


@pytest.mark.parametrize("record", [pytest.param(record, id=record.name) for record in ALL])
def test_hostile_records_come_to_what_the_contract_says(record: hostile.Record) -> None:
    outcome = agree(record.topic, record.value, record.headers, record.timestamp_ms, record.limits, record.key)
    assert ("event" if isinstance(outcome, events.Event) else outcome) == record.outcome


def test_the_corpus_has_every_outcome_of_the_decoder() -> None:
    assert {record.outcome for record in ALL} == REASONS | SKIPPED | {"event"}


@settings(max_examples=examples(1000))
@given(near_misses.records(), st.sampled_from([None, "south"]))
def test_decode_agrees_with_the_reference_on_records_that_are_nearly_right(
    record: tuple[str, bytes, Headers, int], default_tenant: str | None
) -> None:
    topic, value, headers, timestamp_ms = record
    agree(topic, value, headers, timestamp_ms, Limits(default_tenant=default_tenant))


OTHER_LIMITS: Final = st.builds(
    Limits,
    default_tenant=st.sampled_from([None, "south"]),
    tenant_from=st.sampled_from(["tenantid", "subject", "header:X-Tenant", "key-prefix"]),
    plain_json=st.booleans(),
    plain_id=st.sampled_from(["id", "CE-ID", "X-Id"]),
    test_events=st.sampled_from(["ignore", "count"]),
    foreign_types=st.sampled_from(["ignore", "dead_letter"]),
)
KEYS: Final = st.none() | st.sampled_from([b"south:c", b"s%C3%BCd:c", b"%ff:c", b"south"]) | st.binary(max_size=4)
OTHER_HEADERS: Final = st.lists(
    st.tuples(
        st.sampled_from(["X-Tenant", "x-tenant", "CE-Id", "ce_subject", "Ce_Tenantid", "ce-traceparent", "id", "X-ID"]),
        st.none() | st.binary(max_size=3) | st.sampled_from([b"1", b"south"]),
    ),
    max_size=2,
).map(tuple)
CHANGES: Final = st.sampled_from(
    [
        lambda value: value,
        lambda value: hostile.MARK + value,
        lambda value: b"[" + value + b"]",
        lambda value: b"[" + value + b"," + value + b"]",
        lambda value: value.replace(b'"tenantid"', b'"subject"').replace(b'"time"', b'"traceparent"'),
        lambda value: value.replace(b'"specversion"', b'"version"').replace(b'"contact_id"', b'"id":7,"contact_id"'),
        lambda value: b'{"schema": null, "payload": ' + value + b"}",
        lambda value: json.dumps(value.decode(errors="replace")).encode(),
        lambda value: b'{"data_base64": "' + base64.b64encode(value) + b'"}',
    ]
)


@settings(max_examples=examples(1000))
@given(near_misses.records(), OTHER_LIMITS, KEYS, OTHER_HEADERS, CHANGES, st.sampled_from([str, str.upper, str.title]))
def test_decode_agrees_with_the_reference_whatever_the_settings_and_the_form(
    record: tuple[str, bytes, Headers, int],
    limits: Limits,
    key: bytes | None,
    headers: Headers,
    change: Callable[[bytes], bytes],
    spelling: Callable[[str], str],
) -> None:
    topic, value, own, timestamp_ms = record
    own = tuple((spelling(name), text) for name, text in own)
    agree(topic, change(value), (*own, *headers), timestamp_ms, limits, key)


@settings(max_examples=examples(500))
@given(st.data(), st.sampled_from(sorted(hostile.DATA)), st.booleans())
def test_decode_agrees_with_the_reference_on_records_that_were_damaged(
    data: st.DataObject, kind: str, binary: bool
) -> None:
    value = bytearray(near_misses.token(hostile.DATA[kind]) if binary else good(kind))
    for place in data.draw(st.lists(st.integers(0, len(value) - 1), max_size=3)):
        value[place] = data.draw(st.sampled_from(list(b'\x00\x1f "\\,:{}[]019eEuNt\x7f\x80\xc3\xff')))
    del value[data.draw(st.integers(0, len(value)) | st.just(len(value))) :]
    headers = hostile.ce_headers(kind) if binary else ()
    agree(hostile.TOPIC_OF_KIND[kind], bytes(value), headers, hostile.TIMESTAMP_MS)


@settings(max_examples=examples(300))
@given(
    st.sampled_from(sorted(hostile.KINDS)),
    st.binary(max_size=64),
    st.lists(
        st.tuples(
            st.sampled_from(["content-type", "ce_specversion", "ce_id", "ce_type", "traceparent", "x"]),
            st.none() | st.binary(max_size=8) | st.sampled_from([b"1.0", b"application/cloudevents"]),
        ),
        max_size=4,
    ).map(tuple),
    st.integers(-(2**63), 2**63 - 1),
)
@example("tag-added", b"[" * 100_000, (), 0)
def test_no_bytes_make_decode_raise(topic: str, value: bytes, headers: Headers, timestamp_ms: int) -> None:
    agree(topic, value, headers, timestamp_ms)
