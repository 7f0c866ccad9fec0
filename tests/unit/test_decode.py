"""Records from outside: what is taken, what is refused for which reason, and that nothing else can happen."""

import base64
import json
import timeit
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from goalworker.decoding.decoder import Decoder, Limits, Malformed
from goalworker.domain import events, facts
from tests.unit import hostile, hostile_forms, hostile_settings, near_misses, reference_decoder

LIMITS: Final = Limits()
PLACE: Final = (3, 17)
REASONS: Final = {
    "invalid_json",
    "invalid_envelope",
    "invalid_data",
    "unexpected_type",
    "unsupported_wire_format",
    "too_large",
    "future_time",
}
Outcome = events.Event | Malformed | None
Headers = hostile.Headers


def decoded(
    topic: str,
    value: bytes | None,
    headers: Headers = (),
    timestamp_ms: int = hostile.TIMESTAMP_MS,
    limits: Limits = LIMITS,
    key: bytes | None = None,
) -> Outcome:
    decoder = Decoder(hostile.KINDS, limits)
    return decoder.decode(topic, value, headers, timestamp_ms, hostile.NOW, 17, key=key, place=PLACE)


def good(kind: str, **attributes: object) -> bytes:
    return json.dumps(hostile.envelope(kind, hostile.DATA[kind], **attributes)).encode()


def event(outcome: Outcome) -> events.Event:
    assert isinstance(outcome, events.Event), outcome
    return outcome


def malformed(outcome: Outcome) -> Malformed:
    assert isinstance(outcome, Malformed), outcome
    return outcome


# --- one decoder, told twice ---


def agree(
    topic: str,
    value: bytes,
    headers: Headers,
    timestamp_ms: int,
    limits: Limits = LIMITS,
    key: bytes | None = None,
) -> events.Event | str:
    """Hold decode to the reference, digit by digit, and return what came of the record."""
    expected = reference_decoder.reference(
        hostile.KINDS, limits, topic, value, headers, timestamp_ms, now=hostile.NOW, key=key, place=PLACE
    )
    outcome = decoded(topic, value, headers, timestamp_ms, limits, key)
    careful = Decoder(hostile.KINDS, limits)
    careful._quick = dict.fromkeys(hostile.KINDS, lambda records, *_: ([], records))  # nothing goes the quick way
    assert careful.decode(topic, value, headers, timestamp_ms, hostile.NOW, 17, key=key, place=PLACE) == outcome
    if isinstance(expected, events.Event):
        assert outcome == expected
        assert facts.trigger_of(event(outcome)).data == facts.trigger_of(expected).data
        return expected
    assert malformed(outcome).reason == expected, outcome
    return str(expected)


ALL: Final = hostile.CORPUS + hostile_forms.DOCUMENTS + hostile_forms.OTHERS + hostile_settings.CORPUS


@pytest.mark.parametrize("record", [pytest.param(record, id=record.name) for record in ALL])
def test_hostile_records_come_to_what_the_contract_says(record: hostile.Record) -> None:
    outcome = agree(record.topic, record.value, record.headers, record.timestamp_ms, record.limits, record.key)
    assert ("event" if isinstance(outcome, events.Event) else outcome) == record.outcome


def test_the_corpus_has_every_reason_of_the_decoder() -> None:
    assert {record.outcome for record in hostile.CORPUS} == REASONS | {"event"}


@settings(max_examples=1000)
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


@settings(max_examples=1000)
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


@settings(max_examples=500)
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


@settings(max_examples=300)
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


# --- what is taken ---


@pytest.mark.parametrize("kind", sorted(hostile.DATA))
def test_both_forms_of_every_type_give_the_same_event(kind: str) -> None:
    topic = hostile.TOPIC_OF_KIND[kind]
    structured = event(decoded(topic, good(kind)))
    assert structured == event(decoded(topic, near_misses.token(hostile.DATA[kind]), hostile.ce_headers(kind)))
    assert type(structured.data) is events.DATA_OF_TYPE[kind]
    assert json.loads(facts.trigger_of(structured).data) == hostile.DATA[kind]


