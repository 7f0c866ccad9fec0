"""Texts and amounts from outside, and an event as evidence."""

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.domain import criteria, events, facts
from goalworker.domain.text import format_decimal, format_money, is_valid_text, parse_amount, parse_json_amount
from tests.kit.strategies import at


@given(st.text(max_size=260) | st.text(st.sampled_from("aé\U0001f600\x00\x7f\x85\ud800"), min_size=1, max_size=300))
def test_text_is_1_to_255_bytes_of_utf8_without_control_characters(value: str) -> None:
    size_bytes = len(value.encode(errors="surrogatepass"))
    clean = not any(unicodedata.category(character) in ("Cc", "Cs") for character in value)
    assert is_valid_text(value) == (0 < size_bytes <= 255 and clean)


@pytest.mark.parametrize("value", ["a" * 255, "é" * 127, " ", "a b", "\u200b", "\u2028", "\U0001f600"])
def test_these_are_text(value: str) -> None:
    assert is_valid_text(value)


@pytest.mark.parametrize("value", ["", "a" * 256, "é" * 128, "a\x00", "a\n", "\x7f", "\x9f", "\ud800", "a\udfff"])
def test_these_are_no_text(value: str) -> None:
    assert not is_valid_text(value)


exact = st.decimals(0, 10**15, places=18) | st.integers(0, 10**15).map(Decimal)


@given(exact)
def test_an_amount_keeps_every_digit(amount: Decimal) -> None:
    written = format_decimal(amount)
    assert "E" not in written
    for read in (parse_amount(written), parse_json_amount(written)):
        assert read is not None
        assert format_decimal(read) == written


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", "0"),
        ("100", "100"),
        ("100.00", "100.00"),
        ("007", "7"),
        ("1000000000000000", "1000000000000000"),
        ("999999999999999.999999999999999999", "999999999999999.999999999999999999"),
    ],
)
def test_a_plain_decimal_string_is_an_amount(text: str, amount: str) -> None:
    assert str(parse_amount(text)) == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1.",
        ".5",
        "1e2",
        "1_000",
        " 1",
        "1\n",
        "NaN",
        "Infinity",
        "٣",
        "1,5",
        "0.0000000000000000001",
        "1000000000000000.1",
        "1000000000000001",
        "9" * 5_000,
    ],
)
def test_no_other_string_is(text: str) -> None:
    assert parse_amount(text) is None


@pytest.mark.parametrize(
    ("number", "amount"), [("1e2", "100"), ("1E+15", "1" + "0" * 15), ("-0", "0"), ("0e9999", "0"), ("12.50", "12.50")]
)
def test_a_json_number_is_an_amount_however_it_is_written(number: str, amount: str) -> None:
    assert str(parse_json_amount(number)) == amount


@pytest.mark.parametrize(
    "number", ["-1", "1e16", "1e999", "1e999999999", "1e-19", "NaN", "Infinity", "01", "9" * 5_000, "1" + "0" * 200]
)
def test_a_number_out_of_range_is_none(number: str) -> None:
    assert parse_json_amount(number) is None


DATA: list[tuple[str, events.GoalData, bytes]] = [
    ("contact.tag.added", events.TagAdded("c1", tag_name="VIP"), b'{"contact_id":"c1","tag_name":"VIP"}'),
    (
        "payment.completed",
        events.PaymentCompleted("c1", "p1", Decimal("100.00"), "eur", ("a", "b")),
        b'{"contact_id":"c1","payment_id":"p1","amount":"100.00","currency":"eur","product_ids":["a","b"]}',
    ),
    (
        "payment.completed",
        events.PaymentCompleted("c1", "p1", Decimal("999999999999999.999999999999999999"), "EUR"),
        b'{"contact_id":"c1","payment_id":"p1","amount":"999999999999999.999999999999999999","currency":"EUR"}',
    ),
    (
        "appointment.booked",
        events.AppointmentBooked("c1", "a1", "cal", None, "2026-01-01T12:00:00+01:00"),
        b'{"contact_id":"c1","appointment_id":"a1","calendar_id":"cal","starts_at":"2026-01-01T12:00:00+01:00"}',
    ),
    (
        "form.submitted",
        events.FormSubmitted("c1", "f1", "s1"),
        b'{"contact_id":"c1","form_id":"f1","submission_id":"s1"}',
    ),
    (
        "appointment.booked",
        events.AppointmentBooked("c1", "a1", replaces_appointment_id="a0", correlation_id="o1"),
        b'{"contact_id":"c1","appointment_id":"a1","replaces_appointment_id":"a0","correlation_id":"o1"}',
    ),
    (
        "pipeline.stage.changed",
        events.StageChanged("c1", "pl", "st", "before", "deal"),
        b'{"contact_id":"c1","pipeline_id":"pl","stage_id":"st","previous_stage_id":"before","deal_id":"deal"}',
    ),
]


@pytest.mark.parametrize(("type_", "data", "expected"), DATA)
def test_evidence_is_the_contract_fields_that_the_event_had(type_: str, data: events.GoalData, expected: bytes) -> None:
    event = events.Event("north", "/crm", "1", type_, at(5), data, "00-trace-01", "state=1")
    trigger = facts.trigger_of(event)
    assert trigger == facts.Trigger("/crm", "1", at(5), expected, "00-trace-01", "state=1")
    assert trigger.order == (at(5), "/crm", "1")


def test_the_table_of_goal_types_is_that_of_the_contract() -> None:
    table = events.GOAL_TYPE_TABLE
    assert {name: (row.topic, row.event_type, row.data) for name, row in table.items()} == {
        "tag_added": ("tag_added", "contact.tag.added", events.TagAdded),
        "purchase_made": ("payment_completed", "payment.completed", events.PaymentCompleted),
        "appointment_booked": ("appointment_booked", "appointment.booked", events.AppointmentBooked),
        "form_submitted": ("form_submitted", "form.submitted", events.FormSubmitted),
        "pipeline_stage_reached": ("stage_changed", "pipeline.stage.changed", events.StageChanged),
    }
    assert {name: row.event_types - {row.event_type} for name, row in table.items() if row.reversals} == {
        "purchase_made": {"payment.refunded", "payment.failed"},
        "appointment_booked": {"appointment.cancelled"},
        "form_submitted": {"form.rejected"},
    }


def test_each_criterion_belongs_to_one_goal_type_and_one_of_them_is_its_index_key() -> None:
    rows = events.GOAL_TYPE_TABLE.values()
    assert sorted(name for row in rows for name in row.criteria) == sorted(
        set(criteria.Criteria.__struct_fields__) - set(criteria.SETTING_FIELDS)
    )
    assert all(row.index_key in row.criteria for row in rows)
    # A goal sets all fields, or any of them, or a flag in their place: never two of these.
    assert [row.name for row in rows if row.are_criteria_required and row.any_flag] == []


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("39946.090000000000000000", "39946.09"),
        ("49.990000000000000001", "49.990000000000000001"),
        ("49.9000", "49.90"),
        ("0.1050", "0.105"),
        ("100", "100"),
        ("100.0", "100.0"),
        ("1000.000", "1000.00"),
        ("1E+3", "1000"),
        ("0.000", "0.00"),
    ],
)
def test_money_has_no_trailing_zeros_beyond_two_decimals_and_loses_nothing(amount: str, shown: str) -> None:
    assert format_money(Decimal(amount)) == shown
    assert Decimal(shown) == Decimal(amount)
