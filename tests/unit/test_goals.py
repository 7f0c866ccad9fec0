"""Criteria as people write them, what they match, and which version is in force."""

import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.domain import events, goals
from goalworker.domain.criteria import Criteria, criteria_to_json, fold_name, matches
from goalworker.domain.criteria_parsing import CriteriaError, parse_criteria
from goalworker.domain.faults import Fault
from tests.kit import naive_judge, strategies
from tests.kit.strategies import at

# --- criteria as written ---


@pytest.mark.parametrize(
    ("goal_type", "given_", "normalised"),
    [
        ("tag_added", {"tag_id": "t1"}, {"tag_id": "t1"}),
        ("tag_added", {"tag_name": " VIP ", "tag_id": None}, {"tag_name": " VIP "}),
        ("purchase_made", {"any_purchase": True}, {"any_purchase": True}),
        ("purchase_made", {"any_purchase": True, "currency": None}, {"any_purchase": True}),
        ("purchase_made", {"any_purchase": False, "product_id": "p1"}, {"product_id": "p1"}),
        ("purchase_made", {"min_amount": 100, "currency": "eur"}, {"min_amount": "100", "currency": "EUR"}),
        ("purchase_made", {"min_amount": 0}, {"min_amount": "0"}),
        ("appointment_booked", {"any_appointment": True}, {"any_appointment": True}),
        (
            "appointment_booked",
            {"service_id": "s", "calendar_id": "c", "any_appointment": False},
            {"calendar_id": "c", "service_id": "s"},
        ),
        ("form_submitted", {"form_id": "f1"}, {"form_id": "f1"}),
        ("pipeline_stage_reached", {"stage_id": "s", "pipeline_id": "p"}, {"pipeline_id": "p", "stage_id": "s"}),
        ("tag_added", {"tag_id": ["t2", "t1", "t2"]}, {"tag_id": ["t1", "t2"]}),
        ("form_submitted", {"form_id": ["\U0001f600", "\uff5e", "a"]}, {"form_id": ["a", "\uff5e", "\U0001f600"]}),
        ("form_submitted", {"form_id": ["f1", "f1"]}, {"form_id": "f1"}),
        ("purchase_made", {"product_id": ["p1"], "any_purchase": False}, {"product_id": "p1"}),
        (
            "pipeline_stage_reached",
            {"pipeline_id": "p", "stage_id": [f"{number:02}" for number in reversed(range(50))]},
            {"pipeline_id": "p", "stage_id": [f"{number:02}" for number in range(50)]},
        ),
    ],
)
def test_criteria_are_normalised(goal_type: str, given_: dict[str, Any], normalised: dict[str, Any]) -> None:
    criteria = parse_criteria(goal_type, given_)
    assert list(criteria_to_json(goal_type, criteria).items()) == list(normalised.items())


@given(data=st.data(), goal_type=st.sampled_from(events.GOAL_TYPES))
def test_criteria_survive_being_written_down_and_read_again(data: st.DataObject, goal_type: str) -> None:
    criteria = data.draw(strategies.criteria(goal_type))
    written = json.loads(json.dumps(criteria_to_json(goal_type, criteria)))
    assert parse_criteria(goal_type, written) == criteria
    assert criteria_to_json(goal_type, parse_criteria(goal_type, written)) == written


@pytest.mark.parametrize(
    ("amount", "normalised"),
    [
        (100, "100"),
        (Decimal("100.00"), "100"),
        ("100.00", "100"),
        (Decimal("1E+2"), "100"),
        ("0.50", "0.5"),
        (Decimal("-0"), "0"),
        (10**15, "1" + "0" * 15),
        ("999999999999999.999999999999999999", "999999999999999.999999999999999999"),
        (Decimal("123456789012345.123456789012345670"), "123456789012345.12345678901234567"),
    ],
)
def test_amounts_are_the_same_however_they_are_written(amount: object, normalised: str) -> None:
    criteria = parse_criteria("purchase_made", {"min_amount": amount})
    assert str(criteria.min_amount) == normalised
    assert criteria_to_json("purchase_made", criteria) == {"min_amount": normalised}