@pytest.mark.parametrize("kind", sorted(hostile.DATA))
def test_good_records_go_the_quick_way(kind: str) -> None:
    decoder = Decoder(hostile.KINDS, LIMITS)
    decoder._careful = {}  # so that the careful way would raise
    for value, headers in [(good(kind), ()), (near_misses.token(hostile.DATA[kind]), hostile.ce_headers(kind))]:
        event(decoder.decode(hostile.TOPIC_OF_KIND[kind], value, headers, -1, hostile.NOW))


def test_a_tombstone_is_nothing() -> None:
    assert decoded("form-submitted", None, (("ce_id", b"\xff"),)) is None


def test_an_absent_tenant_is_the_default_one_where_there_is_one() -> None:
    limits = Limits(default_tenant="south")
    assert event(decoded("form-submitted", good("form.submitted", tenantid=None), limits=limits)).tenant_id == "south"
    assert event(decoded("form-submitted", good("form.submitted"), limits=limits)).tenant_id == "north"


def test_an_absent_time_is_that_of_the_record_and_counted() -> None:
    decoder = Decoder(hostile.KINDS, LIMITS)
    for offset, time in enumerate((None, None, hostile.GOOD_TIME)):
        outcome = decoder.decode(
            "form-submitted", good("form.submitted", time=time), (), hostile.TIMESTAMP_MS - 1, hostile.NOW, offset
        )
        assert event(outcome).time < hostile.NOW
    bad = good("form.submitted", time=None, id="")
    malformed(decoder.decode("form-submitted", bad, (), hostile.TIMESTAMP_MS, hostile.NOW))
    doubled = good("form.submitted", time=None).replace(b'"id"', b'"id": 5, "id"')
    event(decoder.decode("form-submitted", doubled, (), hostile.TIMESTAMP_MS, hostile.NOW, 7))
    assert decoder.without_time == {"form-submitted": [0, 1, 7]}


@pytest.mark.parametrize(
    ("written", "microsecond"),
    [
        ("", 0),
        (".5", 500_000),
        (".0000004999", 0),
        (".0000005", 1),
        (".1234565", 123_457),
        (".123456" + "4" * 200, 123_456),
    ],
)
def test_times_are_rounded_half_up_to_the_microsecond(written: str, microsecond: int) -> None:
    time = event(decoded("form-submitted", good("form.submitted", time=f"2026-05-01T10:00:00{written}+01:00"))).time
    assert time == datetime(2026, 5, 1, 9, 0, 0, microsecond, tzinfo=UTC)
    assert time.tzinfo is UTC


def test_the_future_begins_after_the_limit() -> None:
    limits = Limits(max_future=timedelta(seconds=1))
    assert event(decoded("form-submitted", good("form.submitted", time="2026-05-01T12:00:01Z"), limits=limits))
    late = decoded("form-submitted", good("form.submitted", time="2026-05-01T12:00:01.000001Z"), limits=limits)
    assert malformed(late) == Malformed("future_time", "/time", "`time` is more than 1 s ahead of the database's clock")


def test_max_bytes_is_the_largest_value_that_is_taken() -> None:
    value = good("form.submitted")
    assert event(decoded("form-submitted", value, limits=Limits(max_bytes=len(value))))
    refused = malformed(decoded("form-submitted", value, limits=Limits(max_bytes=len(value) - 1)))
    assert refused.reason == "too_large"


