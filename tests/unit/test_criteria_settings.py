"""Settings of goals as people write them: how many events, within which time, and which of them."""

import json
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.domain import criteria, events, goals
from goalworker.domain.criteria import SETTING_FIELDS, Criteria, criteria_of_json, criteria_of_text, criteria_to_json
from goalworker.domain.criteria_parsing import CriteriaError, parse_criteria, warnings
from goalworker.domain.faults import Fault
from goalworker.domain.text import DURATION_SECONDS_MAX, format_duration, parse_duration
from goalworker.goal_index import codec
from tests.kit.strategies import at

AMOUNT_RULE: Final = (
    "must be a JSON number or plain decimal string from 0 to 10^15 with at most 18 decimals, in major units such as "
    "49.90, and above 0"
)
DURATION_RULE: Final = (
    "must be an ISO 8601 duration of weeks, days, hours, minutes and whole seconds up to P365D; use P30D for a month"
)
TIMES_RULE: Final = "must be a whole number from 2 to 1,000, such as 3"


def parse(goal_type: str, given_: dict[str, Any]) -> Criteria:
    return parse_criteria(goal_type, given_)


def faults_of(goal_type: str, given_: dict[str, Any]) -> list[Fault]:
    with pytest.raises(CriteriaError) as raised:
        parse(goal_type, given_)
    return raised.value.faults


@pytest.mark.parametrize(
    ("goal_type", "given_", "normalised"),
    [
        (
            "purchase_made",
            {"correlate_by": "payment_id", "within": "P4W", "times": 3, "any_purchase": True, "reversals": "keep"},
            {
                "any_purchase": True,
                "times": 3,
                "within": "P28D",
                "reversals": "keep",
                "correlate_by": "payment_id",
            },
        ),
        (
            "purchase_made",
            {"total_amount": 500, "currency": "eur", "deadline": "PT36H", "product_id": ["p2", "p1"]},
            {"product_id": ["p1", "p2"], "currency": "EUR", "total_amount": "500", "deadline": "P1DT12H"},
        ),
        (
            "purchase_made",
            {"total_amount": "0.10", "currency": "JPY", "deadline": "P1W", "within": "P1D"},
            {"currency": "JPY", "total_amount": "0.1", "within": "P1D", "deadline": "P7D"},
        ),
        ("tag_added", {"tag_id": "t", "deadline": "P365D"}, {"tag_id": "t", "deadline": "P365D"}),
        ("tag_added", {"tag_id": "t", "reversals": "revoke"}, {"tag_id": "t"}),
        ("tag_added", dict.fromkeys(SETTING_FIELDS) | {"tag_id": "t", "total_amount": None}, {"tag_id": "t"}),
        (
            "tag_added",
            {"tag_id": "t", "correlate_by": "correlation_id"},
            {"tag_id": "t", "correlate_by": "correlation_id"},
        ),
        (
            "appointment_booked",
            {"any_appointment": True, "times": 1000, "deadline": "PT1S"},
            {"any_appointment": True, "times": 1000, "deadline": "PT1S"},
        ),
        (
            "form_submitted",
            {"form_id": "f", "correlate_by": "submission_id"},
            {"form_id": "f", "correlate_by": "submission_id"},
        ),
        (
            "pipeline_stage_reached",
            {
                "pipeline_id": "p",
                "stage_id": "s",
                "correlate_by": "deal_id",
                "times": Decimal("2.0"),
                "within": "PT60M",
            },
            {"pipeline_id": "p", "stage_id": "s", "times": 2, "within": "PT1H", "correlate_by": "deal_id"},
        ),
    ],
)
def test_settings_are_normalised(goal_type: str, given_: dict[str, Any], normalised: dict[str, Any]) -> None:
    parsed = parse(goal_type, given_)
    written = criteria_to_json(goal_type, parsed)
    assert list(written.items()) == list(normalised.items())
    assert parse(goal_type, written) == criteria_of_json(written) == criteria_of_text(json.dumps(written)) == parsed