TEXT_RULE = "must be text of 1 to 255 bytes without control characters"
ID_RULE = f"{TEXT_RULE}, or a list of 1 to 50 such texts"
IDS_RULE = 'must list 1 to 50 ids, such as ["a", "b"]'
AMOUNT_RULE = (
    "must be a JSON number or plain decimal string from 0 to 10^15 with at most 18 decimals, in major units such as "
    "49.90"
)


@pytest.mark.parametrize(
    ("goal_type", "given_", "pointer", "detail"),
    [
        ("form_submitted", {}, "", "Goal criteria cannot be empty"),
        ("form_submitted", {"form_id": None}, "", "Goal criteria cannot be empty"),
        ("purchase_made", {"any_purchase": False}, "", "Goal criteria cannot be empty"),
        ("appointment_booked", {"any_appointment": None}, "", "Goal criteria cannot be empty"),
        ("tag_added", {"tag_id": ""}, "/tag_id", f'`tag_id` {ID_RULE}; got ""'),
        ("tag_added", {"tag_id": "a" * 256}, "/tag_id", f'`tag_id` {ID_RULE}; got "{"a" * 64}"'),
        ("tag_added", {"tag_name": "a\nb"}, "/tag_name", f'`tag_name` {TEXT_RULE}; got "a\\nb"'),
        ("tag_added", {"tag_name": "\ud800"}, "/tag_name", f'`tag_name` {TEXT_RULE}; got "\\ud800"'),
        ("form_submitted", {"form_id": 7}, "/form_id", f"`form_id` {ID_RULE}; got 7"),
        ("form_submitted", {"form_id": 10**5000}, "/form_id", f"`form_id` {ID_RULE}; got a number of many digits"),
        ("form_submitted", {"form_id": True}, "/form_id", f"`form_id` {ID_RULE}; got true"),
        ("form_submitted", {"form_id": []}, "/form_id", f"`form_id` {IDS_RULE}; got a list of 0"),
        ("form_submitted", {"form_id": ["f"] * 51}, "/form_id", f"`form_id` {IDS_RULE}; got a list of 51"),
        ("form_submitted", {"form_id": ["f", 7]}, "/form_id/1", f"Entry 1 of `form_id` {TEXT_RULE}; got 7"),
        ("form_submitted", {"form_id": [None, "f"]}, "/form_id/0", f"Entry 0 of `form_id` {TEXT_RULE}; got null"),
        ("form_submitted", {"form_id": [["f"]]}, "/form_id/0", f"Entry 0 of `form_id` {TEXT_RULE}; got a list"),
        ("tag_added", {"tag_id": ["t1", ""]}, "/tag_id/1", f'Entry 1 of `tag_id` {TEXT_RULE}; got ""'),
        ("tag_added", {"tag_id": ["\ud800"]}, "/tag_id/0", f'Entry 0 of `tag_id` {TEXT_RULE}; got "\\ud800"'),
        ("tag_added", {"tag_name": ["VIP"]}, "/tag_name", f"`tag_name` {TEXT_RULE}; got a list"),
        ("form_submitted", {"form_id": {}}, "/form_id", f"`form_id` {ID_RULE}; got an object"),
        ("purchase_made", {"min_amount": -1}, "/min_amount", f"`min_amount` {AMOUNT_RULE}; got -1"),
        ("purchase_made", {"min_amount": "1e2"}, "/min_amount", f'`min_amount` {AMOUNT_RULE}; got "1e2"'),
        ("purchase_made", {"min_amount": True}, "/min_amount", f"`min_amount` {AMOUNT_RULE}; got true"),
        ("purchase_made", {"min_amount": 10**15 + 1}, "/min_amount", f"`min_amount` {AMOUNT_RULE}; got {10**15 + 1}"),
        ("purchase_made", {"min_amount": Decimal("NaN")}, "/min_amount", f"`min_amount` {AMOUNT_RULE}; got NaN"),
        (
            "purchase_made",
            {"min_amount": -(10**5000)},
            "/min_amount",
            f"`min_amount` {AMOUNT_RULE}; got a number of many digits",
        ),
        (
            "purchase_made",
            {"currency": "EURO"},
            "/currency",
            '`currency` must be three ASCII letters, such as EUR; got "EURO"',
        ),
        (
            "purchase_made",
            {"currency": "€UR"},
            "/currency",
            '`currency` must be three ASCII letters, such as EUR; got "€UR"',
        ),
        (
            "purchase_made",
            {"any_purchase": "yes"},
            "/any_purchase",
            '`any_purchase` must be true or left out; got "yes"',
        ),
        ("purchase_made", {"any_purchase": 1}, "/any_purchase", "`any_purchase` must be true or left out; got 1"),
        (
            "purchase_made",
            {"any_purchase": True, "product_id": "p1"},
            "/any_purchase",
            "`any_purchase` stands alone: leave it or the other fields out",
        ),
        (
            "pipeline_stage_reached",
            {"stage_id": "s"},
            "/pipeline_id",
            "`pipeline_id` is required for pipeline_stage_reached",
        ),
        (
            "pipeline_stage_reached",
            {"pipeline_id": "p"},
            "/stage_id",
            "`stage_id` is required for pipeline_stage_reached",
        ),
        (
            "tag_added",
            {"tag_id": "t1", "form_id": "f1"},
            "/form_id",
            "`form_id` is not a criterion of tag_added; it takes tag_id, tag_name, times, within, deadline, reversals, "
            "correlate_by",
        ),
        (
            "purchase_made",
            {"any_purchase": True, "a/b~c": 1},
            "/a~1b~0c",
            "`a/b~c` is not a criterion of purchase_made; it takes product_id, min_amount, currency, any_purchase, "
            "times, total_amount, within, deadline, reversals, correlate_by",
        ),
        (
            "form_submitted",
            {"form_id": "f1", "\udfff\n": 1},
            "/\\udfff\n",
            "`\\udfff\\n` is not a criterion of form_submitted; it takes form_id, times, within, deadline, reversals, "
            "correlate_by",
        ),
    ],
)
def test_a_fault_says_what_is_wrong_where_and_what_would_be_right(
    goal_type: str, given_: dict[str, Any], pointer: str, detail: str
) -> None:
    with pytest.raises(CriteriaError) as raised:
        parse_criteria(goal_type, given_)
    assert raised.value.faults == [Fault(pointer, detail)]
    assert str(raised.value) == detail