def test_trace_headers_are_carried_when_they_are_printable() -> None:
    value = good("form.submitted")
    carried = event(decoded("form-submitted", value, (("traceparent", b"00-ab-cd-01"), ("tracestate", b"a=b" * 170))))
    assert (carried.traceparent, carried.tracestate) == ("00-ab-cd-01", "a=b" * 170)
    for junk in (None, b"", b"\xff", b"a\n", b"x" * 513):
        dropped = event(decoded("form-submitted", value, (("traceparent", junk), ("tracestate", junk))))
        assert (dropped.traceparent, dropped.tracestate) == (None, None)


def test_of_a_header_that_comes_twice_the_last_counts() -> None:
    headers = (*hostile.ce_headers(id=b"first"), ("ce_id", b"last"))
    assert event(decoded("form-submitted", hostile.FORM, headers)).id == "last"


@pytest.mark.parametrize("kind", sorted(events.GOAL_TYPE_OF_EVENT))
def test_a_value_without_an_envelope_is_of_its_topics_type_and_source(kind: str) -> None:
    topic = hostile.TOPIC_OF_KIND[kind]
    found = event(decoded(topic, near_misses.token(hostile.DATA[kind]), limits=hostile_settings.PLAIN_LIMITS))
    assert (found.type, found.source, found.tenant_id) == (kind, f"kafka:{topic}", "south")
    assert found.time == hostile.NOW
    assert json.loads(facts.trigger_of(found).data) == hostile.DATA[kind]


@pytest.mark.parametrize(
    ("header", "own", "id_"),
    [
        (b"h-1", "p-1", "h-1"),
        (b"", "p-1", "p-1"),
        (None, 17, "17"),
        (None, "", "form-submitted/3/17"),
        (None, None, "form-submitted/3/17"),
    ],
)
def test_the_id_without_an_envelope_is_the_headers_or_its_own_or_the_place(
    header: bytes | None, own: object, id_: str
) -> None:
    headers = () if header is None else (("Event-Id", header),)
    value = hostile_settings.says(id=own)
    assert event(decoded("form-submitted", value, headers, limits=hostile_settings.PLAIN_LIMITS)).id == id_


def test_a_value_without_an_envelope_and_time_is_counted_as_such() -> None:
    decoder = Decoder(hostile.KINDS, hostile_settings.PLAIN_LIMITS)
    for value in (hostile.FORM, hostile_settings.says(time=hostile.GOOD_TIME)):
        event(decoder.decode("form-submitted", value, (), hostile.TIMESTAMP_MS, hostile.NOW, 17, place=PLACE))
    assert decoder.without_time == {"form-submitted": [17]}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((("traceparent", b"header"), ("ce_traceparent", b"ce")), "header"),
        ((("Traceparent", b"\xff"), ("CE-Traceparent", b"ce")), "ce"),
        ((("traceparent", b""),), "attribute"),
        ((), "attribute"),
    ],
)
def test_a_trace_is_the_headers_or_the_ce_headers_or_the_attributes(headers: Headers, expected: str) -> None:
    value = good("form.submitted", traceparent="attribute", tracestate="a=1")
    found = event(decoded("form-submitted", value, headers))
    assert (found.traceparent, found.tracestate) == (expected, "a=1")


def test_second_60_is_the_first_of_the_next_minute() -> None:
    found = event(decoded("form-submitted", good("form.submitted", time="2016-12-31T23:59:60.25Z")))
    assert found.time == datetime(2017, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)


def test_an_unknown_topic_is_the_callers_error() -> None:
    decoder = Decoder(hostile.KINDS, LIMITS)
    assert decoder.knows("form-submitted")
    assert not decoder.knows("elsewhere")
    with pytest.raises(KeyError):
        decoder.decode("elsewhere", good("form.submitted"), (), 0, hostile.NOW)


# --- what is said of the others ---