@pytest.mark.parametrize(
    ("goal_type", "given_", "pointer", "detail"),
    [
        ("tag_added", {"tag_id": "t", "times": 1, "within": "P1D"}, "/times", f"`times` {TIMES_RULE}; got 1"),
        ("tag_added", {"tag_id": "t", "times": 1001, "within": "P1D"}, "/times", f"`times` {TIMES_RULE}; got 1001"),
        ("tag_added", {"tag_id": "t", "times": "3", "within": "P1D"}, "/times", f'`times` {TIMES_RULE}; got "3"'),
        ("tag_added", {"tag_id": "t", "times": True, "within": "P1D"}, "/times", f"`times` {TIMES_RULE}; got true"),
        (
            "tag_added",
            {"tag_id": "t", "times": Decimal("2.5"), "within": "P1D"},
            "/times",
            f"`times` {TIMES_RULE}; got 2.5",
        ),
        (
            "tag_added",
            {"tag_id": "t", "times": Decimal("NaN"), "within": "P1D"},
            "/times",
            f"`times` {TIMES_RULE}; got NaN",
        ),
        (
            "tag_added",
            {"tag_id": "t", "times": 3},
            "/times",
            '`times` needs `within` or `deadline`, such as "within": "P30D"',
        ),
        (
            "purchase_made",
            {"currency": "EUR", "total_amount": 5},
            "/total_amount",
            '`total_amount` needs `within` or `deadline`, such as "within": "P30D"',
        ),
        (
            "purchase_made",
            {"product_id": "p1", "total_amount": 500, "within": "P30D"},
            "/currency",
            '`currency` is required with `total_amount`, such as "EUR"',
        ),
        (
            "purchase_made",
            {"total_amount": 500, "within": "P30D"},
            "/currency",
            '`currency` is required with `total_amount`, such as "EUR"',
        ),
        (
            "purchase_made",
            {"currency": "EUR", "total_amount": 500, "within": "P30D", "min_amount": 5},
            "/min_amount",
            "`min_amount` cannot stand beside `total_amount`; leave one of them out",
        ),
        (
            "purchase_made",
            {"currency": "EUR", "total_amount": 500, "within": "P30D", "times": 2},
            "/times",
            "`times` cannot stand beside `total_amount`; leave one of them out",
        ),
        (
            "purchase_made",
            {"currency": "EUR", "total_amount": 0, "within": "P30D"},
            "/total_amount",
            f"`total_amount` {AMOUNT_RULE}; got 0",
        ),
        (
            "purchase_made",
            {"any_purchase": True, "currency": "EUR", "total_amount": 5, "within": "P1D"},
            "/any_purchase",
            "`any_purchase` stands alone: leave it or the other fields out",
        ),
        (
            "form_submitted",
            {"form_id": "f", "total_amount": 5, "within": "P1D"},
            "/total_amount",
            "`total_amount` is not a criterion of form_submitted; "
            "it takes form_id, times, within, deadline, reversals, correlate_by",
        ),
        (
            "tag_added",
            {"tag_id": "t", "within": "P30D"},
            "/within",
            '`within` spans several events and needs `times` or `total_amount`, such as "times": 3; '
            "the time since the enrollment is `deadline`",
        ),
        (
            "tag_added",
            {"tag_id": "t", "reversals": "ignore"},
            "/reversals",
            '`reversals` must be "revoke", the default, or "keep"; got "ignore"',
        ),
        (
            "tag_added",
            {"tag_id": "t", "correlate_by": "deal_id"},
            "/correlate_by",
            '`correlate_by` must be correlation_id for tag_added; got "deal_id"',
        ),
        (
            "purchase_made",
            {"any_purchase": True, "correlate_by": ["payment_id"]},
            "/correlate_by",
            "`correlate_by` must be correlation_id or payment_id for purchase_made; got a list",
        ),
        (
            "purchase_made",
            {"times": 3, "within": "P30D"},
            "",
            "Goal criteria cannot be empty: beside `times`, `within` add `any_purchase`: true, or some of "
            "`product_id`, `min_amount`, `currency`",
        ),
        (
            "appointment_booked",
            {"deadline": "P30D", "any_appointment": False},
            "",
            "Goal criteria cannot be empty: beside `deadline` add `any_appointment`: true, or some of `calendar_id`, "
            "`service_id`",
        ),
        (
            "tag_added",
            {"deadline": "P30D"},
            "",
            "Goal criteria cannot be empty: beside `deadline` add some of `tag_id`, `tag_name`",
        ),
        (
            "pipeline_stage_reached",
            {"deadline": "P30D"},
            "",
            "Goal criteria cannot be empty: beside `deadline` add `pipeline_id`, `stage_id`",
        ),
        ("form_submitted", {"reversals": None}, "", "Goal criteria cannot be empty"),
    ],
)
def test_a_fault_says_what_is_wrong_where_and_what_would_be_right(
    goal_type: str, given_: dict[str, Any], pointer: str, detail: str
) -> None:
    assert faults_of(goal_type, given_) == [Fault(pointer, detail)]


@pytest.mark.parametrize(
    "value",
    [
        *("P1M", "P1Y", "P1Y2M", "PT0.5S", "PT1,5H", "P", "PT", "P1DT", "P7", "1D", "-P1D", "P-1D", "p1d", "P1D "),
        *("P\u0661D", "PT0S", "P0D", "P366D", "PT31536001S", "P9999999999D", "", 30, 3.5, True, ["P1D"], {}),
    ],
)
@pytest.mark.parametrize("name", criteria.DURATIONS)
def test_a_duration_that_may_not_be_is_refused_with_one_that_may(name: str, value: object) -> None:
    (fault,) = faults_of("tag_added", {"tag_id": "t", "times": 2, "within": "P1D", name: value})
    assert fault.pointer == f"/{name}"
    assert fault.detail.startswith(f"`{name}` {DURATION_RULE}; got ")