def test_every_fault_is_told_at_once() -> None:
    given_ = {"product_id": ["", 1, "p"], "min_amount": -1, "currency": "", "colour": "red"}
    with pytest.raises(CriteriaError) as raised:
        parse_criteria("purchase_made", given_)
    pointers = [fault.pointer for fault in raised.value.faults]
    assert pointers == ["/colour", "/product_id/0", "/product_id/1", "/min_amount", "/currency"]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=50))
def test_a_list_of_ids_is_sorted_without_repeats_and_one_id_is_no_list(ids: list[str]) -> None:
    written = criteria_to_json("form_submitted", parse_criteria("form_submitted", {"form_id": ids}))["form_id"]
    assert written == (sorted(set(ids)) if len(set(ids)) > 1 else ids[0])


names = st.text(st.characters(codec=None), max_size=8)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | names,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)
FIELDS = st.sampled_from([*Criteria.__struct_fields__, "any_purchase", "any_appointment"]) | names


@given(goal_type=st.sampled_from(events.GOAL_TYPES), written=st.dictionaries(FIELDS, anything, max_size=4))
def test_whatever_is_written_is_normalised_or_refused_in_words_that_can_be_sent(
    goal_type: str, written: dict[str, Any]
) -> None:
    try:
        criteria = parse_criteria(goal_type, written)
    except CriteriaError as error:
        faults = error.faults
    else:
        assert parse_criteria(goal_type, criteria_to_json(goal_type, criteria)) == criteria
        return
    assert faults
    assert all((fault.pointer + fault.detail).encode() for fault in faults)


# --- matching ---


def _tag(tag_id: str | None = None, tag_name: str | None = None) -> events.TagAdded:
    return events.TagAdded("c1", tag_id, tag_name)


def _paid(amount: str = "100", currency: str = "EUR", *products: str) -> events.PaymentCompleted:
    return events.PaymentCompleted("c1", "pay-1", Decimal(amount), currency, products or None)


def _booked(calendar_id: str | None = None, service_id: str | None = None) -> events.AppointmentBooked:
    return events.AppointmentBooked("c1", "app-1", calendar_id, service_id)


