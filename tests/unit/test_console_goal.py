"""Data of a goal's pages: what was typed, what stands beside which field, what differs, how far a job is."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import ImmutableMultiDict

from goalworker.console import backfill_page, goal_fields, goal_view, job_view
from goalworker.domain import criteria, criteria_parsing, events, seen_values
from goalworker.domain.faults import Fault
from goalworker.domain.unseen_values import SeenValue
from goalworker.stores import goal_store, jobs
from tests.kit import strategies

GOAL_ID = UUID(int=7)
MAY = datetime(2026, 5, 1, tzinfo=UTC)
PURCHASE = goal_view.row_of("purchase_made")


def stored(goal_id: UUID = GOAL_ID, **changed: Any) -> goal_store.StoredGoal:
    given = {"min_amount": "50", "currency": "EUR"}
    fields: dict[str, Any] = {"criteria": given, "name": "Paid", "is_active": True} | changed
    return goal_store.StoredGoal(
        id=goal_id,
        workflow_id="w1",
        goal_type="purchase_made",
        version=1,
        created_at=MAY,
        created_by="ann",
        updated_at=MAY,
        updated_by="ann",
        **fields,
    )


# --- fields ---


@given(st.sampled_from(events.GOAL_TYPES).flatmap(lambda name: st.tuples(st.just(name), strategies.criteria(name))))
def test_criteria_come_back_from_the_form_as_they_were(goal: tuple[str, criteria.Criteria]) -> None:
    goal_type, known = goal
    row = goal_view.row_of(goal_type)
    typed = goal_fields.typed_of_goal(criteria.criteria_to_json(goal_type, known), "A name")
    sent = [
        pair
        for field in goal_fields.fields(row, typed)
        for pair in [*((field.name, value) for value in field.values), (f"{field.name}_unit", field.unit)]
    ]
    again = goal_fields.given(goal_fields.typed_of_form(ImmutableMultiDict(sent), row))
    assert again["name"] == "A name"
    assert criteria_parsing.parse_criteria(goal_type, again["criteria"]) == known


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ({"within": "30", "within_unit": "days"}, {"within": "P30D"}),
        ({"within": "36", "within_unit": "hours"}, {"within": "PT36H"}),
        ({"within": "P1W"}, {"within": "P1W"}),
        ({"within": "soon", "within_unit": "days"}, {"within": "soon"}),
        ({"within": "3", "within_unit": "moons"}, {"within": "3"}),
        ({"times": " 3 "}, {"times": 3}),
        ({"times": "3.5"}, {"times": "3.5"}),
        ({"min_amount": " 49.90 "}, {"min_amount": "49.90"}),
        ({"product_id": " p1 "}, {"product_id": " p1 "}),
        ({"product_id": ""}, {}),
        ({"reversals": "", "correlate_by": ""}, {}),
        ({"any_purchase": "yes"}, {"any_purchase": True}),
    ],
)
def test_texts_become_what_the_api_takes(typed: dict[str, str], asked: dict[str, Any]) -> None:
    form = ImmutableMultiDict(list(typed.items()))
    assert goal_fields.given(goal_fields.typed_of_form(form, PURCHASE)) == {"name": None, "criteria": asked}


@pytest.mark.parametrize(
    ("pointer", "name"),
    [
        ("/name", "name"),
        ("/criteria/min_amount", "min_amount"),
        ("/criteria/product_id/2", "product_id"),
        ("/goals/0/criteria/currency", "currency"),
        ("/goals/0/changes/criteria/within", "within"),
        ("/goals/0/changes/name", "name"),
        ("/criteria", None),
        ("/goals/0", None),
        ("/criteria/form_id", None),
        ("", None),
    ],
)
def test_a_fault_stands_beside_the_field_that_its_pointer_names(pointer: str, name: str | None) -> None:
    found = goal_fields.problems_of([Fault(pointer, "It is wrong")], PURCHASE)
    if name is None:
        assert found == goal_fields.Problems({}, ("It is wrong",))
    else:
        assert found == goal_fields.Problems({name: ("It is wrong",)}, ())


def test_what_nothing_reverses_is_not_asked_about_reversals() -> None:
    def names(goal_type: str, typed: goal_fields.Typed) -> set[str]:
        return {field.name for field in goal_fields.fields(goal_view.row_of(goal_type), typed)}

    assert "reversals" in names("purchase_made", {})
    assert "reversals" not in names("tag_added", {})
    assert "reversals" in names("tag_added", {"reversals": ("keep",)})


def test_a_pair_of_pipeline_and_stage_makes_suggestions_for_both_fields() -> None:
    def seen(pipeline_id: str, stage_id: str) -> SeenValue:
        return SeenValue(seen_values.stage_value(pipeline_id, stage_id), None, 2, 1, MAY, MAY)

    found = goal_view.suggestions(seen_values.STAGE, [seen("sales", "won"), seen("sales", "lost")])
    assert found == {
        "pipeline_id": [goal_fields.Suggestion("sales", "")],
        "stage_id": [
            goal_fields.Suggestion("won", "sales, seen 2 times"),
            goal_fields.Suggestion("lost", "sales, seen 2 times"),
        ],
    }


# --- versions ---


def entry(action: str, version: int, before: Any, after: Any) -> goal_store.AuditEntry:
    return goal_store.AuditEntry(MAY, "ann", action, version, before, after)


def test_the_audit_is_told_in_words_the_latest_first() -> None:
    one = goal_view.state_of(stored())
    two = one | {"criteria": {"min_amount": "60", "currency": "EUR"}, "name": None}
    three = two | {"is_active": False}
    entries = [
        entry("created", 1, None, one),
        entry("updated", 2, one, two),
        entry("updated", 3, two, three),
        entry("updated", 4, three, two),
        entry("backfilled", 4, None, {"from": "2026-04-01T02:00:00+02:00", "exits": True}),
        entry("deleted", 5, two, None),
    ]
    acts = goal_view.acts(entries)
    assert [act.what for act in acts] == ["Deleted", "Backfill begun", "Resumed", "Paused", "Changed", "Created"]
    assert acts[1].sentence == "Counts from 2026-04-01 00:00:00 UTC on, with exits."
    assert acts[4].differences == [
        goal_view.Difference("name", "Paid", "none"),
        goal_view.Difference("min_amount", "50", "60"),
    ]
    assert goal_view.state_at(entries, 4) == two
    assert goal_view.state_at(entries, 9) is None


# --- plans ---


def result(*per_goal: dict[str, Any]) -> dict[str, Any]:
    numbers = {"would_achieve": 3, "more": 2, "only_by_this": 1, "matched_events": 5, "first_at": None}
    return {"per_goal": [numbers | {"median_hours": None, "near_misses": []} | one for one in per_goal]}


def test_a_plan_shows_what_changes_and_then_the_other_goals() -> None:
    other = UUID(int=8)
    form = {"goal_type": "form_submitted", "criteria": {"form_id": "f1"}, "name": None}
    change = {"goal_id": str(GOAL_ID), "changes": {"criteria": {"min_amount": "70"}, "name": "More"}}
    request = {"goals": [form, change]}
    present = {other: stored(other, name="Other"), GOAL_ID: stored()}
    near = {"pointer": "/min_amount", "count": 2, "example": {"actual": "49", "contact_ids": ["c1"]}}
    rows = goal_view.plan_rows(
        request,
        result(
            {"goal_id": str(other)},
            {"goal_id": str(GOAL_ID), "near_misses": [near], "median_hours": 26.0},
            {"index": 0},
        ),
        present,
    )
    assert [(row.goal_id, row.is_changed) for row in rows] == [(GOAL_ID, True), (None, True), (other, False)]
    assert (rows[0].name, rows[0].sentence, rows[0].median) == ("More", "A contact pays at least 70.", "26 hours")
    assert rows[0].near_misses == [("2 payments missed `min_amount`, nearest 49.", ["c1"])]
    new, changed = goal_view.planned_changes(request, present)
    assert (new.goal_id, new.sentence, new.differences) == (None, "A contact submits the form f1.", ())
    assert [one.name for one in changed.differences] == ["name", "min_amount", "currency"]
    assert goal_view.planned_changes(request, {}) == [new]  # the goal was deleted since


# --- jobs ---


@pytest.mark.parametrize(
    ("state", "seconds", "word", "is_over", "is_unattended"),
    [
        (jobs.QUEUED, 3, "waiting", False, False),
        (jobs.QUEUED, 6, "waiting", False, True),
        (jobs.RUNNING, 60, "running", False, False),
        (jobs.CANCELLED, 60, "cancelled", True, False),
        (jobs.DONE, 60, "done", True, False),
    ],
)
def test_a_job_that_nobody_takes_is_told_from_one_that_runs(
    state: str, seconds: int, word: str, *, is_over: bool, is_unattended: bool
) -> None:
    status = jobs.Status(GOAL_ID, state, jobs.Progress(1, 2), None, None)
    view = job_view.of_job(jobs.Asked(status, None, {}, MAY, "ann", None), MAY + timedelta(seconds=seconds))
    assert (view.state, view.is_over, view.is_unattended) == (word, is_over, is_unattended)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-01", "2026-05-01T00:00:00Z"),
        (" 2026-05-01T10:30 ", "2026-05-01T10:30:00Z"),
        ("2026-05-01T10:30:15", "2026-05-01T10:30:15Z"),
        ("2026-05-01T10:30:15+02:00", "2026-05-01T10:30:15+02:00"),
        ("yesterday", "yesterday"),
    ],
)
def test_moments_of_browsers_are_meant_in_utc(text: str, moment: str) -> None:
    assert backfill_page.moment(text) == moment