@pytest.mark.parametrize(
    ("record", "pointer", "detail"),
    [
        (
            hostile.amount(b"-1", "invalid_data"),
            "/data/amount",
            "`amount` must be a JSON number or plain decimal string from 0 to 10^15 with at most 18 decimals",
        ),
        (
            hostile.data("", "", form_id=5),
            "/data/form_id",
            "`form_id` must be text of 1 to 255 bytes without control characters",
        ),
        (
            hostile.data("", "", form_id=None),
            "/data/form_id",
            "`form_id` is missing; it must be text of 1 to 255 bytes without control characters",
        ),
        (
            hostile.data("", "", "contact.tag.added", tag_id=None, tag_name=None),
            "/data/tag_id",
            "`tag_id` is missing, and so is `tag_name`; one of them is needed",
        ),
        (
            hostile.data("", "", "payment.completed", product_ids=[""]),
            "/data/product_ids",
            "`product_ids` must be a list of at most 1000 texts of 1 to 255 bytes",
        ),
        (hostile.without("", "", "data"), "/data", "`data` must be a JSON object"),
        (hostile.without("", "", "tenantid"), "/tenantid", "`tenantid` is missing, and there is no default tenant"),
        (
            hostile.structured("", "", time="noon"),
            "/time",
            "`time` must be an RFC 3339 time with an offset, such as 2026-05-01T12:00:00Z",
        ),
        (
            hostile.structured("", "", type="order.placed"),
            "/type",
            "`type` must be one of form.submitted in this topic",
        ),
        (hostile.headers("", "", (), b"{} x"), "", "the value is not JSON: trailing characters (byte 4)"),
        (hostile.headers("", "", (), b"[]"), "", "the value is an array; send each event alone"),
        (hostile.headers("", "", (), b"7"), "", "the value must be a JSON object"),
        (hostile.headers("", "", (), b'{"\xff"'), "", "the value is not UTF-8: byte 2 is wrong"),
        (hostile.headers("", "", (), b"[" * 100_000), "", "the value is nested too deep"),
        (hostile.headers("", "", hostile.ce_headers(id=b"\xff"), hostile.FORM), "header ce_id", "`id` must be UTF-8"),
        (
            hostile.headers("", "", hostile.ce_headers(specversion=b"0.3"), hostile.FORM),
            "header ce_specversion",
            '`specversion` must be "1.0"',
        ),
        (
            hostile.headers("", "", hostile.ce_headers(), b'{"contact_id": "c-1"}'),
            "/form_id",
            "`form_id` is missing; it must be text of 1 to 255 bytes without control characters",
        ),
        (hostile.headers("", "", hostile.ce_headers(), b"[]"), "", "`data` must be a JSON object"),
        (
            hostile.headers("", "", (), b"[" + hostile.GOOD.replace(b'"f-1"', b"7") + b"]"),
            "/0/data/form_id",
            "`form_id` must be text of 1 to 255 bytes without control characters",
        ),
        (hostile_forms.coded("", "", b'"e30"'), "/data_base64", "`data_base64` must be JSON in base64"),
        (
            hostile_forms.coded("", "", hostile_forms.base64_of(b"{}")),
            "/data_base64",
            "`contact_id` is missing; it must be text of 1 to 255 bytes without control characters",
        ),
        (
            hostile.headers("", "", (), b'{"schema": {}, "payload": {}}'),
            "",
            "the value is wrapped in `schema` and `payload` by Kafka Connect; set value.converter.schemas.enable=false "
            "there, or GOALWORKER_EVENTS__PLAIN_JSON=true here",
        ),
        (
            hostile.headers("", "", hostile.ce_headers(), b'{"schema": {}, "payload": {}}'),
            "",
            "`data` is wrapped in `schema` and `payload` by Kafka Connect; set value.converter.schemas.enable=false "
            "there",
        ),
        (
            hostile.headers("", "", (), hostile.FORM),
            "/specversion",
            '`specversion` is missing; it must be "1.0". For JSON without an envelope set '
            "GOALWORKER_EVENTS__PLAIN_JSON=true here",
        ),
        (
            hostile_settings.plain("", "", hostile_settings.says(form_id=7)),
            "/form_id",
            "`form_id` must be text of 1 to 255 bytes without control characters",
        ),
        (
            hostile_settings.plain("", "", hostile_settings.wrapped(hostile_settings.says(form_id=7))),
            "/payload/form_id",
            "`form_id` must be text of 1 to 255 bytes without control characters",
        ),
        (
            hostile_settings.plain("", "", hostile_settings.wrapped(hostile_settings.as_text(b"{}"))),
            "/payload",
            "`contact_id` is missing; it must be text of 1 to 255 bytes without control characters",
        ),
        (
            hostile_settings.plain("", "", hostile.FORM, ("event-id", b"\xff")),
            "header event-id",
            "`header event-id` must be UTF-8",
        ),
        (
            hostile_settings.plain("", "", b"{}", kind="workflow.activated"),
            "/specversion",
            '`specversion` is missing; it must be "1.0"',
        ),
        (
            hostile_settings.tenant("", "", "header:X-T", hostile.without("", "", "tenantid")),
            "/tenantid",
            "`tenantid` is missing, so is the header that EVENTS__TENANT_FROM names, and there is no default tenant",
        ),
        (
            hostile_settings.tenant("", "", "key-prefix", hostile.without("", "", "tenantid"), b"%00:c"),
            "key",
            "`key` must be text of 1 to 255 bytes without control characters",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(record: hostile.Record, pointer: str, detail: str) -> None:
    found = malformed(
        decoded(record.topic, record.value, record.headers, record.timestamp_ms, record.limits, record.key)
    )
    assert (found.pointer, found.detail) == (pointer, detail)


@pytest.mark.parametrize("record", [record for record in ALL if record.outcome != "event"])
def test_a_sentence_never_quotes_the_payload_and_fits_a_header(record: hostile.Record) -> None:
    found = malformed(
        decoded(record.topic, record.value, record.headers, record.timestamp_ms, record.limits, record.key)
    )
    assert found.reason in REASONS
    assert found.detail.isascii()
    assert found.detail.isprintable()
    assert len(found.detail) < 200
    for secret in ("c-1", "p-1", "south", "form-", "sku-1", "north", "/crm", "129.90", "客户"):
        assert secret not in found.detail


# --- time ---


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b'{"x":[' + b"1," * 32_000 + b"1]}", id="many numbers"),
        pytest.param(b'{"x":"' + b"\\u00e9" * 10_000 + b'"}', id="many escapes"),
        pytest.param('{{"x":"{}"}}'.format("é" * 32_000).encode(), id="many letters of two bytes"),
        pytest.param(b"{" + b",".join(b'"k%d":1' % i for i in range(6_000)) + b"}", id="many keys"),
        pytest.param(b"{" + b'"id":5,' * 9_000 + b'"id":5}', id="one key many times"),
        pytest.param(good("form.submitted", id="x" * 65_000), id="a long id"),
        pytest.param(good("form.submitted", time="2026-05-01T00:00:00." + "1" * 65_000 + "Z"), id="a long time"),
        pytest.param(good("payment.completed").replace(b'"129.90"', b"9" * 65_000), id="a long amount"),
        pytest.param(b"[" * 65_000, id="brackets"),
    ],
)
def test_64_kib_of_anything_are_decoded_within_a_millisecond(value: bytes) -> None:
    # On any machine: within the time that the standard library takes for 64 KiB of numbers, which is some 1 ms.
    numbers = b"[" + b"1," * 32_000 + b"1]"
    decoder = Decoder(hostile.KINDS, LIMITS)  # which a worker makes once
    times = [
        (
            timeit.timeit(lambda: decoder.decode("payment-completed", value, (), 0, hostile.NOW), number=1),
            timeit.timeit(lambda: json.loads(numbers), number=1),
        )
        for _ in range(20)
    ]
    ours, theirs = map(min, zip(*times, strict=True))
    assert ours < theirs