counts: Final = st.integers(0, 10**6)


@given(counts, counts, counts, counts, counts)
def test_a_duration_has_one_form_however_it_is_written(
    weeks: int, days: int, hours: int, minutes: int, seconds: int
) -> None:
    given_ = f"P{weeks}W{days}DT{hours}H{minutes}M{seconds}S"
    total = parse_duration(given_)
    assert total == (((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + seconds
    assert parse_duration(format_duration(total)) == total


@given(st.integers(1, DURATION_SECONDS_MAX))
def test_a_duration_is_written_with_numbers_as_small_as_can_be(seconds: int) -> None:
    text = format_duration(seconds)
    assert parse("tag_added", {"tag_id": "t", "deadline": text}).deadline == seconds
    for zero in ("P0", "T0", "D0", "H0", "M0"):
        assert zero not in text
    for unit, below in (("H", 24), ("M", 60), ("S", 60)):
        count = text.rpartition(unit)[0][-2:].lstrip("PDTHM")
        assert not text.endswith(unit) or int(count) < below


def test_every_fault_of_settings_is_told_at_once() -> None:
    given_ = {"currency": "EUR", "total_amount": 5, "min_amount": 1, "times": 2}
    assert [fault.pointer for fault in faults_of("purchase_made", given_)] == ["/min_amount", "/times", "/times"]
    given_ = {"any_purchase": True, "total_amount": 5}
    pointers = [fault.pointer for fault in faults_of("purchase_made", given_)]
    assert pointers == ["/any_purchase", "/currency", "/total_amount"]


VALUES: Final = st.one_of(
    st.sampled_from(["P1D", "P1M", "keep", "revoke", "payment_id", "EUR", "t", 3, 0, -1, 10**5000, True, None]),
    st.decimals() | st.floats() | st.text(st.characters(codec=None), max_size=4),
    st.lists(st.text(st.characters(codec=None), max_size=2) | st.none(), max_size=3),
    st.dictionaries(st.text(max_size=1), st.none(), max_size=1),
)


@given(
    goal_type=st.sampled_from(events.GOAL_TYPES),
    written=st.dictionaries(st.sampled_from([*Criteria.__struct_fields__, "any_purchase"]), VALUES, max_size=6),
)
def test_whatever_is_written_is_normalised_or_refused_in_words_that_can_be_sent(
    goal_type: str, written: dict[str, Any]
) -> None:
    try:
        parsed = parse(goal_type, written)
    except CriteriaError as error:
        faults = error.faults
    else:
        assert criteria_of_text(json.dumps(criteria_to_json(goal_type, parsed))) == parsed
        return
    assert faults
    assert all((fault.pointer + fault.detail).encode() for fault in faults)


def test_each_correlation_is_possible_for_some_type() -> None:
    of_type = {name: criteria.correlations_of(row) for name, row in events.GOAL_TYPE_TABLE.items()}
    assert all("correlation_id" in names for names in of_type.values())
    assert {name for names in of_type.values() for name in names} == set(criteria.CORRELATIONS)


WITH_SETTINGS: Final = Criteria(
    currency="EUR",
    total_amount=Decimal("0.10"),
    within=86_400,
    deadline=90,
    reversals="keep",
    correlate_by="payment_id",
)


def test_settings_survive_the_index() -> None:
    version = goals.GoalVersion(1, WITH_SETTINGS, True, at(0))
    goal = goals.Goal("north", UUID(int=1), "w1", "purchase_made", at(0), (version,))
    assert str(codec.unpack_one(codec.pack(("north", "w1"), [goal], ()), 0)) == str(goal)


def test_stored_text_that_looks_like_a_duration_stays_text() -> None:
    stored = {"tag_id": "within", "tag_name": "P1D"}
    assert criteria_of_text(json.dumps(stored)) == Criteria(tag_id="within", tag_name="P1D")


@pytest.mark.parametrize(
    ("of_goal", "pointers"),
    [
        (Criteria(min_amount=Decimal(100)), ["/min_amount"]),
        (Criteria(min_amount=Decimal(0), product_id="p1"), ["/min_amount"]),
        (Criteria(min_amount=Decimal(100), currency="EUR"), []),
        (Criteria(currency="EUR"), []),
        (WITH_SETTINGS, []),
        (Criteria(), []),
    ],
)
def test_an_amount_without_a_currency_gets_a_warning(of_goal: Criteria, pointers: list[str]) -> None:
    found = warnings(of_goal)
    assert [warning.pointer for warning in found] == pointers
    assert all('add `currency`, such as "EUR"' in warning.detail for warning in found)


@pytest.mark.parametrize("name", ["min_amount", "total_amount"])
def test_the_rule_of_amounts_says_that_they_are_in_major_units(name: str) -> None:
    (fault,) = faults_of("purchase_made", {"currency": "EUR", "within": "P1D", name: "4990 cents"})[:1]
    assert "in major units such as 49.90" in fault.detail
