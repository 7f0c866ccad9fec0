"""Decoding of valid records: the forms that are accepted, their meaning, and the time that decoding takes."""

import json
import timeit
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from goalworker.decoding.decoder import Decoder, Malformed
from goalworker.decoding.limits import Limits
from goalworker.decoding.skipping import Skipped
from goalworker.domain import events, facts
from tests.kit import hostile
from tests.unit import hostile_settings, near_misses
from tests.unit.decoding import LIMITS, PLACE, Headers, decoded, event, good, malformed


@pytest.mark.parametrize("kind", sorted(hostile.DATA))
def test_both_forms_of_every_type_give_the_same_event(kind: str) -> None:
    topic = hostile.TOPIC_OF_KIND[kind]
    structured = event(decoded(topic, good(kind)))
    assert structured == event(decoded(topic, near_misses.token(hostile.DATA[kind]), hostile.ce_headers(kind)))
    assert type(structured.data) is events.DATA_OF_TYPE[kind]
    assert json.loads(facts.trigger_of(structured).data) == hostile.DATA[kind]


@pytest.mark.parametrize("kind", sorted(hostile.DATA))
def test_good_records_are_decoded_the_fast_way(kind: str) -> None:
    decoder = Decoder(hostile.KINDS, LIMITS)
    decoder._readers = {}  # so that the careful way would raise
    for value, headers in [(good(kind), ()), (near_misses.token(hostile.DATA[kind]), hostile.ce_headers(kind))]:
        event(decoder.decode(hostile.TOPIC_OF_KIND[kind], value, headers, -1, hostile.NOW))


@pytest.mark.parametrize("kind", ["contact.tag.added", "form.submitted"])
def test_a_topic_may_carry_several_types_each_decoded_the_fast_way(kind: str) -> None:
    decoder = Decoder({"t": frozenset({"contact.tag.added", "form.submitted"})}, LIMITS)
    decoder._readers = {}  # so that the careful way would raise
    for value, headers in [(good(kind), ()), (near_misses.token(hostile.DATA[kind]), hostile.ce_headers(kind))]:
        found = event(decoder.decode("t", value, headers, -1, hostile.NOW))
        assert found == event(decoded(hostile.TOPIC_OF_KIND[kind], good(kind)))


@pytest.mark.parametrize(
    ("kind", "value", "outcome"),
    [
        ("form.submitted", good("form.submitted", type="order.placed"), "foreign_type"),
        ("workflow.activated", good("workflow.activated", type="order.placed"), "foreign_type"),
        ("form.submitted", good("form.submitted").replace(b'"form_id"', b'"test": true, "form_id"'), "test"),
        ("pipeline.stage.changed", good("pipeline.stage.changed").replace(b'"st-1"', b'"st-2"'), "no_move"),
    ],
)
def test_skipped_events_are_recognised_the_fast_way(kind: str, value: bytes, outcome: str) -> None:
    decoder = Decoder(hostile.KINDS, LIMITS)
    decoder._readers = {}  # so that the careful way would raise
    found = decoder.decode(hostile.TOPIC_OF_KIND[kind], value, (), -1, hostile.NOW)
    assert isinstance(found, Skipped)
    assert (found.outcome, found.tenant_id) == (outcome, "north")


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
    sentence = "`time` is more than 1 s ahead of the database's clock"
    assert malformed(late) == Malformed("future_time", "/time", sentence, "north")


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


@pytest.mark.parametrize("kind", sorted(events.GOAL_EVENT_TYPES))
def test_a_value_without_an_envelope_is_of_its_topics_type_and_source(kind: str) -> None:
    topic = hostile.TOPIC_OF_KIND[kind]
    found = event(decoded(topic, near_misses.token(hostile.DATA[kind]), limits=hostile_settings.PLAIN_LIMITS))
    assert (found.type, found.source, found.tenant_id) == (kind, f"kafka:{topic}", "south")
    assert found.time == hostile.NOW
    assert json.loads(facts.trigger_of(found).data) == hostile.DATA[kind]