@pytest.mark.parametrize(
    ("goal_type", "criteria", "data", "expected"),
    [
        ("tag_added", {"tag_id": "t1"}, _tag("t1"), True),
        ("tag_added", {"tag_id": "t1"}, _tag("T1"), False),
        ("tag_added", {"tag_id": "t1"}, _tag(tag_name="t1"), False),
        ("tag_added", {"tag_id": "t1", "tag_name": "VIP"}, _tag("t1", "renamed"), True),
        ("tag_added", {"tag_id": "t1", "tag_name": "VIP"}, _tag("t2", "VIP"), False),
        ("tag_added", {"tag_id": "t1", "tag_name": "VIP"}, _tag(tag_name="vip"), True),
        ("tag_added", {"tag_name": "VIP"}, _tag("t9", " vip"), True),
        ("tag_added", {"tag_name": "VIP"}, _tag("t9"), False),
        ("tag_added", {"tag_name": "VIP"}, _tag("VIP", "other"), False),
        ("purchase_made", {"any_purchase": True}, _paid("0"), True),
        ("purchase_made", {"product_id": "p1"}, _paid("1", "EUR", "p2", "p1"), True),
        ("purchase_made", {"product_id": "p1"}, _paid("1", "EUR", "p2"), False),
        ("purchase_made", {"product_id": "p1"}, _paid(), False),
        ("purchase_made", {"min_amount": "100"}, _paid("100.00"), True),
        ("purchase_made", {"min_amount": "100"}, _paid("99.999999999999999999"), False),
        ("purchase_made", {"min_amount": "100.000000000000000001"}, _paid("100"), False),
        ("purchase_made", {"min_amount": "100", "currency": "EUR"}, _paid("100", "eur"), True),
        ("purchase_made", {"min_amount": "100", "currency": "EUR"}, _paid("100", "USD"), False),
        ("purchase_made", {"product_id": "p1", "min_amount": "100"}, _paid("50", "EUR", "p1"), False),
        ("appointment_booked", {"any_appointment": True}, _booked(), True),
        ("appointment_booked", {"calendar_id": "c"}, _booked("c", "s"), True),
        ("appointment_booked", {"calendar_id": "c"}, _booked(None, "c"), False),
        ("appointment_booked", {"calendar_id": "c", "service_id": "s"}, _booked("c", "s"), True),
        ("appointment_booked", {"calendar_id": "c", "service_id": "s"}, _booked("c"), False),
        ("appointment_booked", {"service_id": "s"}, _booked("c", "S"), False),
        ("form_submitted", {"form_id": "f1"}, events.FormSubmitted("c1", "f1"), True),
        ("form_submitted", {"form_id": "f1"}, events.FormSubmitted("c1", "F1", "f1"), False),
        ("tag_added", {"tag_id": ["t1", "t2"]}, _tag("t2"), True),
        ("tag_added", {"tag_id": ["t1", "t2"]}, _tag("t3"), False),
        ("tag_added", {"tag_id": ["t1", "t2"]}, _tag(tag_name="t1"), False),
        ("tag_added", {"tag_id": ["t1", "t2"], "tag_name": "VIP"}, _tag(tag_name="vip"), True),
        ("tag_added", {"tag_id": ["t1", "t2"], "tag_name": "VIP"}, _tag("t3", "VIP"), False),
        ("purchase_made", {"product_id": ["p1", "p2"]}, _paid("1", "EUR", "p9", "p2"), True),
        ("purchase_made", {"product_id": ["p1", "p2"]}, _paid("1", "EUR", "p9"), False),
        ("purchase_made", {"product_id": ["p1", "p2"]}, _paid(), False),
        ("appointment_booked", {"calendar_id": ["c", "d"], "service_id": ["s", "t"]}, _booked("d", "t"), True),
        ("appointment_booked", {"calendar_id": ["c", "d"], "service_id": ["s", "t"]}, _booked("d"), False),
        ("appointment_booked", {"calendar_id": ["c", "d"]}, _booked(None, "c"), False),
        ("form_submitted", {"form_id": ["f1", "f2"]}, events.FormSubmitted("c1", "f2"), True),
        ("form_submitted", {"form_id": ["f1", "f2"]}, events.FormSubmitted("c1", "f"), False),
        ("pipeline_stage_reached", {"pipeline_id": "p", "stage_id": "s"}, events.StageChanged("c1", "p", "s"), True),
        (
            "pipeline_stage_reached",
            {"pipeline_id": ["p", "q"], "stage_id": ["s", "t"]},
            events.StageChanged("c1", "q", "s"),
            True,
        ),
        (
            "pipeline_stage_reached",
            {"pipeline_id": ["p", "q"], "stage_id": ["s", "t"]},
            events.StageChanged("c1", "q", "q"),
            False,
        ),
        ("pipeline_stage_reached", {"pipeline_id": "p", "stage_id": "s"}, events.StageChanged("c1", "q", "s"), False),
        (
            "pipeline_stage_reached",
            {"pipeline_id": "p", "stage_id": "s"},
            events.StageChanged("c1", "p", "t", previous_stage_id="s"),
            False,
        ),
    ],
)
def test_all_given_fields_must_match(
    goal_type: str, criteria: dict[str, Any], data: events.GoalData, expected: bool
) -> None:
    assert matches(parse_criteria(goal_type, criteria), data) is expected


