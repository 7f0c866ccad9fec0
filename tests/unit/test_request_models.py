"""Drafts of goals: the document and the rules that check them allow the same."""

from collections.abc import Sequence
from typing import Any, Final

import jsonschema_rs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from goalworker import api
from goalworker.api import goal_models
from goalworker.domain import criteria, criteria_parsing, events
from goalworker.domain.faults import Fault
from goalworker.stores import goal_store

SCHEMAS: Final = api.document()["components"]["schemas"]
DRAFT: Final = jsonschema_rs.Draft202012Validator(
    {"$ref": "#/components/schemas/GoalDraft", "components": {"schemas": SCHEMAS}}
)
GOOD_TEXTS: Final = st.sampled_from(["t1", "t2", "é" * 127, "é" * 128])
GOOD_IDS: Final = GOOD_TEXTS | st.lists(GOOD_TEXTS, min_size=1, max_size=3) | st.just(["t1"] * 50)
TEXTS: Final[st.SearchStrategy[Any]] = st.sampled_from(
    ["t1", "t2", "é" * 127, "é" * 128, "a" * 256, "", "a\n", 7, {}, None]
)
IDS: Final = TEXTS | st.lists(TEXTS, max_size=2) | st.just(["t1"] * 51)
VALUES: Final = {
    "tag_name": TEXTS,
    "min_amount": st.sampled_from([0, 100, "100.00", "0.5", "ten", -1, 10**15, 10**15 + 1, True, None]),
    "currency": st.sampled_from(["EUR", "eur", "euro", "", 7, None]),
    "times": st.sampled_from([2, 1000, 1, 1001, 2.5, "3", True, None]),
    "total_amount": st.sampled_from([0, 500, "0.00", "0.5", "ten", -1, 10**15 + 1, True, None]),
    **dict.fromkeys(criteria.DURATIONS, st.sampled_from(["P30D", "PT36H", "P1M", "P366D", "PT", "P1DT", 30, None])),
    "reversals": st.sampled_from(["keep", "revoke", "", True, None]),
    "correlate_by": st.sampled_from([*criteria.CORRELATIONS, "contact_id", 7, None]),
}
GOOD: Final = {
    "tag_name": GOOD_TEXTS,
    "min_amount": st.sampled_from([0, 100, "100.00", "0.5", 10**15, None]),
    "currency": st.sampled_from(["EUR", "eur", None]),
    "times": st.sampled_from([2, 1000, None]),
    "total_amount": st.none() | st.sampled_from([500, "0.5"]),
    **dict.fromkeys(criteria.DURATIONS, st.sampled_from(["P30D", "P1W", "P1DT1H1M1S", None])),
    "reversals": st.sampled_from(["keep", "revoke", None]),
    "correlate_by": st.sampled_from(["correlation_id", None]),
}
FLAGS: Final = st.sampled_from([True, False, None, "true"])
CANNOT_SAY: Final = (
    *(criteria_parsing.EMPTY_CRITERIA, "stands alone", "cannot stand beside", "is required with", "needs"),
    *("and above 0", "up to P365D", f'got "{"é" * 64}"'),
)
"""Rules that no schema states here: criteria of null only, fields that exclude or need others, and lengths in bytes."""


@st.composite
def drafts(draw: st.DrawFn) -> dict[str, Any]:
    goal_type = draw(st.sampled_from(events.GOAL_TYPES))
    row = events.GOAL_TYPE_TABLE[goal_type]
    allowed = (*row.criteria, *criteria.settings_of(row))
    fields = [*allowed, *filter(None, [row.any_flag]), "form_id"]
    if draw(st.integers(0, 3)):  # mostly good ones, for each test looks at those only
        good = draw(st.fixed_dictionaries({name: GOOD.get(name, GOOD_IDS) for name in allowed}))
        return {"goal_type": goal_type, "criteria": good}
    chosen = draw(st.lists(st.sampled_from(fields), unique=True, max_size=4))
    values = {name: draw(FLAGS if name.startswith("any_") else VALUES.get(name, IDS)) for name in chosen}
    given_: dict[str, Any] = {"goal_type": goal_type, "criteria": values}
    return given_ | draw(st.sampled_from([{}, {}, {"name": None}, {"name": "n"}, {"name": ""}, {"note": 1}]))


def _faults(given_: dict[str, Any]) -> Sequence[Fault]:
    try:
        goal_store.parse_draft(given_)
    except goal_store.InvalidGoalError as error:
        return error.faults
    return ()


@given(drafts())
def test_rules_accept_every_draft_that_the_document_allows(given_: dict[str, Any]) -> None:
    assume(DRAFT.is_valid(given_))
    faults = _faults(given_)
    assert [fault for fault in faults if not any(rule in fault.detail for rule in CANNOT_SAY)] == []


@pytest.mark.parametrize("row", events.GOAL_TYPE_TABLE.values(), ids=events.GOAL_TYPES)
def test_every_setting_has_a_model_with_a_good_example(row: events.GoalType) -> None:
    names = criteria.settings_of(row)
    for made in (goal_models._criteria, goal_models._criteria_draft):
        properties = made(row, goal_models._TEXTS[row.name]).model_json_schema()["properties"]
        assert [name for name in properties if name in criteria.SETTING_FIELDS] == list(names)
        for name in names:
            (example,) = properties[name]["examples"]
            jsonschema_rs.validate(properties[name], example)


@given(drafts())
def test_the_document_allows_every_draft_that_the_rules_accept(given_: dict[str, Any]) -> None:
    assume(not _faults(given_))
    draft = goal_store.parse_draft(given_)
    normalised = criteria.criteria_to_json(draft.goal_type, draft.criteria)
    written = {"goal_type": draft.goal_type, "criteria": normalised, "name": draft.name}
    # The pattern of amounts as text ends below the largest amount, which a number reaches.
    assert DRAFT.is_valid(written) == (normalised.get("min_amount") != str(10**15))
