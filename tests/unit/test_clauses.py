"""Clauses of criteria say together what matching says, and each says what is missing (contract section 7)."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from goalworker.domain import clauses, criteria, events
from goalworker.domain.criteria import Criteria
from tests.kit import strategies
from tests.kit.examples import examples


@st.composite
def asked(draw: strategies.Draw) -> tuple[Criteria, events.GoalData]:
    """Draw criteria and the data of an event of their type."""
    goal_type = draw(st.sampled_from(events.GOAL_TYPES))
    return draw(strategies.criteria(goal_type)), draw(strategies.goal_data(goal_type, "c1"))


@settings(max_examples=examples(1_000))
@given(case=asked())
def test_all_clauses_are_true_where_criteria_match(case: tuple[Criteria, events.GoalData]) -> None:
    given_, data = case
    found = clauses.clauses_of(given_, data)
    assert all(clause.result for clause in found) == criteria.matches(given_, data)
    assert all(clause.op in clauses.OPS for clause in found)


@settings(max_examples=examples(1_000))
@given(case=asked())
def test_the_changes_make_an_event_match_and_none_of_them_is_spare(case: tuple[Criteria, events.GoalData]) -> None:
    given_, data = case
    changes = clauses.changes_to_match(clauses.clauses_of(given_, data))
    assert criteria.matches(given_, clauses.with_changes(data, changes))
    for number in range(len(changes)):
        assert not criteria.matches(given_, clauses.with_changes(data, (*changes[:number], *changes[number + 1 :])))


Clause = clauses.Clause
PAYMENT = events.PaymentCompleted("c1", "pay-1", Decimal("49.90"), "eur", ("p1", "p2"))


@pytest.mark.parametrize(
    ("given_", "data", "expected"),
    [
        (
            Criteria(product_id=("p3", "p4"), min_amount=Decimal("50.00"), currency="EUR"),
            PAYMENT,
            (
                Clause("/product_id", "contains_one_of", ("p3", "p4"), ("p1", "p2"), False),
                Clause("/min_amount", "at_least", "50.00", "49.90", False),
                Clause("/currency", "equals", "EUR", "eur", True),
            ),
        ),
        (Criteria(), PAYMENT, ()),
        (
            Criteria(product_id="p1"),
            structs.replace(PAYMENT, product_ids=None),
            (Clause("/product_id", "contains", "p1", None, False),),
        ),
        (
            Criteria(tag_id="t1", tag_name="Customer"),
            events.TagAdded("c1", "t2", "Customer"),
            (Clause("/tag_id", "equals", "t1", "t2", False),),
        ),
        (
            Criteria(tag_id="t1", tag_name="Customer"),
            events.TagAdded("c1", None, " CUSTOMER "),
            (Clause("/tag_name", "same_name", "Customer", " CUSTOMER ", True),),
        ),
        (
            Criteria(tag_id="t1"),
            events.TagAdded("c1", None, "Customer"),
            (Clause("/tag_id", "equals", "t1", None, False),),
        ),
        (
            Criteria(pipeline_id="p1", stage_id=("s1", "s2")),
            events.StageChanged("c1", "p2", "s2"),
            (
                Clause("/pipeline_id", "equals", "p1", "p2", False),
                Clause("/stage_id", "one_of", ("s1", "s2"), "s2", True),
            ),
        ),
    ],
)
def test_clauses_name_what_was_asked_for_and_what_came(
    given_: Criteria, data: events.GoalData, expected: tuple[Clause, ...]
) -> None:
    assert clauses.clauses_of(given_, data) == expected


def test_a_payment_would_match_with_the_amount_and_a_product_that_the_goal_asks_for() -> None:
    given_ = Criteria(product_id=("p3", "p4"), min_amount=Decimal("50.00"), currency="EUR")
    changes = clauses.changes_to_match(clauses.clauses_of(given_, PAYMENT))
    assert changes == (clauses.DataChange("/product_ids/-", "p3"), clauses.DataChange("/amount", "50.00"))