@given(data=st.data(), goal_type=st.sampled_from(events.GOAL_TYPES))
def test_matching_is_what_the_contract_says_when_read_naively(data: st.DataObject, goal_type: str) -> None:
    criteria = data.draw(strategies.criteria(goal_type))
    event_data = data.draw(strategies.goal_data(goal_type, "c1"))
    assert matches(criteria, event_data) == naive_judge.meets(criteria, event_data)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Customer", " customer "),
        ("VIP", "\uff36\uff29\uff30"),
        ("Straße", "STRASSE"),
        ("\ufb01rst", "FIRST"),
        ("e\u0301t\u00e9", "\u00c9te\u0301"),
        ("\u3000VIP\u00a0", "vip"),
        ("\u0130", "i\u0307"),
    ],
)
def test_these_are_the_same_tag(one: str, other: str) -> None:
    assert fold_name(one) == fold_name(other)


@pytest.mark.parametrize(("one", "other"), [("VIP", "V I P"), ("ete", "été"), ("tag", "tags"), ("\u0131", "i")])
def test_these_are_different_tags(one: str, other: str) -> None:
    assert fold_name(one) != fold_name(other)


@given(st.text())
def test_a_folded_name_is_compared_as_the_contract_says(name: str) -> None:
    assert fold_name(name) == naive_judge.fold(name)


# --- versions ---


def _goal(*versions: goals.GoalVersion) -> goals.Goal:
    return goals.Goal("north", UUID(int=1), "w1", "form_submitted", versions[0].active_from, versions)


F1, F2 = Criteria(form_id="f1"), Criteria(form_id="f2")
CHANGING = _goal(
    goals.GoalVersion(1, F1, True, at(2), at(4)),
    goals.GoalVersion(2, F1, False, at(4), at(6)),
    goals.GoalVersion(3, F2, True, at(6), at(8)),
)


def test_an_active_version_is_in_force_from_inclusive_to_exclusive() -> None:
    in_force = [goals.version_at(CHANGING, at(tick)) for tick in range(1, 10)]
    assert [version and version.number for version in in_force] == [None, 1, 1, None, None, 3, 3, None, None]


def test_the_last_version_of_a_living_goal_has_no_end() -> None:
    living = _goal(goals.GoalVersion(1, F1, True, at(2)))
    assert goals.version_at(living, at(1_000_000)) == living.versions[0]


@given(goal_type=st.sampled_from(events.GOAL_TYPES), data=st.data(), tick=strategies.ticks)
def test_the_version_in_force_is_the_one_that_a_look_at_all_finds(
    goal_type: str, data: st.DataObject, tick: int
) -> None:
    goal = _goal(*data.draw(strategies.versions(goal_type)))
    assert goals.version_at(goal, at(tick)) == naive_judge.in_force(goal, at(tick))


def test_a_logic_holds_from_its_moment_on_and_before_the_first_it_is_any() -> None:
    logics = (goals.LogicVersion("all", at(2)), goals.LogicVersion("never", at(4)))
    held = [goals.logic_at(goals.Workflow((), logics), at(tick)) for tick in range(1, 6)]
    assert held == ["any", "all", "all", "never", "never"]
    assert goals.logic_at(goals.Workflow(), at(0)) == "any"