@pytest.mark.parametrize(
    ("kind", "taken_for"),
    [
        ("payment.refunded", "payment.completed"),
        ("payment.failed", "invalid_data"),
        ("appointment.cancelled", "appointment.booked"),
        ("form.rejected", "invalid_data"),
    ],
)
def test_a_reversal_without_an_envelope_is_taken_for_its_topics_goal_event(kind: str, taken_for: str) -> None:
    value, topic = near_misses.token(hostile.DATA[kind]), hostile.TOPIC_OF_KIND[kind]
    found = decoded(topic, value, limits=hostile_settings.PLAIN_LIMITS)
    assert (found.type if isinstance(found, events.Event) else malformed(found).reason) == taken_for


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
        event(decoder.decode("form-submitted", value, (), hostile.TIMESTAMP_MS, hostile.NOW, 17, position=PLACE))
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


@pytest.mark.parametrize(
    ("token", "text"),
    [(b"17", "17"), (b"-0", "0"), (b"-42", "-42"), (b"18446744073709551616", "18446744073709551616")],
)
def test_an_id_that_is_an_integer_is_its_decimal_text(token: bytes, text: str) -> None:
    found = event(decoded("form-submitted", good("form.submitted").replace(b'"c-1"', token)))
    assert isinstance(found.data, events.FormSubmitted)
    assert found.data.contact_id == text


def test_products_are_texts_and_integers_without_the_nulls_among_them() -> None:
    value = good("payment.completed").replace(b'["sku-1", "sku-2"]', b'[null, 6801234567890, "sku-2", null]')
    found = event(decoded("payment-completed", value))
    assert isinstance(found.data, events.PaymentCompleted)
    assert found.data.product_ids == ("6801234567890", "sku-2")


@pytest.mark.parametrize(
    ("token", "starts_at"),
    [(b'"next Tuesday"', "next Tuesday"), (b"1780304400000", None), (b'{"a": []}', None), (rb'"\u0000"', None)],
)
def test_a_start_is_kept_as_text_and_dropped_as_anything_else(token: bytes, starts_at: str | None) -> None:
    found = event(decoded("appointment-booked", good("appointment.booked").replace(b'"2026-06-01T09:00"', token)))
    assert isinstance(found.data, events.AppointmentBooked)
    assert found.data.starts_at == starts_at


def test_an_end_of_an_enrollment_has_nothing_of_its_start() -> None:
    value = good("workflow.enrollment.ended").replace(b'"reason"', b'"started_by": 7, "correlation_id": "o", "reason"')
    assert event(decoded("workflow-lifecycle", value)).data == events.EnrollmentChanged("w-1", "e-1", "c-1", "done")


def test_second_60_is_the_first_of_the_next_minute() -> None:
    found = event(decoded("form-submitted", good("form.submitted", time="2016-12-31T23:59:60.25Z")))
    assert found.time == datetime(2017, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)


def test_an_unknown_topic_is_the_callers_error() -> None:
    decoder = Decoder(hostile.KINDS, LIMITS)
    assert decoder.knows("form-submitted")
    assert not decoder.knows("elsewhere")
    with pytest.raises(KeyError):
        decoder.decode("elsewhere", good("form.submitted"), (), 0, hostile.NOW)


PAID: Final = good("payment.completed").replace(b'["sku-1", "sku-2"]', b"%b")


@pytest.mark.unmeasured
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
        pytest.param(PAID % (b"[" + b"null," * 13_000 + b"null]"), id="many products that are null"),
        pytest.param(PAID % (b"[" + b"%d," % 10**9 * 1_000 + b"7]"), id="one integer too many as products"),
        pytest.param(good("payment.completed").replace(b'"c-1"', b"9" * 65_000), id="a long integer as an id"),
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
